from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from bench.search import made, pages
from bench.search.stand_in import NEARNESS, StandIn
from bench.search.table import quality_table, table
from router.documents import document
from router.memory import HashingEmbedder


def test_tools_are_made_alike_each_time_and_none_is_like_another() -> None:
    tools = list(made.tools(1_000))
    assert tools == list(made.tools(1_000))
    assert len({t.key for t in tools}) == len({t.digest for t in tools}) == 1_000
    assert len({t.key.server for t in tools}) == 25
    assert len(list(made.tools(130))) == 130


def test_queries_are_short_and_new_and_tasks_are_long() -> None:
    queries = made.queries(500)
    assert len(set(queries)) == 500
    assert max(len(q.split()) for q in queries) <= 12
    assert all(len(t.split()) > 12 for t in made.tasks(20))


def test_a_stand_in_lies_near_what_its_text_speaks_of_and_no_two_are_equal() -> None:
    hashing = HashingEmbedder(384)
    model = StandIn(hashing)
    model.load()
    texts = [document(t).named for t in made.tools(200)]
    vectors = model.embed(texts)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert len(np.unique(vectors, axis=0)) == len(set(texts))
    anchors = np.stack(list(model.anchors.values()))
    assert np.median((vectors @ anchors.T).max(axis=1)) == pytest.approx(NEARNESS, abs=0.02)
    np.testing.assert_array_equal(model.embed(texts[:3]), vectors[:3])
    np.testing.assert_array_equal(model.embed(["a"], query=True), hashing.embed(["a"]))


SCORES = {"scores": {"ndcg_10": 0.5, "recall_5": 0.25}}
BETTER = {"scores": {"ndcg_10": 0.625, "recall_5": 0.5}}
QUALITY = {
    "sets": [{"name": "one", "queries": 3, "tools": 4, "retrievers": {"bm25": SCORES, "router": BETTER}}],
    "mean": {"bm25": SCORES, "router": BETTER},
    "honesty": {
        "taken_away": {"count": 3, "none": 0.5, "doubted": 1.0},
        "foreign": None,
        "declared": None,
        "answerable": {"count": 3, "none": 0.0, "doubted": 0.25},
        "right_first": None,
    },
}


def test_the_best_of_a_row_is_bold() -> None:
    assert "| one | 3 | 50.0 / 25.0 | **62.5 / 50.0** |" in quality_table(QUALITY)


def test_what_was_not_measured_has_no_row() -> None:
    assert table({}).count("\n") == 1
    assert "| tokens of the meta-tools' definitions | 480 | ≤ 500 |" in table(
        {"answers": {"definitions": 480, "of_five_hits": {"mean": 1}}}
    )


def test_tables_are_put_between_their_marks_and_others_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = tmp_path / "page.md"
    marked = "before\n<!-- bench-search: {} -->\n{}<!-- end -->\nafter\n"
    page.write_text(marked.format("quality", "old\n") + marked.format("costs", "kept\n"))
    monkeypatch.setattr(pages, "PAGES", (page,))
    pages.write({"quality": {"alone": QUALITY, "crowd": QUALITY}})
    text = page.read_text()
    assert "old" not in text
    assert "| mean, in a crowd of 4 | |" in text
    assert "kept" in text
    assert text.count("before") == text.count("after") == 2
    pages.write({"quality": {"alone": QUALITY, "crowd": QUALITY}})
    assert page.read_text() == text


def test_the_pages_have_a_place_for_every_table() -> None:
    marks = {m for page in pages.PAGES for m in re.findall(r"<!-- bench-search: (\w+) -->", page.read_text())}
    assert marks == {"quality", "honesty", "costs"}
