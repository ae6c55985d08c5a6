"""Bad input against the real command: a clear answer, no traceback, no hang, and what is good keeps serving."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import aiohttp
import psutil
import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

from federation.ca import init_ca, issue
from proto import jsons
from proto.names import NodeId

TOOLMESH = Path(sys.executable).with_name("toolmesh")
SAMPLES = Path(__file__).parents[2] / "deploy" / "examples" / "servers"
MESH = "mesh.test"
WAIT_S = 60
"""Far beyond what anything here takes: only a hang reaches it."""
BODY_BYTES_MAX = 64 * 1024
ENVIRONMENT = {k: v for k, v in os.environ.items() if not k.startswith("TOOLMESH_")}


def begun(*args: str | Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [TOOLMESH, *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT
    )


def ended(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    """Exit status, stdout, stderr; never a traceback."""
    try:
        out, err = process.communicate(timeout=WAIT_S)
    finally:
        process.kill()
    assert "Traceback" not in out + err
    assert "internal error" not in err
    return process.returncode, out, err


def refusals(file: Path) -> list[tuple[int, str]]:
    """(exit status, the one line that says why) of `up`, then of `check`, for what must not start."""
    found = []
    for process in [begun(verb, "-c", file) for verb in ("up", "check")]:
        status, out, err = ended(process)
        (line,) = (line for line in (out + err).splitlines() if line.startswith(("toolmesh: ", "problem: ")))
        found.append((status, line))
    return found


class Node:
    """`toolmesh up` as a process whose log is read as it is written."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.lines: list[str] = []
        self._grown = threading.Condition()
        self._process = subprocess.Popen(
            [TOOLMESH, "up", "-c", file],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            env=ENVIRONMENT,
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read)
        self._reader.start()
        self.url = ""

    def _read(self) -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            with self._grown:
                self.lines.append(line.rstrip("\n"))
                self._grown.notify_all()

    def until(self, pattern: str, since: int = 0) -> re.Match[str]:
        """The first line of the log that matches, waited for."""

        def found() -> re.Match[str] | None:
            return next((m for line in self.lines[since:] if (m := re.search(pattern, line))), None)

        with self._grown:
            match = self._grown.wait_for(found, WAIT_S)
        assert match is not None, "\n".join(self.lines)
        return match

    def served(self) -> Node:
        self.url = self.until(r"serves agents at (\S+),")[1]
        return self

    def children(self) -> list[psutil.Process]:
        return psutil.Process(self._process.pid).children(recursive=True)

    def signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def status(self) -> int:
        """Its exit status, once it has ended."""
        status = self._process.wait(WAIT_S)
        self._reader.join(WAIT_S)
        return status

    def kill(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait(WAIT_S)
        self._reader.join(WAIT_S)
        assert self._process.stderr is not None
        self._process.stderr.close()


@contextmanager
def up(*files: Path) -> Iterator[list[Node]]:
    """Nodes that start at the same time; served once entered."""
    nodes = [Node(file) for file in files]
    try:
        yield [node.served() for node in nodes]
    finally:
        for node in nodes:
            node.kill()
    assert not [line for node in nodes for line in node.lines if "Traceback" in line]


def write(file: Path, settings: dict[str, Any]) -> Path:
    settings = {"http": {"listen": "127.0.0.1:0"}, "search": {"embedder": "none"}, **settings}
    file.write_text(yaml.safe_dump(settings))
    return file


def python(code: str) -> list[str]:
    return ["{python}", "-c", code]


def status_of(node: Node) -> dict[str, Any]:
    connection = HTTPConnection(node.url.removeprefix("http://"), timeout=WAIT_S)
    try:
        connection.request("GET", "/api/v1/status")
        return jsons.loads_object(connection.getresponse().read(), "status")
    finally:
        connection.close()


# ---- configuration --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"htp: {listen: '127.0.0.1:0'}\n", "bad.yaml:1: htp: unknown key; did you mean 'http'?"),
        (b"- node\n", "bad.yaml:1: the top level must be a mapping of sections"),
        (b"node: [unclosed\n", "bad.yaml:2: not valid YAML: "),
        (b"node: {name: \xff}\n", "bad.yaml: not valid YAML: "),
        (b"http: {listen: '0.0.0.0:7400'}\n", "bad.yaml:1: http.listen: '0.0.0.0:7400' is reachable from other"),
        (None, "bad.yaml: cannot be read: No such file or directory; name a configuration with -c FILE"),
    ],
)
def test_a_bad_configuration_is_told_by_its_line(tmp_path: Path, content: bytes | None, words: str) -> None:
    file = tmp_path / "bad.yaml"
    if content is not None:
        file.write_bytes(content)
    status, out, err = ended(begun("up", "-c", file))
    assert (status, out) == (2, "")
    (line,) = err.splitlines()
    assert words in line


# ---- what the machine refuses ---------------------------------------------------------------------


def test_a_data_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    file = write(tmp_path / "node.yaml", {"node": {"data_dir": "file/data"}})
    (status, line), checked = refusals(file)
    assert status == 1
    assert f"node.data_dir {tmp_path}/file/data cannot be used: Not a directory; name a directory" in line
    status, line = checked
    assert status == 1
    assert f"problem: node.data_dir: {tmp_path}/file is not a directory" in line


@pytest.fixture
def taken() -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as held:
        yield f"127.0.0.1:{held.getsockname()[1]}"


def test_a_taken_port_for_agents_is_named(tmp_path: Path, taken: str) -> None:
    status, _, err = ended(begun("up", "-c", write(tmp_path / "node.yaml", {"http": {"listen": taken}})))
    assert status == 1
    assert err.splitlines()[-1] == (
        f"toolmesh: http.listen {taken} cannot be used: Address already in use; "
        "stop what uses it or choose another port"
    )


# ---- certificates ---------------------------------------------------------------------------------


def certified(directory: Path, name: str, ca: Path, **federation: Any) -> dict[str, Any]:
    region = name.partition("-")[0]
    files = issue(ca, NodeId.of(MESH, region, name), directory / name, hosts=["127.0.0.1"])
    return {
        "node": {"name": name, "region": region, "mesh": MESH, "data_dir": f"data-{name}"},
        "federation": {
            "listen": "127.0.0.1:0",
            "tls": {"ca": str(files.ca), "cert": str(files.cert), "key": str(files.key)},
            "mdns": {"enabled": False},
            **federation,
        },
    }


@pytest.fixture(scope="module")
def ca(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("ca")
    init_ca(directory, MESH)
    return directory


def test_a_taken_port_for_peers_is_named(tmp_path: Path, ca: Path, taken: str) -> None:
    status, _, err = ended(
        begun("up", "-c", write(tmp_path / "node.yaml", certified(tmp_path, "eu-1", ca, listen=taken)))
    )
    assert status == 1
    line = err.splitlines()[-1]
    assert f"federation.listen {taken} cannot be listened on" in line
    assert "Stop what uses it or choose another" in line


def test_a_certificate_of_another_node_is_refused(tmp_path: Path, ca: Path) -> None:
    settings = certified(tmp_path, "eu-1", ca)
    settings["node"]["name"] = "eu-2"
    file = write(tmp_path / "node.yaml", settings)
    for status, line in refusals(file):
        assert status == 1
        assert f"spiffe://{MESH}/region/eu/node/eu-1, but the node section says" in line
        assert f"spiffe://{MESH}/region/eu/node/eu-2" in line


def test_an_expired_certificate_is_refused_with_its_date(tmp_path: Path, ca: Path) -> None:
    settings = certified(tmp_path, "eu-1", ca)
    cert_file = Path(settings["federation"]["tls"]["cert"])
    over = expire(cert_file, ca / "ca-key.pem")
    file = write(tmp_path / "node.yaml", settings)
    for status, line in refusals(file):
        assert status == 1
        assert f"{cert_file} expired at {over:%Y-%m-%d %H:%M} UTC: issue a new one" in line


def expire(cert_file: Path, ca_key: Path) -> datetime:
    """The same certificate, signed again by its CA, but over since yesterday."""
    old = x509.load_pem_x509_certificate(cert_file.read_bytes())
    authority = load_pem_private_key(ca_key.read_bytes(), None)
    ended = datetime.now(UTC).replace(microsecond=0) - timedelta(days=1)
    builder = (
        x509.CertificateBuilder()
        .subject_name(old.subject)
        .issuer_name(old.issuer)
        .public_key(old.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(ended - timedelta(days=1))
        .not_valid_after(ended)
    )
    for extension in old.extensions:
        builder = builder.add_extension(extension.value, extension.critical)
    cert = builder.sign(authority, old.signature_hash_algorithm)  # type: ignore[arg-type]
    cert_file.write_bytes(cert.public_bytes(Encoding.PEM))
    return ended


def test_a_peer_of_a_foreign_ca_is_told_and_both_serve_on(tmp_path: Path, ca: Path) -> None:
    init_ca(tmp_path / "foreign", MESH)
    foreign = certified(tmp_path, "us-1", tmp_path / "foreign")
    with up(write(tmp_path / "us.yaml", foreign)) as (us,):
        address = "127.0.0.1:" + us.until(r"federates on port (\d+)")[1]
        with up(write(tmp_path / "eu.yaml", {**certified(tmp_path, "eu-1", ca, static=[address])})) as (eu,):
            eu.until(f"{address} .*does not vouch for")
            (peer,) = status_of(eu)["peers"]
            assert (peer["name"], peer["address"], peer["state"]) == ("", address, "unreachable")
            assert "this mesh's CA does not vouch for" in peer["last_error"]
            _, shown, _ = ended(begun("status", "--url", eu.url))
            assert re.search(rf"^{address} .* unreachable .* vouch for", shown, re.MULTILINE)
            assert status_of(us)["peers"] == []
            assert status_of(us)["node"]["loaded"]


# ---- a node with bad servers ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    directory = tmp_path_factory.mktemp("node")
    servers = {
        "text": {"command": ["{python}", str(SAMPLES / "text.py")], "stateless": True},
        "missing": {"command": ["no-such-command-anywhere"]},
        "dies": {"command": python("import sys; sys.stderr.write('no database\\n'); sys.exit(3)")},
        "garbage": {"command": python("print('hello', flush=True); input(); input()"), "start_timeout_s": 1},
        "silent": {"command": python("import time; time.sleep(600)"), "start_timeout_s": 1},
    }
    http = {"listen": "127.0.0.1:0", "body_bytes_max": BODY_BYTES_MAX}
    with up(write(directory / "node.yaml", {"servers": servers, "http": http})) as (running,):
        running.until(r"own servers: ")
        yield running


def test_bad_servers_are_told_apart_and_keep_nobody_from_serving(node: Node) -> None:
    servers = {s["name"]: s for s in status_of(node)["servers"]}
    assert (servers["text"]["state"], servers["text"]["tools"]) == ("up", 7)
    for name, cause in (
        ("missing", "command 'no-such-command-anywhere' was not found on PATH"),
        ("dies", "exited with status 3 during start; last stderr line: no database"),
        ("garbage", "did not finish its start within 1 s"),
        ("silent", "did not finish its start within 1 s"),
    ):
        assert servers[name]["state"] in ("down", "starting")
        assert cause in servers[name]["cause"] or servers[name]["state"] == "starting"
        node.until(f"server {name}: down: {re.escape(cause)}")
    node.until(r"server garbage: its output holds a line that is not JSON .*b'hello'")
    good = begun("call", "text", "slugify", '{"text": "One Step"}', "--url", node.url)
    bad = begun("call", "dies", "x", "--url", node.url)
    status, out, err = ended(good)
    assert (status, err) == (0, "")
    assert "one-step" in out
    status, out, err = ended(bad)
    assert (status, out) == (1, "")
    assert "dies" in err


def test_a_second_node_on_the_same_data_directory_is_refused(node: Node, tmp_path: Path) -> None:
    data_dir = node.file.parent / "data"
    second = write(tmp_path / "node.yaml", {"node": {"name": "second", "data_dir": str(data_dir)}})
    status, _, err = ended(begun("up", "-c", second))
    assert status == 1
    assert f"node.data_dir {data_dir} is in use by another node" in err.splitlines()[-1]
    assert status_of(node)["node"]["name"] == "local"


def test_a_signal_ends_a_node_and_its_servers(tmp_path: Path) -> None:
    # One ends with its input, the other has to be told.
    servers = {
        "polite": {"command": ["sh", "-c", "while read -r _; do :; done"]},
        "stubborn": {"command": ["sleep", "600"]},
    }

    def settings(name: str) -> Path:
        return write(tmp_path / f"{name}.yaml", {"node": {"name": name, "data_dir": name}, "servers": servers})

    with up(settings("a"), settings("b")) as nodes:
        for running in nodes:
            for server in servers:
                running.until(rf"server {server}: started command")
        children = [child for running in nodes for child in running.children()]
        assert len(children) >= 4
        for running, number in zip(nodes, (signal.SIGTERM, signal.SIGINT), strict=True):
            running.signal(number)
        for running in nodes:
            assert running.status() == 0
            assert running.lines[-1].endswith(" has stopped")
        _gone, alive = psutil.wait_procs(children, timeout=WAIT_S)
        assert alive == []


# ---- bad requests ---------------------------------------------------------------------------------

LEGACY = {"Accept": "application/json, text/event-stream", "Content-Type": "application/json"}
MODERN = {**LEGACY, "MCP-Protocol-Version": "2026-07-28"}
META = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientInfo": {"name": "test", "version": "1"},
    "io.modelcontextprotocol/clientCapabilities": {},
}
Answered = tuple[int, dict[str, Any]]


async def post(node: Node, body: bytes | dict[str, Any], headers: dict[str, str], path: str = "/mcp") -> Answered:
    raw = body if isinstance(body, bytes) else jsons.dumps(body)
    timeout = aiohttp.ClientTimeout(total=WAIT_S)
    async with (
        aiohttp.ClientSession(timeout=timeout) as session,
        session.post(node.url + path, data=raw, headers=headers) as response,
    ):
        assert response.content_type == "application/json"
        return response.status, jsons.loads_object(await response.read(), "answer")


def request(method: str, **params: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}


async def in_session(node: Node) -> dict[str, str]:
    """Headers of an initialised session of 2025-11-25."""
    client = {"name": "test", "version": "1"}
    opening = request("initialize", protocolVersion="2025-11-25", capabilities={}, clientInfo=client)
    async with aiohttp.ClientSession() as session:
        async with session.post(f"{node.url}/mcp", json=opening, headers=LEGACY) as response:
            assert response.status == 200
            headers = {
                **LEGACY,
                "Mcp-Session-Id": response.headers["Mcp-Session-Id"],
                "MCP-Protocol-Version": "2025-11-25",
            }
        done = {"jsonrpc": "2.0", "method": "notifications/initialized"}
        async with session.post(f"{node.url}/mcp", json=done, headers=headers) as response:
            assert response.status == 202
    return headers


def deep(levels: int) -> bytes:
    """A request whose nesting is exactly `levels`: the request and its params are two of them."""
    return b'{"jsonrpc":"2.0","id":1,"method":"ping","params":{"a":%s}}' % (b"[" * (levels - 2) + b"]" * (levels - 2))


@pytest.mark.parametrize("headers", [LEGACY, MODERN], ids=["legacy", "modern"])
@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b'{"jsonrpc": "2.0", "id": 1', "not valid JSON"),
        (b"", "not valid JSON"),
        (b"\xff\xfe", "not valid"),
        (b'{"jsonrpc":"2.0","id":1,"method":"ping","params":{"a":NaN}}', "not valid JSON"),
        (deep(201), "200"),
    ],
    ids=["cut short", "empty", "not UTF-8", "NaN", "201 deep"],
)
async def test_a_body_that_cannot_be_carried_is_a_parse_error(
    node: Node, headers: dict[str, str], body: bytes, words: str
) -> None:
    status, answer = await post(node, body, headers)
    assert (status, answer["error"]["code"], answer["id"]) == (400, -32700, None)
    assert words in answer["error"]["message"]


@pytest.mark.parametrize("body", [b"7", b'"text"', b'{"id": 1}', b'{"jsonrpc": "1.0", "id": 1, "method": "ping"}'])
async def test_json_that_is_no_message_is_an_invalid_request(node: Node, body: bytes) -> None:
    for headers in (LEGACY, MODERN):
        status, answer = await post(node, body, headers)
        assert (status, answer["error"]["code"]) == (400, -32600)


async def test_an_oversized_body_is_refused_whether_announced_or_not(node: Node) -> None:
    body = jsons.dumps(request("ping", padding="x" * BODY_BYTES_MAX))
    status, answer = await post(node, body, LEGACY)
    assert (status, answer["error"]["code"]) == (413, -32600)
    assert f"longer than {BODY_BYTES_MAX} bytes" in answer["error"]["message"]

    async def pieces() -> Any:
        yield body[: len(body) // 2]
        yield body[len(body) // 2 :]

    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{node.url}/mcp", data=pieces(), headers=LEGACY) as response,
    ):
        assert response.status == 413


async def test_an_unknown_method_is_not_found_in_either_era(node: Node) -> None:
    status, answer = await post(node, request("tools/destroy"), await in_session(node))
    assert (status, answer["error"]["code"]) == (200, -32601)
    headers = {**MODERN, "Mcp-Method": "tools/destroy"}
    status, answer = await post(node, request("tools/destroy", _meta=META), headers)
    assert (status, answer["error"]["code"]) == (404, -32601)
    assert "tools/destroy" in answer["error"]["message"]


@pytest.mark.parametrize(
    ("tool", "arguments", "field"),
    [
        ("search_mcp_server", {"task_description": 7}, "task_description"),
        ("search_mcp_server", {}, "task_description"),
        ("search_mcp_server", {"task_description": "x", "key_words": {"a": 1}}, "key_words"),
        ("add_mcp_server", {"mcp_server_name": ["text"]}, "mcp_server_name"),
        ("use_tool", {"mcp_server_name": None, "mcp_tool_name": "slugify"}, "mcp_server_name"),
        ("use_tool", {"mcp_server_name": "text", "mcp_tool_name": 1}, "mcp_tool_name"),
        ("use_tool", {"mcp_server_name": "text", "mcp_tool_name": "slugify", "params": [1]}, "params"),
        ("use_tool", {"mcp_server_name": "text", "mcp_tool_name": "slugify", "params": "{"}, "params"),
        ("use_tool", {"mcp_server_name": "text", "mcp_tool_name": "slugify", "params": "[" * 300}, "params"),
        ("use_tool", {"mcp_server_name": "text", "mcp_tool_name": "slugify", "arguments": {}}, "arguments"),
    ],
)
async def test_wrong_arguments_are_a_result_that_names_them(
    node: Node, tool: str, arguments: dict[str, Any], field: str
) -> None:
    headers = {**MODERN, "Mcp-Method": "tools/call", "Mcp-Name": tool}
    status, answer = await post(node, request("tools/call", name=tool, arguments=arguments, _meta=META), headers)
    assert status == 200
    assert answer["result"]["isError"] is True
    error = answer["result"]["structuredContent"]["error"]
    assert error["kind"] == "invalid"
    assert field in error["message"]


async def test_after_all_of_it_the_node_answers(node: Node) -> None:
    status, answer = await post(node, request("ping"), await in_session(node))
    assert (status, answer["result"]) == (200, {})
