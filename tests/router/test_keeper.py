from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router import background as background_module
from router import keeper as keeper_module
from router.index import Index
from router.memory import HashingEmbedder
from router.ports import ToolEntry, Vectors
from router.router import Router
from tests.router.test_retrieval import QUERIES, entries
from tests.router.worlds import World, told

MakeEntry = Callable[..., ToolEntry]
MakeRouter = Callable[..., Awaitable[Router]]


class Recording(HashingEmbedder):
    def __init__(self, name: str = "hashing") -> None:
        super().__init__()
        self.name = name
        self.asked: list[str] = []

    @property
    def model_id(self) -> str:
        return self.name

    def embed(self, texts: Sequence[str], *, query: bool = False) -> Vectors:
        if not query:
            self.asked += texts
        return super().embed(texts)


def hits(result: Any) -> list[tuple[str, float]]:
    return [(h.entry.key.tool, h.score) for h in result.hits]


async def test_a_second_start_embeds_nothing_and_finds_the_same(
    make_router: MakeRouter, sample: list[ToolEntry], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first = await make_router(sample, embedder=Recording(), snapshot=tmp_path / "index")
    expected = hits(await first.search("convert money", k=8))
    await first.stop()
    embedder = Recording()
    with caplog.at_level(logging.INFO, "toolmesh.router"):
        second = await make_router(sample, embedder=embedder, snapshot=tmp_path / "index")
    assert embedder.asked == []
    assert "8 documents read" in caplog.text
    assert hits(await second.search("convert money", k=8)) == expected
    assert second.status().embedded == 8


@pytest.mark.parametrize(("grace_s", "grace_max_s"), [(60.0, 900.0), (0.0, 900.0), (60.0, 0.0)])
async def test_what_nobody_offers_is_seen_by_nobody_and_dropped_after_the_grace(
    grace_s: float,
    grace_max_s: float,
    make_router: MakeRouter,
    sample: list[ToolEntry],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    await (await make_router(sample, embedder=Recording(), snapshot=tmp_path / "index")).stop()
    monkeypatch.setattr(background_module, "GRACE_S", grace_s)
    monkeypatch.setattr(background_module, "GRACE_MAX_S", grace_max_s)
    embedder = Recording()
    router = await make_router(sample[:3], embedder=embedder, snapshot=tmp_path / "index", clock=lambda: 100.0)
    found = await router.search("send an email", k=20)
    assert (len(found.hits), found.searched) == (3, 3)
    router.apply(sample[3:], ())
    await router.settled()
    assert router.status().embedded == 8
    assert bool(embedder.asked) == (0.0 in (grace_s, grace_max_s))


@pytest.mark.parametrize("lexical", [False, True])
async def test_documents_that_wait_for_their_tools_change_no_score(
    lexical: bool, make_router: MakeRouter, sample: list[ToolEntry], tmp_path: Path
) -> None:
    await (await make_router(sample, lexical=lexical, snapshot=tmp_path / "index")).stop()
    back = await make_router(sample[:3], lexical=lexical, snapshot=tmp_path / "index")
    fresh = await make_router(sample[:3], lexical=lexical)
    for query in ("send a message about the exchange rate", "file", "convert"):
        assert hits(await back.search(query)) == hits(await fresh.search(query))


async def test_a_damaged_snapshot_is_removed_and_the_index_rebuilt(
    make_router: MakeRouter, sample: list[ToolEntry], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "index"
    await (await make_router(sample, embedder=Recording(), snapshot=file)).stop()
    whole = file.read_bytes()
    file.write_bytes(whole[:5_000] + bytes([whole[5_000] ^ 1]) + whole[5_001:])
    embedder = Recording()
    router = await make_router(sample, embedder=embedder, snapshot=file)
    assert "cannot be used and is removed" in caplog.text
    assert hits(await router.search("convert money"))[0][0] == "convert_currency"
    assert embedder.asked != []
    await router.stop()
    assert file.exists()


async def test_vectors_of_another_model_are_left_behind_and_words_are_not(
    make_router: MakeRouter, sample: list[ToolEntry], tmp_path: Path
) -> None:
    await (await make_router(sample, embedder=Recording("one"), snapshot=tmp_path / "index")).stop()
    embedder = Recording("two")
    router = await make_router(sample, embedder=embedder, snapshot=tmp_path / "index")
    assert len([text for text in embedder.asked if ": " in text]) == 8
    assert (await router.search("send an email")).hits[0].entry.key.tool == "send_email"


async def test_vectors_of_another_recipe_serve_until_new_ones_are_there(
    make_router: MakeRouter, sample: list[ToolEntry], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeper_module, "RECIPE", "of old")
    await (await make_router(sample, embedder=Recording(), snapshot=tmp_path / "index")).stop()
    monkeypatch.undo()
    embedder = Recording()
    router = await make_router(sample, embedder=embedder, snapshot=tmp_path / "index")
    assert len([text for text in embedder.asked if ": " in text]) == 8
    assert (await router.search("send an email")).hits[0].entry.key.tool == "send_email"
    index = World(sample).index
    parts = {name: np.frombuffer(p, np.uint8) if isinstance(p, bytes) else p for name, p in index.state().items()}
    again = Index()
    again.restore(parts, words=False, vectors=True, stale=True)
    for entry in sample:
        again.put(entry)
    assert again.pending == 8
    assert again.dense is not None
    assert len(again.dense) == 8


def test_words_that_are_still_to_be_indexed_anew_are_so_after_another_restart(sample: list[ToolEntry]) -> None:
    def restarted(index: Index, *, words: bool) -> World:
        parts = {n: np.frombuffer(p, np.uint8) if isinstance(p, bytes) else p.copy() for n, p in index.state().items()}
        back = World()
        back.index.restore(parts, words=words, vectors=True, stale=False)
        return back

    once = restarted(World(sample).index, words=False)
    once.index.put(sample[0])
    assert once.index.version
    twice = restarted(once.index, words=True)
    for entry in sample[:6]:
        twice.index.put(entry)
    twice.index.drop_unclaimed(1_000)
    fresh = World(sample[:6])
    for mine, its in zip(twice.search(*QUERIES), fresh.search(*QUERIES), strict=True):
        assert told(mine) == told(its)
    for entry in sample[:6]:
        twice.index.delete(entry.key)
    assert len(twice.index) == twice.index.slots.rows == 0


async def test_searches_wait_until_the_snapshot_is_read(sample: list[ToolEntry], tmp_path: Path) -> None:
    router = Router(None, None, snapshot=tmp_path / "index")
    router.apply(sample, ())
    asked = asyncio.ensure_future(router.search("send an email"))
    await asyncio.sleep(0)
    assert not asked.done()
    await router.start()
    assert (await asked).hits[0].entry.key.tool == "send_email"
    await router.stop()


async def test_a_snapshot_that_cannot_be_written_costs_a_line_in_the_log(
    make_router: MakeRouter, sample: list[ToolEntry], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("in the way")
    router = await make_router(sample, embedder=Recording(), snapshot=tmp_path / "file" / "index")
    await router.stop()
    assert "cannot be written" in caplog.text


@settings(deadline=None, derandomize=True, max_examples=20)
@given(st.lists(entries(), max_size=20), st.lists(entries(), max_size=20), st.integers(0, 3))
def test_an_index_that_comes_back_and_changes_equals_a_fresh_one(
    before: list[ToolEntry], after: list[ToolEntry], steps: int
) -> None:
    first = World()
    for entry in before:
        first.index.put(entry)
    for _ in range(steps):
        first.embedding.step()
    parts = first.index.state()
    back = World()
    copies = {
        name: np.frombuffer(p, np.uint8).copy() if isinstance(p, bytes) else p.copy() for name, p in parts.items()
    }
    back.index.restore(copies, words=True, vectors=True, stale=False)
    for entry in after:
        back.index.put(entry)
    back.index.drop_unclaimed(1_000)
    back.embed()
    fresh = World(after)
    assert back.index.slots.rows == fresh.index.slots.rows
    assert back.index.pending == 0
    for mine, its in zip(back.search(*QUERIES), fresh.search(*QUERIES), strict=True):
        assert told(mine) == told(its)
