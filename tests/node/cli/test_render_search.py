"""What people see of a search that has more to tell than its hits."""

from __future__ import annotations

from typing import Any

import pytest

from node.verbs import render_search, tables

HIT = {
    "server": "wiki",
    "tool": "read_page",
    "kind": "tool",
    "description": "Read a page.",
    "signature": "read_page(page: string)",
    "score": 0.5,
    "owner": "eu-1",
    "region": "eu",
    "health": "up",
    "replicas": ["eu-1", "us-1"],
    "alike": ["books"],
}


def lines(capsys: pytest.CaptureFixture[str], *hits: dict[str, Any], **answer: Any) -> list[str]:
    whole = {"mode": "hybrid", "confidence": "low", "took_ms": 2.0, "searched": 9, "hits": list(hits), **answer}
    tables.show(*render_search.search(whole))
    return capsys.readouterr().out.splitlines()


def test_replicas_and_tools_nearly_the_same_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert lines(capsys, HIT) == [
        "0.50  wiki read_page  at eu-1, us-1 (eu), nearly the same at books",
        "      read_page(page: string)",
        "      Read a page.",
        "hybrid search among 9, confidence low, 2.0 ms",
    ]


def test_what_a_label_is_made_of_is_told_last(capsys: pytest.CaptureFixture[str]) -> None:
    shown = lines(capsys, HIT, signals={"cosine": 0.512, "named": 0.0, "likely": 0.25})
    assert shown[-1] == "the label comes of cosine 0.51, likely 0.25"


def test_what_cannot_be_used_and_what_fits_instead_follow_the_hits(capsys: pytest.CaptureFixture[str]) -> None:
    gone = {**HIT, "server": "gone", "why_not": "node us-1 is down\x1b[2J"}
    prompt = {**HIT, "kind": "prompt", "tool": "review", "alike": []}
    shown = lines(capsys, HIT, unusable=[gone], instead=prompt)
    assert "near too, but not usable now: gone read_page (node us-1 is down\\x1b[2J)" in shown
    assert shown[3] == "a prompt seems to fit, though:"
    assert shown[4] == "0.50  wiki review  prompt at eu-1, us-1 (eu)"
