from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.search import answers, freshness, hidden, latency, made, pages, results
from bench.search.rig import Size, filled
from bench.search.stand_in import NEARNESS, StandIn
from bench.search.table import quality_table, table
from router.documents import document
from router.memory import HashingEmbedder
from router.router import Router


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
QUALITY: dict[str, Any] = {
    "embedder": "model",
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


def test_parts_are_merged_and_one_that_failed_keeps_the_figures_it_had(tmp_path: Path) -> None:
    path = tmp_path / "search.json"
    path.write_text(json.dumps({"sets": "of an older form", "answers": {"definitions": 1}, "latency": {"1000": {}}}))
    results.merge({"answers": {"definitions": 2}, "latency": {"failed": "OSError"}}, path)
    assert results.read(path) == {"latency": {"1000": {}}, "answers": {"definitions": 2}}


def test_reports_of_evaluations_are_taken_in_one_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "search.json"
    for crowd in (False, True):
        report = tmp_path / f"{crowd}.json"
        report.write_text(json.dumps({**QUALITY, "crowd": crowd}))
        results.merge({"quality": results.quality([report])}, path)
    assert set(results.read(path)["quality"]) == {"alone", "crowd"}


def test_retrievers_measured_apart_stand_beside_each_other_where_they_were_asked_the_same(tmp_path: Path) -> None:
    whole, first = QUALITY | {"crowd": False}, QUALITY["sets"][0]
    paths = []
    for name, honesty in (("router", QUALITY["honesty"]), ("bm25", None)):
        only = {name: first["retrievers"][name]}
        part = whole | {"sets": [first | {"retrievers": only}], "mean": only, "honesty": honesty}
        paths.append(tmp_path / f"{name}.json")
        paths[-1].write_text(json.dumps(part))
    assert results.quality(paths) == {"alone": whole}
    others = tmp_path / "others.json"
    others.write_text(json.dumps(whole | {"sets": [first | {"queries": 2, "retrievers": {"bm25": SCORES}}]}))
    assert list(results.quality([*paths, others])["alone"]["sets"][0]["retrievers"]) == ["bm25"]


def test_what_is_no_report_is_refused(tmp_path: Path) -> None:
    other = tmp_path / "other.json"
    other.write_text("{}")
    with pytest.raises(ValueError, match=r"other.json: not a report; .*`toolmesh eval"):
        results.quality([other])


def test_quality_without_a_crowd_has_a_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = tmp_path / "page.md"
    page.write_text("<!-- bench-search: quality -->\n<!-- end -->\n<!-- bench-search: costs -->\nkept\n<!-- end -->\n")
    monkeypatch.setattr(pages, "PAGES", (page,))
    pages.write({"quality": {"alone": QUALITY}})
    assert "| mean | |" in page.read_text()
    assert "kept" in page.read_text()


def test_the_clock_that_tells_nothing_tells_as_often_as_a_coin() -> None:
    assert hidden.told([1, 2, 3], [1, 2, 3]) == 0.5
    assert hidden.told([4, 5], [1, 2, 3]) == 1.0


TINY = Size(tools=(80, 160), searches=4, tasks=2, recalled=2, fresh=1, pairs=3)


@pytest.fixture
def _hashed(monkeypatch: pytest.MonkeyPatch) -> None:
    model = StandIn(HashingEmbedder(384))
    model.load()
    for part in (latency, hidden, freshness, answers):
        monkeypatch.setattr(part, "embedder", lambda _size: model)


@pytest.mark.usefixtures("_hashed")
async def test_the_parts_measure_what_their_rows_show(capsys: pytest.CaptureFixture[str]) -> None:
    parts: tuple[Any, ...] = (latency.latency, hidden.hidden, freshness.freshness, answers.answers)
    figures = {part.__name__: await part(TINY) for part in parts}
    assert capsys.readouterr().out.startswith("  80 tools")
    rows = table(figures)
    for row in ("among 160 tools, one searcher", "… 98 %", "names a hidden tool", "by its meaning", "five hits"):
        assert row in rows, row
    assert figures["hidden"]["searches"] == 3


async def test_an_index_made_before_is_taken_up_without_embedding(tmp_path: Path) -> None:
    model = StandIn(HashingEmbedder(384), tmp_path / "phrases.npy")
    model.load()
    again = StandIn(HashingEmbedder(384), tmp_path / "phrases.npy")
    again.load()
    np.testing.assert_array_equal(again.embed(["create an invoice"]), model.embed(["create an invoice"]))
    tools = list(made.tools(40))
    router = Router(model, None, snapshot=tmp_path / "index.snapshot")
    router.apply(tools, ())
    await router.start()
    await router.settled()
    await router.stop()
    before = (tmp_path / "index.snapshot").read_bytes()
    async with filled(model, tools, tmp_path / "index.snapshot") as taken_up:
        assert taken_up.status().computed == 0
        assert (await taken_up.search("invoice")).mode == "hybrid"
        taken_up.apply((), [tools[0].key])
    assert (tmp_path / "index.snapshot").read_bytes() == before
