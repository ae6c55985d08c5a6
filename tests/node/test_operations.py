"""What operators are shown, of one server by hand and of a mesh of two whole nodes over HTTP."""

from __future__ import annotations

import asyncio
import hashlib
import json
import sys
from collections.abc import AsyncIterator, Callable, Hashable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from prometheus_client.parser import text_string_to_metric_families

from federation.ca import init_ca, issue
from federation.events import Liveness
from federation.refusals import Reason
from node.app import App
from node.catalog import Catalog
from node.config import parse
from node.operations import Operations, _server
from node.ports import Resource
from node.telemetry import Telemetry
from node.verbs.exporting import export
from node.verbs.remote import Remote
from proto.errors import Invalid
from proto.names import NodeId
from proto.records import ANONYMOUS, Record
from tests.node.waiting import until

SERVER = Path(__file__).parent / "servers" / "peculiar.py"
MESH = "mesh.test"
BOUND_S = 60.0
KEYS = {name: f"key-of-{name}-and-some-more" for name in ("op", "alice")}


@dataclass(frozen=True)
class Without:
    """Hides one tool."""

    tool: str
    key: Hashable = "without"

    def allows(self, resource: Resource) -> bool:
        return resource.tool != self.tool


def test_a_server_counts_only_the_tools_that_its_reader_may_see(
    catalog: Catalog, nodes: tuple[NodeId, ...], make_server: Callable[..., list[Record]]
) -> None:
    catalog.apply(nodes[1], make_server("db", "read", "drop"), [])
    server = catalog.find("us-1", "db")
    assert server is not None
    assert [_server(catalog, server, Without(tool))["tools"] for tool in ("none", "drop")] == [2, 1]


def test_a_peers_server_that_is_still_starting_is_not_called_alive(
    catalog: Catalog, nodes: tuple[NodeId, ...], make_server: Callable[..., list[Record]]
) -> None:
    catalog.apply(nodes[1], make_server("db", state="starting"), [])
    server = catalog.find("us-1", "db")
    assert server is not None
    assert _server(catalog, server, Without("none"))["state"] == "starting"
    catalog.set_liveness(nodes[1], Liveness.DOWN)
    assert _server(catalog, server, Without("none"))["state"] == "down"


# ---- two whole nodes ---------------------------------------------------------------------------------


@dataclass
class Mesh:
    """eu-1, where the questions are asked, and ap-1, which owns `odd`."""

    eu: App
    ap: App
    http: aiohttp.ClientSession

    async def get(self, path: str, key: str = "op") -> Any:
        async with self.http.get(self.eu.url + path, headers={"Authorization": f"Bearer {KEYS[key]}"}) as response:
            return await (response.json() if response.content_type.endswith("json") else response.text())

    async def metrics(self) -> dict[tuple[str, tuple[str, ...]], float]:
        """(name, label values in the order of their names) → value."""
        families = text_string_to_metric_families(await self.get("/metrics"))
        return {
            (sample.name, tuple(value for _, value in sorted(sample.labels.items()))): sample.value
            for family in families
            for sample in family.samples
        }


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def mesh(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Mesh]:
    base = tmp_path_factory.mktemp("mesh")
    init_ca(base / "ca", MESH)
    auth = {
        "keys": [
            {"name": "op", "sha256": hashlib.sha256(KEYS["op"].encode()).hexdigest(), "scopes": ["operator"]},
            {"name": "alice", "sha256": hashlib.sha256(KEYS["alice"].encode()).hexdigest(), "servers": ["geo"]},
        ]
    }

    def settings(region: str, static: list[str], **more: Any) -> dict[str, Any]:
        name = f"{region}-1"
        files = issue(base / "ca", NodeId.of(MESH, region, name), base / name, hosts=["127.0.0.1"], days=90)
        return {
            "node": {"name": name, "region": region, "mesh": MESH, "data_dir": str(base / name / "data")},
            "http": {"listen": "127.0.0.1:0"},
            "search": {"embedder": "none"},
            "auth": auth,
            "federation": {
                "listen": "127.0.0.1:0",
                "tls": {"ca": str(files.ca), "cert": str(files.cert), "key": str(files.key)},
                "static": static,
                "mdns": {"enabled": False},
            },
            **more,
        }

    async with AsyncExitStack() as stack:
        odd = {"command": [sys.executable, "-S", "-E", str(SERVER)], "service": "odds", "description": "Odd things."}
        ap = App(parse(settings("ap", [], servers={"odd": odd}), base))
        stack.push_async_callback(ap.stop)
        await ap.start()
        assert ap.federation is not None
        eu = App(parse(settings("eu", [f"127.0.0.1:{ap.federation.bound_port}"]), base))
        stack.push_async_callback(eu.stop)
        changed = asyncio.Event()
        eu.catalog.listen(lambda *_: changed.set())
        await eu.start()
        async with asyncio.timeout(BOUND_S):
            while not ((odd_here := eu.catalog.find("ap-1", "odd")) and odd_here.up and odd_here.tools):
                changed.clear()
                await changed.wait()
        yield Mesh(eu, ap, await stack.enter_async_context(aiohttp.ClientSession()))


@pytest.mark.asyncio(loop_scope="module")
async def test_metrics_say_what_status_says(mesh: Mesh) -> None:
    status, metrics = await mesh.get("/api/v1/status"), await mesh.metrics()
    (peer,) = status["peers"]
    for state in Liveness:
        value = float(state == peer["state"])
        assert metrics["toolmesh_peer_state", ("ap-1", "ap", str(state))] == value
    assert metrics["toolmesh_peer_tools", ("ap-1",)] == peer["tools"] > 0
    assert metrics["toolmesh_peer_lag_changes", ("ap-1",)] == peer["lag_changes"] == 0
    assert metrics["toolmesh_peer_rtt_seconds", ("ap-1",)] == pytest.approx(peer["rtt_ms"] / 1000)
    expires = datetime.fromisoformat(peer["certificate_expires_at"]).timestamp()
    assert metrics["toolmesh_peer_certificate_expiry_timestamp_seconds", ("ap-1",)] == pytest.approx(expires, abs=1)
    own = datetime.fromisoformat(status["node"]["certificate_expires_at"]).timestamp()
    assert metrics["toolmesh_certificate_expiry_timestamp_seconds", ()] == pytest.approx(own, abs=1)
    assert metrics["toolmesh_tools", ()] == status["totals"]["tools"]
    assert metrics["toolmesh_servers", ("up",)] == len(status["servers"]) == 1
    assert metrics["toolmesh_calls_in_flight", ()] == 0
    assert metrics["toolmesh_build_info", ("1", status["node"]["version"])] == 1
    assert metrics["toolmesh_peer_received_bytes_total", ("ap-1",)] > 0
    assert metrics["toolmesh_addresses_unproved", ()] == 0
    assert ("process_open_fds", ()) in metrics


@pytest.mark.asyncio(loop_scope="module")
async def test_agents_that_are_there_are_counted_in_status_and_metrics(mesh: Mesh) -> None:
    kinds = ("sessions", "streams", "connections")

    async def counted() -> list[float]:
        totals, metrics = (await mesh.get("/api/v1/status"))["totals"], await mesh.metrics()
        assert [totals[kind] for kind in kinds] == [metrics[f"toolmesh_{kind}", ()] for kind in kinds]
        return [totals[kind] for kind in kinds]

    assert await counted() == [0, 0, 0]
    params = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}
    authorization = {"Authorization": f"Bearer {KEYS['op']}"}
    async with mesh.http.ws_connect(f"{mesh.eu.url}/ws", headers=authorization) as agent:
        await agent.send_json({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params})
        assert "result" in await agent.receive_json(timeout=BOUND_S)
        assert await counted() == [1, mesh.eu.ingress.stats()["streams"], 1]
    async with asyncio.timeout(BOUND_S):
        await mesh.eu.ingress.connections.none_left.wait()
    assert await counted() == [0, 0, 0]


@pytest.mark.asyncio(loop_scope="module")
async def test_every_metric_is_documented_and_every_documented_metric_is_there(mesh: Mesh) -> None:
    page = (Path(__file__).parents[2] / "docs" / "operations.md").read_text().split("## Metrics", 1)[1]
    names = {name for name, _ in await mesh.metrics() if name.startswith("toolmesh_")}
    # These have no sample until something is called or refused, or the peer has sent a beat or subscribed.
    names |= {"toolmesh_calls_total", "toolmesh_refusals_total"}
    names |= {"toolmesh_peer_clock_skew_seconds", "toolmesh_peer_lacks_changes"}
    # Nor this until an authority has been met.
    names.add("toolmesh_governance_age_seconds")
    # And these are of a node that searches by meaning (tests/node/test_vectors.py, test_experience.py).
    kept = ("total", "lent_total", "waiting", "dropped_total", "store_up", "disk_bytes")
    names |= {f"toolmesh_vectors_{name}" for name in kept}
    names |= {f"toolmesh_feedback_{name}" for name in ("entries", "tools", "votes_total")}
    table = [line.split(" | ")[0] for line in page.splitlines() if line.startswith("| `toolmesh_")]
    assert {name.strip("| `") for cell in table for name in cell.split(", ")} == names


@pytest.mark.asyncio(loop_scope="module")
async def test_refusals_and_alarms_reach_status_peer_and_metrics(mesh: Mesh) -> None:
    federation = mesh.eu.federation
    assert federation is not None
    uri = mesh.ap.catalog.me.uri
    for _ in range(3):
        federation.refusals.note("here", uri, Reason.CLONE, "two processes speak as ap-1")
    federation._alarms.note(uri, "clone", "stop one of the two")
    status = await mesh.get("/api/v1/status")
    (refusal,), (alarm,) = status["refusals"], status["alarms"]
    assert (alarm["about"], alarm["name"], alarm["message"]) == (uri, "clone", "stop one of the two")
    assert (refusal["side"], refusal["who"], refusal["reason"], refusal["count"]) == ("here", uri, "clone", 3)
    peer = await mesh.get("/api/v1/peers/ap-1")
    assert (peer["refusals"], peer["alarms"]) == ([refusal], [alarm])
    assert (await mesh.metrics())["toolmesh_refusals_total", ("clone", "here")] == 3


@pytest.mark.asyncio(loop_scope="module")
async def test_one_peer_is_told_in_full(mesh: Mesh) -> None:
    peer = await mesh.get("/api/v1/peers/ap-1")
    assert peer["id"] == mesh.ap.catalog.me.uri
    assert (peer["history"][0]["state"], peer["protocol"], peer["roles"]) == ("alive", 1, [])
    assert peer["records"] > peer["tools"]
    assert (await mesh.get("/api/v1/peers"))["software"] == peer["software"]
    assert "there are: ap-1" in (await mesh.get("/api/v1/peers/nobody"))["detail"]


@pytest.mark.asyncio(loop_scope="module")
async def test_an_explanation_is_given_for_the_asker_and_for_others(mesh: Mesh) -> None:
    tool = next(iter(mesh.eu.catalog.owners["ap-1"].servers["odd"].tools))
    own = await mesh.get(f"/api/v1/explain?tool=odds/{tool}")
    assert own["verdict"] == "visible to op; a call now goes to ap-1 (another region)"
    assert (own["visible"], own["callable"]) == (True, True)
    hers = await mesh.get(f"/api/v1/explain?tool=odds/{tool}&as=alice")
    assert hers["verdict"].startswith("hidden from alice: ")
    nobody = await mesh.get(f"/api/v1/explain?tool=odds/{tool}&as=nobody")
    assert (nobody["status"], nobody["kind"]) == (400, "invalid")
    assert "alice, op" in nobody["detail"]


@pytest.mark.asyncio(loop_scope="module")
async def test_who_is_no_operator_learns_nothing_by_asking(mesh: Mesh) -> None:
    for path in ("/metrics", "/api/v1/peers", "/api/v1/peers/ap-1", "/api/v1/explain?tool=odds&as=op"):
        answer = await mesh.get(path, "alice")
        assert answer["kind"] == "scope_required"
        assert "odd" not in str(answer)


@pytest.mark.asyncio(loop_scope="module")
async def test_the_list_of_servers_says_what_each_is_for_and_a_corpus_made_of_a_node_has_it(
    mesh: Mesh, tmp_path: Path
) -> None:
    (odd,) = (await mesh.get("/api/v1/servers", "op"))["servers"]
    assert (odd["name"], odd["description"]) == ("odds", "Odd things.")
    await export(Remote(mesh.eu.url, KEYS["op"]), tmp_path)
    rows = [json.loads(line) for line in (tmp_path / "corpus.jsonl").read_text().splitlines()]
    assert {(row["server"], row["server_description"]) for row in rows} == {("odds", "Odd things.")}


@pytest.mark.asyncio(loop_scope="module")
async def test_draining_shows_in_readiness_status_and_metrics_until_it_is_undone(mesh: Mesh) -> None:
    async def drain(on: bool) -> Any:
        headers = {"Authorization": f"Bearer {KEYS['op']}"}
        async with mesh.http.post(f"{mesh.eu.url}/api/v1/drain", json={"on": on}, headers=headers) as response:
            return await response.json()

    async def seen() -> tuple[bool, bool, float]:
        async with mesh.http.get(f"{mesh.eu.url}/readyz") as response:
            ready = response.status == 200
        return (
            ready,
            (await mesh.get("/api/v1/status"))["node"]["draining"],
            (await mesh.metrics())["toolmesh_draining", ()],
        )

    assert (await drain(True))["draining"] is True
    assert await seen() == (False, True, 1)
    assert (await drain(False))["draining"] is False
    assert await seen() == (True, False, 0)


def test_a_node_that_runs_alone_has_metrics_and_no_peers(tmp_path: Path) -> None:
    app = App(parse({"search": {"embedder": "none"}}, tmp_path))
    metrics = Telemetry(app).exposition().decode()
    assert "toolmesh_tools 0.0" in metrics
    assert "toolmesh_peer" not in metrics
    operations = Operations(app)
    assert operations.peers() == []
    assert operations.status()["node"]["certificate_expires_at"] is None
    with pytest.raises(Invalid, match="there are: none"):
        operations.peer("eu-1")
    with pytest.raises(Invalid, match="this node has no keys"):
        operations.explain("", "x", "alice", ANONYMOUS)


async def test_a_node_is_ready_once_its_own_servers_have_come_up_or_failed(tmp_path: Path) -> None:
    never = {"command": [sys.executable, "-c", "input()"], "start_timeout_s": 2}
    settings = {"http": {"listen": "127.0.0.1:0"}, "search": {"embedder": "none"}, "servers": {"never": never}}
    app = App(parse(settings, tmp_path))
    try:
        await app.start()
        operations = Operations(app)
        assert operations.ready() == "its own servers are still starting"
        assert app._loading is not None
        await asyncio.wait_for(app._loading, BOUND_S)
        assert operations.ready() == ""
    finally:
        await app.stop()


async def test_a_node_is_ready_once_it_has_met_or_missed_the_peers_that_it_remembers(tmp_path: Path) -> None:
    init_ca(tmp_path / "ca", MESH)

    def node(region: str, static: list[str]) -> App:
        name = f"{region}-1"
        if not (tmp_path / name).exists():
            issue(tmp_path / "ca", NodeId.of(MESH, region, name), tmp_path / name, hosts=["127.0.0.1"])
        tls = {"ca": f"{name}/ca.pem", "cert": f"{name}/{name}.pem", "key": f"{name}/{name}-key.pem"}
        settings = {
            "node": {"name": name, "region": region, "mesh": MESH, "data_dir": f"{name}/data"},
            "http": {"listen": "127.0.0.1:0"},
            "search": {"embedder": "none"},
            "federation": {"listen": "127.0.0.1:0", "tls": tls, "static": static, "mdns": {"enabled": False}},
        }
        return App(parse(settings, tmp_path))

    async with AsyncExitStack() as stack:
        ap = node("ap", [])
        stack.push_async_callback(ap.stop)
        await ap.start()
        assert ap.federation is not None
        before = node("eu", [f"127.0.0.1:{ap.federation.bound_port}"])
        stack.push_async_callback(before.stop)
        await before.start()
        await until(before, lambda: "ap-1" in before.catalog.owners and bool(before.catalog.owners["ap-1"].info))
        await before.stop()

        # Without an address it can only be missed, which takes a while.
        after = node("eu", [])
        stack.push_async_callback(after.stop)
        await after.start()
        assert after._loading is not None
        await asyncio.wait_for(after._loading, BOUND_S)
        operations = Operations(after)
        assert operations.ready() == "it has not met ap-1 yet, which it remembers"
        await until(after, lambda: after.catalog.owners["ap-1"].liveness is Liveness.UNREACHABLE)
        assert operations.ready() == ""
