"""Keeping vectors behind the router's back: batches, a bound, stores that fail, freeze, go and come back."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from proto.errors import Unavailable
from router.chroma_server import ChromaServer
from router.keeping import BATCH, KeptVectors
from router.memory import HashingEmbedder, MemoryStore
from router.ports import ToolEntry, Vectors
from tests.router.conftest import MakeRouter
from tests.router.shelves import ChromaProcess, digests, until, vectors

FAST = {"write_after_s": 0.0, "away_min_s": 0.01}


class Moody(MemoryStore):
    """A shelf that fails while `broken`, holds every call up while its gate is closed, and counts its writes."""

    def __init__(self) -> None:
        super().__init__()
        self.broken = False
        self.gate = threading.Event()
        self.gate.set()
        self.called = threading.Semaphore(0)
        self.rested = threading.Event()
        self.writes: list[int] = []

    def get(self, digests: Sequence[str]) -> dict[str, NDArray[np.float32]]:
        self._called()
        return super().get(digests)

    def put(self, digests: Sequence[str], vectors: Vectors) -> None:
        self._called()
        self.writes.append(len(digests))
        super().put(digests, vectors)

    def rest(self) -> None:
        self.rested.set()

    def _called(self) -> None:
        self.called.release()
        assert self.gate.wait(60)
        if self.broken:
            raise Unavailable("the shelf is broken")


@pytest.fixture
def shelf() -> Iterator[Moody]:
    made = Moody()
    yield made
    made.gate.set()


def test_what_is_put_is_written_in_batches_behind(shelf: Moody) -> None:
    kept = KeptVectors(shelf, write_after_s=0.0)
    kept.open()
    shelf.gate.clear()
    count = 3 * BATCH + 1
    kept.put(digests(count), vectors(count))
    # What waits is known though nothing is written yet.
    assert len(kept.get(digests(count))) == count
    shelf.gate.set()
    kept.close()
    assert sum(shelf.writes) == count
    assert max(shelf.writes) == BATCH
    assert kept.status().written == count


def test_a_store_that_fails_is_tried_again_and_nothing_is_lost(shelf: Moody) -> None:
    kept = KeptVectors(shelf, **FAST)
    kept.open()
    shelf.broken = True
    kept.put(digests(5), vectors(5))
    until(lambda: kept.status().state == "away")
    assert kept.problem == "the shelf is broken"
    assert len(kept.get(digests(7))) == 5
    for _ in range(3):
        assert shelf.called.acquire(timeout=60)
    shelf.broken = False
    until(lambda: kept.status().waiting == 0)
    assert kept.problem == ""
    assert len(kept.get(digests(7))) == 5
    kept.close()


def test_a_store_that_fails_at_reading_is_as_if_it_knew_nothing(shelf: Moody) -> None:
    kept = KeptVectors(shelf, away_min_s=60)
    kept.open()
    shelf.broken = True
    assert kept.get(digests(3)) == {}
    assert shelf.called.acquire(timeout=60)
    # While it is left alone nobody waits for it.
    assert kept.get(digests(3)) == {}
    assert not shelf.called.acquire(blocking=False)
    kept.close()


def test_a_store_that_hangs_is_waited_for_once(shelf: Moody) -> None:
    now = 0.0
    kept = KeptVectors(shelf, get_s=0.05, clock=lambda: now)
    kept.open()
    shelf.gate.clear()
    assert kept.get(digests(1)) == {}
    now = 1.0
    assert kept.status().state == "away"
    kept.put(digests(1), vectors(1))
    assert len(kept.get(digests(2))) == 1
    shelf.gate.set()
    until(lambda: kept.status().state == "ready")
    kept.close()


def test_beyond_the_bound_the_oldest_are_dropped_and_counted(shelf: Moody) -> None:
    kept = KeptVectors(shelf, waiting_max=10, away_min_s=60, write_after_s=0.0)
    kept.open()
    shelf.broken = True
    kept.put(digests(8), vectors(8))
    kept.put(digests(8, begin=8), vectors(8))
    assert sorted(kept.get(digests(16))) == digests(10, begin=6)
    assert kept.status().dropped == 6
    kept.close()


def test_a_store_that_nobody_asks_is_put_to_rest(shelf: Moody) -> None:
    kept = KeptVectors(shelf, rest_after_s=0.01)
    kept.open()
    kept.get(digests(1))
    assert shelf.rested.wait(60)
    kept.put(digests(1), vectors(1))
    kept.close()
    shelf.open()
    assert len(shelf.get(digests(1))) == 1


def test_who_asks_a_store_that_closes_is_not_kept_waiting(shelf: Moody) -> None:
    kept = KeptVectors(shelf, get_s=600)
    kept.open()
    shelf.gate.clear()
    with ThreadPoolExecutor(3) as threads:
        running = threads.submit(kept.get, digests(1))
        assert shelf.called.acquire(timeout=60)
        queued = threads.submit(kept.get, digests(2))
        until(lambda: len(kept._asks) == 1)
        closing = threads.submit(kept.close)
        until(lambda: kept._end_s is not None)
        assert kept.get(digests(3)) == {}
        shelf.gate.set()
        assert (queued.result(30), running.result(30), closing.result(30)) == ({}, {}, None)


def test_a_sweep_takes_what_is_not_used_and_leaves_what_is(shelf: Moody) -> None:
    kept = KeptVectors(shelf, write_after_s=0.0)
    kept.open()
    kept.put(digests(4), vectors(4))
    until(lambda: kept.status().waiting == 0)
    kept.sweep(iter(digests(2)))
    until(lambda: kept.status().swept == 2)
    assert sorted(kept.get(digests(4))) == digests(2)
    kept.close()


def test_a_fault_of_ours_does_not_end_the_keeping(shelf: Moody, caplog: pytest.LogCaptureFixture) -> None:
    kept = KeptVectors(shelf, **FAST)
    kept.open()
    kept.put(["a" * 64], np.ones((1, 3), np.float32))
    kept.put(["b" * 64], np.ones((1, 4), np.float32))
    until(lambda: kept.status().state == "away")
    assert kept.get(["a" * 64]) != {}
    kept.close()
    assert "keeping vectors failed" in caplog.text


# ---- with a real Chroma server -----------------------------------------------------------------------


class Counting(HashingEmbedder):
    texts = 0

    def embed(self, texts: Sequence[str], *, query: bool = False) -> Vectors:
        self.texts += 0 if query else len(texts)
        return super().embed(texts, query=query)


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[ChromaProcess]:
    server = ChromaProcess(tmp_path / "served")
    yield server
    server.kill()


async def test_two_routers_share_a_server_and_the_second_embeds_nothing(
    chroma_server: ChromaProcess, make_router: MakeRouter, sample: list[ToolEntry], tmp_path: Path
) -> None:
    model = f"shared-{tmp_path.name}"
    first, second = Counting(), Counting()
    kept = KeptVectors(ChromaServer(chroma_server.address, model), write_after_s=0.0)
    await make_router(sample, embedder=first, store=kept)
    until(lambda: kept.status().waiting == 0)
    router = await make_router(sample, embedder=second, store=KeptVectors(ChromaServer(chroma_server.address, model)))
    assert first.texts > 0
    assert second.texts == 0
    assert router.status().from_store == first.texts
    assert (await router.search("change money")).mode == "hybrid"


async def test_a_server_that_is_away_at_the_start_is_written_to_when_it_comes_and_goes(
    own_server: ChromaProcess, make_router: MakeRouter, sample: list[ToolEntry]
) -> None:
    kept = KeptVectors(ChromaServer(own_server.address, "a-model"), **FAST)
    router = await make_router(sample[:4], embedder=Counting(), store=kept)
    assert router.status().embedded == 4
    assert kept.status().waiting > 0
    assert str(own_server.port) in router.status().problem
    own_server.start()
    until(lambda: kept.status().waiting == 0)
    assert router.status().problem == ""
    own_server.kill()
    router.apply(sample[4:], ())
    await router.settled()
    assert router.status().embedded == 8
    assert (await router.search("send a mail to somebody")).hits[0].entry.key.tool == "send_email"
    own_server.start()
    until(lambda: kept.status().waiting == 0)
    written = ChromaServer(own_server.address, "a-model")
    written.open()
    assert len(written._used().get(include=[])["ids"]) == kept.status().written
    written.close()


async def test_a_frozen_server_holds_up_no_search(
    own_server: ChromaProcess, make_router: MakeRouter, sample: list[ToolEntry], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("router.chroma_server.ANSWER_S", 0.5)
    own_server.start()
    kept = KeptVectors(ChromaServer(own_server.address, "a-model"), **FAST)
    router = await make_router(sample[:4], embedder=Counting(), store=kept)
    own_server.freeze()
    router.apply(sample[4:], ())
    assert (await router.search("send a mail to somebody")).hits[0].entry.key.tool == "send_email"
    until(lambda: kept.status().state == "away")
    assert (await router.search("send a mail to somebody")).hits[0].entry.key.tool == "send_email"
    await router.settled()
    own_server.thaw()
    until(lambda: kept.status().waiting == 0)
