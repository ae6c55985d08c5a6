"""Whole nodes and their audit: what agents, strangers and operators did is on record, and nothing that is secret."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from mcp.client import Client

from federation.ca import init_ca
from node.app import App
from node.audit.recorder import Recorder
from node.audit.signing import AnyKey, TrustedKeys
from node.audit.sources import check
from node.ports import Ended
from proto import jsons
from proto.calls import Call
from tests.node.audit.logs import records_of
from tests.node.audit.logs import until as holds
from tests.node.test_app import running, until, up
from tests.node.working import settings_of

pytestmark = pytest.mark.asyncio(loop_scope="module")

ROOT = Path(__file__).parents[3]
ECHO = {"command": [sys.executable, str(ROOT / "bench" / "upstream.py"), "2026-07-28", "2"]}
ANA, BEN, OPS, LANDLORD = (f"{name}-key-0123456789-MARKER" for name in ("ana", "ben", "ops", "landlord"))
MARKERS = ("MARKER", "wrong-key", "env-secret", "dear-diary")


def keys(tmp_path: Path) -> dict[str, Any]:
    entries = []
    for name, key, more in (
        ("ana", ANA, {"tenant": "acme"}),
        ("ben", BEN, {"servers": ["nothing"]}),
        ("ops", OPS, {"scopes": ["operator"]}),
        ("landlord", LANDLORD, {"scopes": ["operator"], "tenant": "acme"}),
    ):
        file = tmp_path / f"{name}.key"
        file.write_text(key)
        entries.append({"name": name, "file": str(file), **more})
    return {"keys": entries}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def node(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[App]:
    tmp = tmp_path_factory.mktemp("audited")
    settings = {
        "node": {"name": "eu-1", "region": "eu", "data_dir": str(tmp / "data")},
        "servers": {"echo": {**ECHO, "env": {"SECRET": "env-secret"}}},
        "auth": keys(tmp),
        "audit": {"jsonl": {"directory": str(tmp / "lines")}},
    }
    async with running(settings, tmp) as app:
        await until(app, up(app, "eu-1", "echo"))
        yield app


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"} if key else {}


async def ask(
    app: App, key: str, text: str = "dear-diary", path: str = "/mcp/echo", tool: str = "echo"
) -> tuple[int, dict[str, Any]]:
    """One call by MCP 2026-07-28."""
    meta = {
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientInfo": {"name": "test", "version": "1"},
        "io.modelcontextprotocol/clientCapabilities": {},
    }
    params = {"name": tool, "arguments": {"text": text}, "_meta": meta}
    headers = {
        **bearer(key), "MCP-Protocol-Version": "2026-07-28", "Mcp-Method": "tools/call",
        "Mcp-Name": tool, "Accept": "application/json, text/event-stream",
    }  # fmt: skip
    message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
    async with (
        aiohttp.ClientSession() as http,
        http.post(app.url + path, json=message, headers=headers) as response,
    ):
        return response.status, await response.json(content_type=None)


async def audit(app: App, key: str = OPS, **asked: str) -> dict[str, Any]:
    async with (
        aiohttp.ClientSession() as http,
        http.get(f"{app.url}/api/v1/audit", params=asked, headers=bearer(key)) as response,
    ):
        assert response.status == 200, await response.text()
        return dict(await response.json())


async def found(app: App, **asked: str) -> dict[str, Any]:
    """The first record that fits, once it is written."""
    records = (await audit(app, wait_s="10", order="oldest", **asked))["records"]
    assert records, asked
    return dict(records[0])


async def test_a_call_its_denial_a_wrong_key_and_an_operator_s_act_are_on_record(node: App) -> None:
    status, answer = await ask(node, ANA)
    assert (status, "result" in answer) == (200, True)
    ran = await found(node, who="ana")
    assert (ran["kind"], ran["outcome"], ran["side"], ran["ran_at"]) == ("call", "ok", "entry", "eu-1")
    assert ran["who"] == {
        "subject": "ana", "issuer": "toolmesh.local", "tenant": "acme", "kind": "key", "credential": "key/ana"
    }  # fmt: skip
    assert ran["what"] == {"server": "echo", "tool": "echo", "owner": "eu-1", "method": "tools/call"}
    assert set(ran["digests"]) == {"params", "tool", "answer"}

    status, answer = await ask(node, BEN)
    assert "result" not in answer, "ben may not see it"
    assert "may not" not in str(answer), "and is not told so"
    denied = await found(node, who="ben")
    assert denied["outcome"] in ("forbidden", "denied")
    assert denied["rule"], "the record keeps the truth"
    assert denied["reason"]

    status, _ = await ask(node, "wrong-key-0123456789")
    assert status == 401
    refused = await found(node, kind="signin")
    assert (refused["outcome"], refused["via"]) == ("refused", {"address": "127.0.0.1", "scheme": "bearer"})

    async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {OPS}"}) as http:
        for on in (True, False):
            assert (await http.post(f"{node.url}/api/v1/drain", json={"on": on})).status == 200
    async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {ANA}"}) as http:
        assert (await http.post(f"{node.url}/api/v1/drain", json={"on": True})).status == 403
    acts = [await found(node, kind="admin", who="ops", after=str(0)), await found(node, kind="admin", who="ana")]
    assert [(a["action"], a["outcome"]) for a in acts] == [("audit query", "ok"), ("drain", "scope_required")]


async def test_a_name_that_does_not_exist_is_told_like_one_that_is_hidden_and_is_on_record_as_what_it_is(
    node: App,
) -> None:
    said = [await ask(node, BEN, path=f"/mcp/{name}") for name in ("echo", "nowhere")]
    hidden, missing = ({**body, "error": {**body["error"], "message": ""}} for _, body in said)
    assert hidden == missing
    assert [status for status, _ in said] == [said[0][0]] * 2
    _, unknown = await ask(node, ANA, tool="no-such-tool")
    assert "error" in unknown or unknown["result"]["isError"]
    for asked, tool in (
        ({"who": "ben", "server": "nowhere"}, "echo"),
        ({"who": "ana", "tool": "no-such-tool"}, "no-such-tool"),
    ):
        record = await found(node, **asked)
        assert (record["kind"], record["outcome"], record["rule"]) == ("decision", "denied", "unknown")
        assert record["what"].get("tool", "") == tool


async def test_an_operator_of_a_tenant_finds_what_its_tenant_did_and_nothing_else(node: App) -> None:
    await ask(node, ANA)
    await ask(node, BEN)
    page = await audit(node, LANDLORD, limit="1000")
    assert {r["who"]["tenant"] for r in page["records"]} == {"acme"}
    assert {r["who"]["subject"] for r in page["records"]} <= {"ana", "landlord"}
    asked_for_others = await audit(node, LANDLORD, tenant="other", who="ops")
    assert asked_for_others["records"] == []
    async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {LANDLORD}"}) as http:
        assert (await http.get(f"{node.url}/api/v1/audit/status")).status == 404
        # Nor how much all tenants have done.
        assert (await (await http.get(f"{node.url}/api/v1/audit")).json())["head"] == ""


async def test_who_may_not_administer_reads_nothing_and_that_it_tried_is_on_record(node: App) -> None:
    async with aiohttp.ClientSession(headers=bearer(BEN)) as http:
        for path in ("/api/v1/audit", "/api/v1/audit?mesh=1", "/api/v1/audit/status"):
            response = await http.get(node.url + path)
            assert response.status == 403
            assert "insufficient_scope" in response.headers["WWW-Authenticate"]
    async with aiohttp.ClientSession() as http:
        assert (await http.get(f"{node.url}/api/v1/audit")).status == 401
    tried = await found(node, kind="admin", who="ben")
    assert (tried["action"], tried["outcome"]) == ("audit query", "scope_required")


@pytest.mark.parametrize(
    "asked",
    ["limit=0", "limit=1001", "kind=nothing", "since=yesterday", "order=up", "wait_s=61", "wait_s=nan", "before=-1",
     "mesh=2", "mesh=1&after=3", "secret=1", f"who={'x' * 600}"],
)  # fmt: skip
async def test_a_question_that_makes_no_sense_is_refused_by_the_name_of_its_parameter(node: App, asked: str) -> None:
    async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {OPS}"}) as http:
        response = await http.get(f"{node.url}/api/v1/audit?{asked}")
        assert response.status == 400
        assert asked.partition("=")[0] in (await response.json())["detail"] or "wait_s" in asked


async def test_pages_give_every_record_once_and_byte_for_byte_as_it_was_hashed(node: App) -> None:
    for n in range(7):
        await ask(node, ANA, f"{n}")
    await found(node, who="ana")
    asked, lines, after = {"order": "oldest", "limit": "3"}, [], ""
    while after != "None":
        page = await audit(node, **asked, **({"after": after} if after else {}))
        lines += [jsons.dumps(record) + b"\n" for record in page["records"]]
        after = str(page["next"])
    exported = Path(node.config.node.data_dir) / "export.jsonl"
    exported.write_bytes(b"".join(lines))
    verdict = check([exported], AnyKey())
    assert verdict.intact, verdict
    assert verdict.records == len(lines)


async def test_a_follower_waits_for_what_comes_and_is_not_told_of_its_own_reading(node: App) -> None:
    await ask(node, ANA, "before")
    recorder = node.audit.recorder
    assert recorder is not None
    await holds(lambda: recorder.counts[1] == 0)
    head = str((await audit(node))["head"]).partition(":")[0]
    following = asyncio.create_task(audit(node, kind="call", order="oldest", after=head, wait_s="20"))
    await asyncio.sleep(0)
    await ask(node, ANA, "now")
    page = await asyncio.wait_for(following, 15)
    assert [r["who"]["subject"] for r in page["records"]] == ["ana"]
    again = await audit(node, kind="call", order="oldest", after=head)
    assert again["records"] == page["records"]
    reads = (await audit(node, kind="admin", who="ops", limit="1000"))["records"]
    assert len([r for r in reads if r["what"].get("object") == "kind=call"]) <= 1, "one act, however often it asks"


async def test_the_store_and_the_lines_are_whole_and_hold_no_secret(node: App) -> None:
    await ask(node, ANA)
    await ask(node, "wrong-key-0123456789")
    await found(node, kind="signin")
    data, lines = Path(node.config.node.data_dir), Path(node.config.node.data_dir).parent / "lines"
    store = check([data], TrustedKeys(frozenset({node.audit.recorder.status()["key_id"]})))  # type: ignore[union-attr]
    assert store.intact, store
    await holds(lambda: check([lines], AnyKey()).last >= store.last)
    assert check([lines], AnyKey()).intact
    for file in (data / "audit.db", data / "audit.db-wal", *lines.iterdir()):
        text = file.read_bytes()
        assert [marker for marker in MARKERS if marker.encode() in text] == [], file


# ---- an open node: every transport ------------------------------------------------------------------------


async def test_nothing_changes_params_or_answers_between_the_end_of_a_call_and_its_digest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: dict[str, tuple[str, str]] = {}
    record = Recorder.call

    def call(self: Recorder, call: Call, ended: Ended) -> None:
        answer = jsons.digest(ended.answer).hex() if ended.answer is not None else ""
        sent[call.call_id] = jsons.digest(call.params).hex(), answer
        record(self, call, ended)

    monkeypatch.setattr(Recorder, "call", call)
    settings = {"node": {"name": "eu-1", "region": "eu", "data_dir": str(tmp_path)}, "servers": {"echo": ECHO}}
    async with running(settings, tmp_path) as app:
        assert app.audit.recorder is not None
        store = app.audit.recorder.store
        await until(app, up(app, "eu-1", "echo"))
        # Nothing is digested until every answer has long been sent.
        scribe = app.audit.recorder._scribe
        assert scribe is not None
        scribe._linger_s = 60.0
        for mode in ("legacy", "auto"):
            async with Client(f"{app.url}/mcp", mode=mode) as agent:
                used = {"mcp_server_name": "echo", "mcp_tool_name": "echo", "params": {"text": mode}}
                assert not (await agent.call_tool("use_tool", used)).is_error
            for path, tool in (("/mcp/echo", "echo"), ("/mcp-all", "echo__echo")):
                async with Client(f"{app.url}{path}", mode=mode) as agent:
                    assert not (await agent.call_tool(tool, {"text": path})).is_error
        for path in ("/sse", "/ws"):
            await by_hand(app, path)
    store.open()
    records = records_of(store, kind="call")
    told = {r["call_id"]: (r["digests"]["params"], r["digests"].get("answer", "")) for r in records}
    assert len(told) == 8
    assert told == sent
    store.close()


async def by_hand(app: App, path: str) -> None:
    """One call over a two-way connection of the era before 2026-07-28."""
    client = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}}
    call = {
        "name": "use_tool",
        "arguments": {"mcp_server_name": "echo", "mcp_tool_name": "echo", "params": {"text": path}},
    }
    messages = [
        {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": client},
        {"jsonrpc": "2.0", "method": "notifications/initialized"},
        {"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": call},
    ]
    async with aiohttp.ClientSession() as http, asyncio.timeout(20):
        if path == "/ws":
            async with http.ws_connect(f"{app.url}/ws", protocols=["mcp"]) as ws:
                for message in messages:
                    await ws.send_json(message)
                    if "id" in message:
                        answer = await ws.receive_json()
                assert not answer["result"].get("isError")
            return
        async with http.get(f"{app.url}/sse", headers={"Accept": "text/event-stream"}) as events:
            lines = events.content
            while not (line := (await lines.readline()).decode()).startswith("data:"):
                pass
            to = app.url + line.removeprefix("data:").strip()
            for message in messages:
                assert (await http.post(to, json=message)).status == 202
                while "id" in message and not (line := (await lines.readline()).decode()).startswith("data:"):
                    pass
            assert '"isError":true' not in line


# ---- a mesh -------------------------------------------------------------------------------------------------


async def test_a_call_across_the_mesh_is_on_record_at_both_nodes_and_one_question_finds_both(tmp_path: Path) -> None:
    init_ca(tmp_path / "ca", "mesh.test")
    async with running(settings_of("us", tmp_path, servers={"echo": ECHO}), tmp_path) as us:
        assert us.federation is not None
        at = f"127.0.0.1:{us.federation.bound_port}"
        async with running(settings_of("eu", tmp_path, static=[at]), tmp_path) as eu:
            await until(eu, up(eu, "us-1", "echo"))
            await ask(eu, "", "over there")

            async def both() -> list[dict[str, Any]]:
                page = await audit(eu, "", mesh="1", kind="call")
                assert page["unanswered"] == []
                return list(page["records"])

            async with asyncio.timeout(20):
                while len(records := await both()) < 2:  # noqa: ASYNC110 - two nodes' threads write
                    await asyncio.sleep(0.05)
            by_node = {r["node"]: r for r in records}
            assert by_node["eu-1"]["side"] == "entry"
            assert by_node["eu-1"]["ran_at"] == "us-1"
            assert (by_node["us-1"]["side"], by_node["us-1"]["via"]) == ("owner", {"entry": "eu-1"})
            assert by_node["eu-1"]["call_id"] == by_node["us-1"]["call_id"]
            assert by_node["eu-1"]["digests"]["params"] == by_node["us-1"]["digests"]["params"]
            asked_there = [r async for r in _until_found(us, kind="admin")]
            assert asked_there[0]["reason"] == "asked through eu-1"
            met = [r async for r in _until_found(eu, kind="peer")]
            assert (met[0]["peer"], met[0]["action"]) == ("us-1", "alive")
    ca = TrustedKeys(authorities=(tmp_path / "ca" / "ca.pem").read_bytes())
    for app in (us, eu):
        verdict = check([app.config.node.data_dir], ca, node=app.catalog.me.name)
        assert verdict.intact, verdict
        assert (verdict.ends, verdict.last - verdict.signed_to) == ("stopped", 1)


async def _until_found(app: App, **asked: str) -> AsyncIterator[dict[str, Any]]:
    for record in (await audit(app, "", wait_s="10", order="oldest", **asked))["records"]:
        yield record


async def test_a_node_that_keeps_no_audit_runs_and_has_no_routes_for_it(tmp_path: Path) -> None:
    settings = {"audit": {"enabled": False}, "node": {"data_dir": str(tmp_path)}}
    async with running(settings, tmp_path) as app, aiohttp.ClientSession() as http:
        assert (await http.get(f"{app.url}/api/v1/audit")).status == 404
        assert "audit" not in await (await http.get(f"{app.url}/api/v1/status")).json()
    assert not (tmp_path / "audit.db").exists()
