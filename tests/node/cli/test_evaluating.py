from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from node.verbs.exporting import export
from proto.errors import Conflict

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
    assert "queries.jsonl line 1: 'relevant' is missing; give a list" in ran.err


def test_where_nothing_can_be_written_nothing_is_measured(run: Any, data: Path, tmp_path: Path) -> None:
    taken = tmp_path / "taken"
    taken.write_text("")
    for option, path, why in (
        ("--json", tmp_path / "gone" / "f.json", "is not a directory"),
        ("--vectors", taken, "is not a directory, nor can be made one"),
    ):
        ran = run("eval", "--data", str(data), "--retriever", "bm25", "--embedder", "none", option, str(path))
        assert ran.status == 2
        assert ran.err.startswith(f"toolmesh: {option}: ")
        assert why in ran.err


def test_an_endpoint_is_no_model_that_an_evaluation_can_name(run: Any, data: Path) -> None:
    ran = run("eval", "--data", str(data), "--embedder", "http")
    assert ran.status == 2
    assert "is a node's; name a model" in ran.err


def test_the_tools_of_a_node_are_exported_page_by_page(tmp_path: Path) -> None:
    class Node:
        """Of a node's two answers: servers, and pages of tools."""

        async def get(self, path: str) -> Any:
            assert path == "/api/v1/servers"
            return {"servers": [{"name": "mail", "description": "Mail."}]}

        async def ask(self, path: str, method: str, params: dict[str, Any]) -> Any:
            assert (path, method) == ("/mcp-all", "tools/list")
            if not params:
                return {"tools": [{"name": "mail__send_email", "description": "Send."}], "nextCursor": "2"}
            assert params == {"cursor": "2"}
            return {"tools": [{"name": "disk__read__file", "inputSchema": {"type": "object"}}]}

    said = asyncio.run(export(Node(), tmp_path / "mine"))  # type: ignore[arg-type]
    assert said.startswith("wrote 2 tools to")
    corpus = tmp_path / "mine" / "corpus.jsonl"
    assert [json.loads(line) for line in corpus.read_text().splitlines()] == [
        {"server": "mail", "tool": "send_email", "description": "Send.", "server_description": "Mail."},
        {"server": "disk", "tool": "read__file", "input_schema": {"type": "object"}},
    ]
    with pytest.raises(Conflict, match="is there already"):
        asyncio.run(export(Node(), tmp_path / "mine"))  # type: ignore[arg-type]


def test_neither_data_nor_export_is_refused_with_the_mend(run: Any) -> None:
    ran = run("eval")
    assert ran.status == 2
    assert "--data is missing: name the folder that holds the sets" in ran.err


def test_an_unknown_retriever_is_named_with_those_there_are(run: Any, data: Path) -> None:
    ran = run("eval", "--data", str(data), "--retriever", "router,magic")
    assert ran.status == 2
    assert "--retriever 'magic' is unknown; choose of bm25, dense, rrf, router, all" in ran.err
