from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

TOOLS = [
    {"server": "bank", "tool": "convert_currency", "description": "Convert money of one currency to another."},
    {"server": "mail", "tool": "send_email", "description": "Send an email message to a recipient."},
]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "corpus.jsonl").write_text("\n".join(map(json.dumps, TOOLS)))
    (folder / "queries.jsonl").write_text(json.dumps({"query": "send an email", "relevant": ["mail/send_email"]}))
    return tmp_path


def test_sets_are_measured_without_a_node_and_without_a_model(run: Any, data: Path, tmp_path: Path) -> None:
    file = tmp_path / "figures.json"
    ran = run("eval", "--data", str(data), "--retriever", "router,bm25", "--embedder", "none", "--json", str(file))
    assert ran.status == 0
    first, second = (line.split() for line in ran.out.splitlines()[1:3])
    assert first[:5] == ["mine", "1", "2", "bm25", "100.0"]
    assert second[:2] == ["router", "100.0"]
    assert "mine: 1 queries" in ran.err
    figures = json.loads(file.read_text())
    assert list(figures["mean"]) == ["bm25", "router"]
    assert figures["sets"][0]["retrievers"]["router"]["scores"]["recall_1"] == 1
    assert figures["embedder"] == ""


def test_what_is_wrong_with_the_data_is_a_line_with_status_2(run: Any, data: Path) -> None:
    (data / "mine" / "queries.jsonl").write_text('{"query": "x"}')
    ran = run("eval", "--data", str(data), "--embedder", "none")
    assert ran.status == 2
    assert "queries.jsonl line 1: 'relevant' is null; give a list" in ran.err


def test_an_unknown_retriever_is_named_with_those_there_are(run: Any, data: Path) -> None:
    ran = run("eval", "--data", str(data), "--retriever", "router,magic")
    assert ran.status == 2
    assert "--retriever 'magic' is unknown; choose of bm25, dense, rrf, router, all" in ran.err
