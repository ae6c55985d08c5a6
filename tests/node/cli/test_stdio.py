"""`toolmesh stdio` as agents meet it: a process, its input and output, and what its exit status says."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from mcp import Client
from mcp.client.stdio import StdioServerParameters, stdio_client

from node.data_dir import DataDir
from node.ingress.http import IngressSettings
from tests.node.ingress.conftest import Served, served
from tests.node.ingress.talking import gone, modern

ROOT = Path(__file__).parents[3]
UNITS = {"command": [sys.executable, str(ROOT / "deploy" / "examples" / "servers" / "units.py")]}
WAIT_S = 30
START = [sys.executable, "-m", "node.cli", "stdio"]


class Process:
    """The verb, running."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    async def say(self, message: Any, end: bytes = b"\n") -> None:
        assert self.process.stdin is not None
        self.process.stdin.write((message if isinstance(message, bytes) else json.dumps(message).encode()) + end)
        await self.process.stdin.drain()

    async def line(self) -> bytes:
        """The next line of its output; empty at its end."""
        assert self.process.stdout is not None
        async with asyncio.timeout(WAIT_S):
            return (await self.process.stdout.readline()).removesuffix(b"\n")

    async def hear(self) -> Any:
        return json.loads(await self.line())

    async def initialize(self, version: str = "2025-11-25") -> Any:
        await self.say(Served.call("initialize", {"protocolVersion": version, "capabilities": {}}, "init"))
        return await self.hear()

    def close_input(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()

    async def ended(self) -> tuple[int, str]:
        """(exit status, what stood on stderr)"""
        assert self.process.stderr is not None
        async with asyncio.timeout(WAIT_S):
            said = await self.process.stderr.read()
            return await self.process.wait(), said.decode()


def environment(home: Path, **more: str) -> dict[str, str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("TOOLMESH_")}
    return {**clean, "XDG_DATA_HOME": str(home), "PYTHONPATH": str(ROOT), **more}


@asynccontextmanager
async def running(
    home: Path, *options: str, start: list[str] | None = None, **variables: str
) -> AsyncIterator[Process]:
    process = await asyncio.create_subprocess_exec(
        *(start or START), *options,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        env=environment(home, **variables), cwd=home, limit=2**26,
    )  # fmt: skip
    try:
        yield Process(process)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


def base(edge: Served) -> str:
    return edge.url.removesuffix("/mcp")


@pytest.fixture
async def edge() -> AsyncIterator[Served]:
    async with served() as s:
        yield s


def echoing(edge: Served) -> None:
    async def echo(arguments: dict[str, Any], caller: Any, exchange: Any) -> Any:
        return edge.text(f"{caller.era} {arguments['word']}")

    edge.root.listed = [{"name": "echo", "inputSchema": {"type": "object"}}]
    edge.root.tools["echo"] = echo


def blocking(edge: Served) -> None:
    async def slow(arguments: dict[str, Any], caller: Any, exchange: Any) -> Any:
        edge.root.started.set()
        try:
            await edge.root.release.wait()
        finally:
            edge.root.cancelled.set()
        return edge.text("done")

    edge.root.tools["slow"] = slow


# ---- a running node -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mode", "version"), [("legacy", "2025-11-25"), ("auto", "2026-07-28"), ("2026-07-28", "2026-07-28")]
)
async def test_the_sdk_client_uses_it_like_any_server(edge: Served, tmp_path: Path, mode: str, version: str) -> None:
    echoing(edge)
    server = StdioServerParameters(
        command=START[0], args=[*START[1:], "--url", base(edge)], env=environment(tmp_path), cwd=tmp_path
    )
    with (tmp_path / "stderr").open("w+") as stderr:
        async with Client(stdio_client(server, stderr), mode=mode) as client:
            assert [t.name for t in (await client.list_tools()).tools] == ["echo"]
            result = await client.call_tool("echo", {"word": "größe"})
        stderr.seek(0)
        assert stderr.read() == ""
    assert result.content[0].text == f"{version} größe"  # type: ignore[union-attr]
    await gone(edge)


async def test_messages_pass_unchanged_byte_for_byte(edge: Served, tmp_path: Path) -> None:
    params = b'{"a":[null,1.0,%b],"\xc3\xa9":"\xf0\x9f\x92\xa1"}'
    async with running(tmp_path, "--url", base(edge)) as verb:
        await verb.initialize()
        for request_id, number in ((b"1", b"123456789012345678901234567890"), (b'"1"', b"-0.0")):
            sent = params % number
            await verb.say(b'{"jsonrpc":"2.0","id":%b,"method":"vendor/echo","params":%b}' % (request_id, sent))
            assert await verb.line() == b'{"jsonrpc":"2.0","id":%b,"result":{"params":%b}}' % (request_id, sent)


async def test_ten_megabytes_pass_both_ways(tmp_path: Path) -> None:
    settings = IngressSettings(body_bytes_max=16 * 1024 * 1024)
    async with served(settings) as edge, running(tmp_path, "--url", base(edge)) as verb:
        await verb.initialize()
        await verb.say(edge.call("vendor/echo", {"long": "x" * 10_000_000}))
        assert len((await verb.hear())["result"]["params"]["long"]) == 10_000_000


async def test_whatever_else_the_process_prints_is_kept_from_the_agent(edge: Served, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("import atexit\natexit.register(print, 'stray', flush=True)\n")
    path = f"{tmp_path}{os.pathsep}{ROOT}"
    async with running(tmp_path, "--url", base(edge), PYTHONPATH=path) as verb:
        await verb.say(edge.call("ping"))
        await verb.line()
        verb.close_input()
        assert await verb.line() == b""
        assert await verb.ended() == (0, "stray\n")


async def test_lines_may_end_in_crlf_be_blank_or_lack_their_end(edge: Served, tmp_path: Path) -> None:
    async with running(tmp_path, "--url", base(edge)) as verb:
        await verb.say(edge.call("ping", None, 1), b"\r\n")
        await verb.say(b"", b"\r\n\n  \n")
        await verb.say(edge.call("ping", None, 2), b"")
        verb.close_input()
        assert [(await verb.hear())["id"] for _ in range(2)] == [1, 2]
        assert await verb.ended() == (0, "")


async def test_lines_that_are_no_messages_get_an_error_and_the_rest_is_served(tmp_path: Path) -> None:
    async with served(IngressSettings(body_bytes_max=2_000)) as edge, running(tmp_path, "--url", base(edge)) as verb:
        for line, code, request_id in (
            (b"nonsense", -32700, None),
            (b"\xff\xfe", -32700, None),
            (b'{"jsonrpc":"2.0","id":1,"method":"ping"} {}', -32700, None),
            (b'{"jsonrpc":"2.0","id":"long","method":"ping","params":{"a":"%b"}}' % (b"x" * 2_000), -32600, "long"),
        ):
            await verb.say(line)
            answer = await verb.hear()
            assert (answer["error"]["code"], answer["id"]) == (code, request_id)
        await verb.say(edge.call("ping"))
        assert (await verb.hear())["result"] == {}


@pytest.mark.parametrize(("option", "name"), [((), None), (("--server", "time"), "time")])
async def test_one_server_or_the_three_tools_are_served(
    edge: Served, tmp_path: Path, option: tuple[str, ...], name: str | None
) -> None:
    async with running(tmp_path, "--url", base(edge), *option) as verb:
        await verb.say(modern("tools/list"))
        await verb.hear()
    assert len(edge.endpoints.endpoint(name).seen) == 1


async def test_the_key_is_shown_and_a_wrong_one_ends_it(edge: Served, tmp_path: Path) -> None:
    (tmp_path / "key").write_text("ada\n")
    async with running(tmp_path, "--url", base(edge), "--key-file", "key") as verb:
        await verb.say(modern("tools/list"))
        await verb.hear()
    assert edge.root.seen[0][2].principal.subject == "ada"
    async with running(tmp_path, TOOLMESH_URL=base(edge), TOOLMESH_KEY="wrong") as verb:
        status, said = await verb.ended()
    assert (status, said) == (
        1, f"toolmesh: {base(edge)} does not accept this key; give one with --key-file or TOOLMESH_KEY\n"
    )  # fmt: skip


# ---- the end ------------------------------------------------------------------------------------


async def test_a_lost_node_fails_every_open_request_and_ends_it_with_1(tmp_path: Path) -> None:
    async with served() as edge, running(tmp_path, "--url", base(edge)) as verb:
        blocking(edge)
        await verb.initialize()
        for request_id in (1, "1"):
            await verb.say(edge.tool_call("slow", request_id))
        await verb.say(edge.call("ping", None, "answered"))
        assert (await verb.hear())["id"] == "answered"
        await edge.ingress.close()
        lost = [await verb.hear() for _ in range(2)]
        assert [(e["id"], e["error"]["code"], e["error"]["data"]["kind"]) for e in lost] == [
            (1, -32056, "outcome_unknown"), ("1", -32056, "outcome_unknown")
        ]  # fmt: skip
        assert await verb.line() == b""
        assert await verb.ended() == (1, "toolmesh: the connection to the node was lost\n")


async def test_the_end_of_its_input_ends_it_once_what_was_asked_is_answered(edge: Served, tmp_path: Path) -> None:
    blocking(edge)
    async with running(tmp_path, "--url", base(edge)) as verb:
        await verb.initialize()
        await verb.say(edge.tool_call("slow"))
        await edge.wait(edge.root.started)
        verb.close_input()
        edge.root.release.set()
        assert (await verb.hear())["result"]["content"][0]["text"] == "done"
        assert await verb.ended() == (0, "")
    await gone(edge)


async def test_a_call_that_does_not_end_keeps_it_only_for_a_moment(edge: Served, tmp_path: Path) -> None:
    blocking(edge)
    async with running(tmp_path, "--url", base(edge)) as verb:
        await verb.initialize()
        await verb.say(edge.tool_call("slow"))
        await edge.wait(edge.root.started)
        verb.close_input()
        assert await verb.ended() == (0, "")
    await edge.wait(edge.root.cancelled)
    await gone(edge)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
async def test_a_signal_ends_it_and_leaves_nothing_at_the_node(
    edge: Served, tmp_path: Path, number: signal.Signals
) -> None:
    blocking(edge)
    async with running(tmp_path, "--url", base(edge)) as verb:
        await verb.initialize()
        await verb.say(edge.tool_call("slow"))
        await edge.wait(edge.root.started)
        verb.process.send_signal(number)
        assert (await verb.ended())[0] == (-9 if number is signal.SIGKILL else 0)
    await edge.wait(edge.root.cancelled)
    await gone(edge)


async def test_an_agent_that_reads_no_more_ends_it(edge: Served, tmp_path: Path) -> None:
    reading, writing = os.pipe()
    process = await asyncio.create_subprocess_exec(
        *START, "--url", base(edge),
        stdin=asyncio.subprocess.PIPE, stdout=writing, env=environment(tmp_path), cwd=tmp_path,
    )  # fmt: skip
    os.close(writing)
    os.close(reading)
    await Process(process).say(edge.call("ping"))
    async with asyncio.timeout(WAIT_S):
        assert await process.wait() == 0
    await gone(edge)


async def test_a_file_can_be_its_input(edge: Served, tmp_path: Path) -> None:
    (tmp_path / "lines").write_text(json.dumps(edge.call("ping", None, "from a file")))
    with (tmp_path / "lines").open() as lines:
        process = await asyncio.create_subprocess_exec(
            *START, "--url", base(edge),
            stdin=lines, stdout=asyncio.subprocess.PIPE, env=environment(tmp_path), cwd=tmp_path,
        )  # fmt: skip
        async with asyncio.timeout(WAIT_S):
            out, _ = await process.communicate()
    assert (process.returncode, json.loads(out)["id"]) == (0, "from a file")


# ---- no node ------------------------------------------------------------------------------------


async def test_a_node_that_is_named_and_does_not_answer_is_not_replaced(tmp_path: Path, unused_tcp_port: int) -> None:
    url = f"http://127.0.0.1:{unused_tcp_port}"
    async with running(tmp_path, "--url", url) as verb:
        assert await verb.ended() == (1, f"toolmesh: no node answers at {url} (connection refused)\n")


async def test_server_and_all_exclude_each_other(tmp_path: Path) -> None:
    async with running(tmp_path, "--server", "time", "--all") as verb:
        status, said = await verb.ended()
    assert (status, said) == (2, "toolmesh: --server and --all exclude each other; give one of them\n")


def configured(home: Path, port: int) -> Path:
    file = home / "node.yaml"
    settings = {
        "http": {"listen": f"127.0.0.1:{port}"},
        "search": {"embedder": "none"},
        "servers": {"units": UNITS},
        "log": {"level": "warning"},
    }
    # JSON is YAML.
    file.write_text(json.dumps(settings))
    return file


@pytest.mark.timeout(180)
async def test_a_configured_node_that_does_not_run_is_started_and_serves_others_too(
    tmp_path: Path, unused_tcp_port: int
) -> None:
    file = configured(tmp_path, unused_tcp_port)
    async with running(tmp_path, "-c", str(file), "--server", "units") as first:
        assert (await first.initialize())["result"]["serverInfo"]["name"]
        async with running(tmp_path, "-c", str(file), "--all") as second:
            await second.say(modern("tools/list"))
            assert "units__convert_unit" in [t["name"] for t in (await second.hear())["result"]["tools"]]
            second.close_input()
            assert await second.ended() == (0, "")
        first.close_input()
        status, said = await first.ended()
    assert status == 0
    assert said.startswith(f"toolmesh: no node answers at http://127.0.0.1:{unused_tcp_port} (connection refused);")
    # Nothing of the node is left: its directory is free.
    DataDir(tmp_path / "data").claim()


async def test_a_directory_that_another_process_holds_is_not_taken(tmp_path: Path, unused_tcp_port: int) -> None:
    held = DataDir(tmp_path / "data")
    held.claim()
    async with running(tmp_path, "-c", str(configured(tmp_path, unused_tcp_port))) as verb:
        status, said = await verb.ended()
    held.release()
    assert status == 1
    assert "data is in use by another node; stop that one or give this one its own" in said.splitlines()[-1]


@pytest.mark.skipif(os.geteuid() != 0, reason="makes a network namespace, where the default port is surely free")
async def test_without_options_it_is_a_node_with_the_defaults_in_a_directory_of_the_users_own(tmp_path: Path) -> None:
    alone = ["unshare", "--net", "sh", "-c", 'ip link set lo up && exec "$@"', "sh", *START]
    async with running(tmp_path, start=alone, TOOLMESH_SEARCH__EMBEDDER="none") as verb:
        await verb.say(modern("tools/list"))
        assert "use_tool" in [t["name"] for t in (await verb.hear())["result"]["tools"]]
        assert (tmp_path / "toolmesh" / "lock").exists()
        verb.close_input()
        status, said = await verb.ended()
    assert status == 0
    assert said.startswith("toolmesh: no node answers at http://127.0.0.1:7400 (connection refused); starting one")


async def test_a_node_that_chooses_its_port_is_always_a_new_one(tmp_path: Path) -> None:
    async with running(tmp_path, "-c", str(configured(tmp_path, 0))) as verb:
        await verb.say(modern("tools/list"))
        tools = [t["name"] for t in (await verb.hear())["result"]["tools"]]
        assert tools == ["search_mcp_server", "add_mcp_server", "use_tool"]
        verb.process.send_signal(signal.SIGTERM)
        assert (await verb.ended())[0] == 0
