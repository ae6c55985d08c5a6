"""`toolmesh leave` against a node: what it asks first, what it prints, and its exit status."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from node.verbs import leave
from tests.node.cli.conftest import SERVER, Node, Run

GONE = {"left": True, "in_flight": 0, "for_peers": 0, "sessions": 0, "told": ["ap-1", "us-1"], "untold": []}
OWN = {**SERVER, "owner": "eu-1", "state": "up"}


@pytest.fixture
def ending(monkeypatch: pytest.MonkeyPatch) -> None:
    """The twin does not end."""
    monkeypatch.setattr(leave, "ENDS_WITHIN_S", 0.0)


@pytest.fixture
def leaving(node: Node, ending: None) -> list[tuple[float, bool]]:
    """What the node was asked; it leaves at once."""
    asked: list[tuple[float, bool]] = []

    async def go(wait_s: float, cut: bool) -> dict[str, Any]:
        asked.append((wait_s, cut))
        return GONE

    node.twin.leave = go  # type: ignore[method-assign]
    return asked


def servers(node: Node, *those: dict[str, Any]) -> None:
    before = node.twin.status()
    node.twin.status = lambda: {**before, "servers": list(those)}  # type: ignore[method-assign]


def test_a_node_that_leaves_is_drained_first_and_says_who_took_its_goodbye(
    run: Run, node: Node, leaving: list[tuple[float, bool]]
) -> None:
    ran = run("leave", "--yes", **node.environment)
    assert (ran.status, ran.out) == (0, "it has left: 2 peers took its goodbye (ap-1, us-1)\n")
    assert leaving == [(0.0, False)]
    assert any(asked[0] is True for asked in node.twin.asked)


def test_peers_that_could_not_be_told_are_named_with_what_becomes_of_them() -> None:
    said = leave.outcome({**GONE, "told": [], "untold": ["ap-1"]}, 30)
    assert said == (
        "it has left: 0 peers took its goodbye; not told: ap-1, which will hold it for down and forget it after a day"
    )


def test_calls_that_run_keep_it_and_the_ways_out_are_said(run: Run, node: Node) -> None:
    ran = run("leave", "--yes", "--wait", "0", **node.environment)
    assert ran.status == 1
    assert ran.out == (
        "it has not left: after 0 s 1 call runs, 0 for other nodes; wait longer with --wait, cut them with --cut, "
        "or let it stay with 'toolmesh drain --undo'\n"
    )
    assert node.twin.asked[-1] == (0.0, False)
    run("leave", "--yes", "--cut", **node.environment)
    assert node.twin.asked[-1] == (0.0, True)


def test_nobody_to_be_asked_is_no_yes(run: Run, node: Node, leaving: list[tuple[float, bool]]) -> None:
    ran = run("leave", **node.environment)
    assert ran.status == 2
    assert "give --yes" in ran.err
    assert leaving == node.twin.asked == []


@pytest.mark.parametrize(("said", "status"), [(True, 0), (False, 1)])
def test_a_person_is_told_what_goes_with_the_node_and_asked(
    run: Run,
    node: Node,
    leaving: list[tuple[float, bool]],
    monkeypatch: pytest.MonkeyPatch,
    said: bool,
    status: int,
) -> None:
    questions: list[str] = []

    def confirm(question: str, **_: Any) -> bool:
        questions.append(question)
        return said

    # The terminal is typer's own, and is not tested again.
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True)
    monkeypatch.setattr("typer.confirm", confirm)
    servers(
        node,
        {**OWN, "name": "ledger"},
        {**OWN, "name": "units--eu-1", "service": "units"},
        {**OWN, "name": "units--ap-1", "service": "units", "owner": "ap-1"},
        {**OWN, "name": "dates--eu-1", "service": "dates"},
        {**OWN, "name": "dates--ap-1", "service": "dates", "owner": "ap-1", "state": "down"},
    )
    assert run("leave", **node.environment).status == status
    assert questions == [
        "eu-1 leaves m for good: peers delete what they hold of it, and its process ends; "
        "no other node has dates--eu-1, ledger. Go on?"
    ]
    assert bool(leaving) is said


def test_a_node_that_runs_alone_is_not_drained_for_nothing(
    run: Run, node: Node, leaving: list[tuple[float, bool]]
) -> None:
    status = node.twin.status()
    node.twin.status = lambda: {**status, "node": {**status["node"], "grpc": ""}}  # type: ignore[method-assign]
    ran = run("leave", "--yes", **node.environment)
    assert ran.status == 1
    assert ran.err == "toolmesh: eu-1 runs alone: there is no mesh to leave; stop it with SIGTERM or Ctrl-C\n"
    assert leaving == node.twin.asked == []
