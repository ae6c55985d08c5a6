"""What a node remembers comes back while it is at work already."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import pytest

from federation.events import Liveness
from federation.memory import MemoryViewStore
from federation.ports import SavedView
from proto.errors import Unavailable
from tests.wire.meshes import WAIT_S, Mesh, at, tool


class Slow(MemoryViewStore):
    """Its views are read once `ready` is set."""

    def __init__(self) -> None:
        super().__init__()
        self.ready = threading.Event()
        self.ready.set()

    def views(self) -> Sequence[SavedView]:
        assert self.ready.wait(WAIT_S)
        return super().views()


class Unreadable(MemoryViewStore):
    def views(self) -> Sequence[SavedView]:
        raise Unavailable("node.db in data_dir: disk I/O error")


async def test_a_node_whose_views_take_long_answers_meanwhile_and_then_meets_who_dialled_in(
    mesh: Mesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Slow()
    a, _ = await mesh.node("a", records=[tool("one")])
    b, heard = await mesh.node("b", at(a), store=store)
    await heard.until(lambda: heard.ids("a") == {"time/one"})
    await b.stop()
    await a.stop()
    store.ready.clear()
    monkeypatch.setattr("federation.driver.RESTORE_S", 0)
    again, heard = await mesh.node("b", store=store, records=[tool("own")])
    _, c_heard = await mesh.node("c", at(again), records=[tool("two")])
    await c_heard.until(lambda: c_heard.ids("b") == {"time/own"})
    assert (heard.views, again.peers()) == ({}, ())
    store.ready.set()
    await heard.until(lambda: heard.ids("a") == {"time/one"} and heard.ids("c") == {"time/two"})
    assert heard.states["a"][0] is Liveness.SUSPECT


async def test_a_node_that_cannot_read_its_views_does_not_start(mesh: Mesh) -> None:
    with pytest.raises(Unavailable, match="disk I/O error"):
        await mesh.node("a", store=Unreadable())
