"""A node's vectors as its parts use them: swept by what search holds, and told to operators."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from node.config import NodeConfig, parse
from node.telemetry import _vectors
from node.vectors import NodeVectors
from node.verbs.render import _vectors as rendered
from router.keeping import KeptVectors
from router.memory import HashingEmbedder, MemoryStore
from router.ports import ToolEntry, ToolKey
from router.router import Router
from tests.router.shelves import digests, until, vectors

Make = Callable[..., NodeVectors]


@pytest.fixture
def config(tmp_path: Path) -> NodeConfig:
    return parse({"node": {"data_dir": str(tmp_path)}}, tmp_path)


def entry(tool: str) -> ToolEntry:
    definition = {"name": tool, "description": f"What {tool} does. And how it does it, at some length."}
    return ToolEntry(ToolKey("me", "desk", tool), definition, server_description="All about desks.")


async def test_what_no_tool_needs_any_more_is_swept(config: NodeConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("node.vectors.FIRST_SWEEP_S", 0.0)
    node = NodeVectors(config, HashingEmbedder())
    shelf = MemoryStore()
    node.kept = KeptVectors(shelf, write_after_s=0.0)
    router = Router(HashingEmbedder(), node.kept)
    router.apply([entry("write"), entry("read")], ())
    await router.start()
    async with asyncio.timeout(60):
        await router.settled()
    node.kept.put(digests(3), vectors(3, dimensions=256))
    await asyncio.to_thread(until, lambda: node.kept.status().waiting == 0)
    node.start(None, router, lambda: False)
    await asyncio.to_thread(until, lambda: node.kept.status().swept == 3)
    assert len(shelf._vectors) == node.status(router.status())["computed"] > 4
    await node.stop()
    await router.stop()


async def test_a_sweep_that_trips_over_a_fault_is_tried_again(
    config: NodeConfig, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("node.vectors.FIRST_SWEEP_S", 0.0)
    monkeypatch.setattr("node.vectors.SWEEP_S", 0.0)
    node = NodeVectors(config, HashingEmbedder())
    router = Router(None, None)
    again, loop = asyncio.Event(), asyncio.get_running_loop()
    faults = iter([RuntimeError("a fault of ours")])

    def sweep(_: Iterable[str]) -> None:
        for fault in faults:
            raise fault
        loop.call_soon_threadsafe(again.set)

    monkeypatch.setattr(node.kept, "sweep", sweep)
    node.start(None, router, lambda: False)
    async with asyncio.timeout(60):
        await again.wait()
    await node.stop()
    await router.stop()
    assert "vectors were not swept" in caplog.text


def test_operators_are_told_where_vectors_came_from_and_what_ails_their_store(config: NodeConfig) -> None:
    node = NodeVectors(config, HashingEmbedder())
    router_status = Router(HashingEmbedder(), None).status()
    status = node.status(router_status)
    assert status["place"] == str(config.node.data_dir / "vectors")
    assert status["state"] == "closed"
    text = rendered({**status, "from_peers": 7, "waiting": 3, "not_believed": ["eu-2"], "disk_bytes": 2_000_000})
    assert "7 from peers" in text
    assert "3 to be written" in text
    assert "not believed: eu-2" in text
    samples = {
        (s.name, s.labels.get("source")): s.value for m in _vectors({**status, "computed": 5}) for s in m.samples
    }
    assert samples["toolmesh_vectors_total", "computed"] == 5
    assert samples["toolmesh_vectors_store_up", None] == 0
    named = {name.removeprefix("toolmesh_vectors_") for name, _ in samples}
    assert named == {"total", "lent_total", "waiting", "dropped_total", "store_up", "disk_bytes"}
