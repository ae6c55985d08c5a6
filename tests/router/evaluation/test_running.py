from __future__ import annotations

import json
from pathlib import Path

import pytest

from proto import jsons
from router.evaluation import figures, report
from router.evaluation.models import Models
from router.evaluation.running import RETRIEVERS, Plan, run, spaced
from router.evaluation.sets import read
from router.memory import HashingEmbedder

TOOLS = [
    {"server": "bank", "tool": "convert_currency", "description": "Convert money of one currency to another."},
    {"server": "weather", "tool": "forecast", "description": "Weather forecast for a city and the coming days."},
    {"server": "files", "tool": "read_file", "description": "Read the contents of a file from disk."},
    {"server": "mail", "tool": "send_email", "description": "Send an email message to a recipient."},
]
QUERIES = [
    {"query": "convert currency", "relevant": ["bank/convert_currency"]},
    {"query": "weather forecast of the city", "relevant": ["weather/forecast"]},
    {"query": "read a file and send an email message", "relevant": ["files/read_file", "mail/send_email"]},
    {"query": "tune a piano", "relevant": []},
]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    for name, tools, queries in (
        ("one", TOOLS, QUERIES),
        ("two", TOOLS[:2], QUERIES[:2]),
        ("two-b", None, QUERIES[:1]),
    ):
        (tmp_path / name).mkdir()
        for file, rows in (("corpus", tools), ("queries", queries)):
            if rows:
                (tmp_path / name / f"{file}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return tmp_path


def models() -> Models:
    return Models(HashingEmbedder(), HashingEmbedder())


async def test_every_retriever_is_measured_on_every_set(data: Path) -> None:
    found = await run(read(data), models(), Plan())
    assert [(s.name, s.queries, s.tools) for s in found.sets] == [("one", 3, 4), ("two", 2, 2), ("two-b", 1, 2)]
    for one in (*(s.retrievers for s in found.sets), found.mean):
        assert tuple(one) == RETRIEVERS
    assert found.mean["router"].scores.recall_1 > 0.8
    assert found.mean["router"].tokens > 20
    assert found.mean["bm25"].tokens == 0


async def test_labels_are_counted_for_each_kind_of_query(data: Path) -> None:
    found = await run(read(data), models(), Plan(retrievers=("router",)))
    one, two, _ = found.sets
    assert one.honesty is not None
    assert two.honesty is not None
    counts = [labels and labels.count for labels in (one.honesty.answerable, one.honesty.taken_away)]
    assert counts == [3, 3]
    assert one.honesty.declared is not None
    assert one.honesty.declared.count == 1
    assert two.honesty.declared is None
    # The queries of "one" that something answers are foreign to "two", and not those of "two-b", which has its tools.
    assert two.honesty.foreign is not None
    assert two.honesty.foreign.count == 3


async def test_a_crowd_is_searched_in_all_tools_and_has_nothing_foreign(data: Path) -> None:
    found = await run(read(data), models(), Plan(retrievers=("bm25", "router"), crowd=True))
    assert {s.tools for s in found.sets} == {4}
    assert found.honesty is not None
    assert found.honesty.foreign is None


async def test_words_alone_need_no_model(data: Path) -> None:
    found = await run(read(data), Models(None, HashingEmbedder()), Plan(retrievers=("bm25", "router")))
    assert found.embedder == ""
    assert found.mean["router"].scores.recall_1 > 0.5


async def test_a_limit_takes_queries_from_all_over_the_set(data: Path) -> None:
    found = await run(read(data, ["one"]), models(), Plan(retrievers=("bm25",), limit=2))
    assert found.sets[0].queries == 2
    assert found.honesty is None
    assert list(spaced(range(10), 3)) == [0, 3, 6]
    assert list(spaced(range(2), 3)) == [0, 1]


async def test_the_report_is_a_table_and_an_object(data: Path) -> None:
    said: list[str] = []
    found = await run(read(data), models(), Plan(), said.append)
    table = report.text(found)
    assert table.splitlines()[0].split()[:4] == ["set", "queries", "tools", "retriever"]
    assert "right tools taken away" in table
    assert "mean" in table
    told = jsons.loads(jsons.dumps(figures.as_json(found)))
    assert told["mean"]["rrf"]["scores"]["recall_10"] == 1
    assert any("one: 3 queries" in line for line in said)
