"""`toolmesh drain` against a node: what it waits for, what it prints, and its exit status."""

from __future__ import annotations

from typing import Any

import pytest

from tests.node.cli.conftest import Node, Run


def state(in_flight: int = 0, *, for_peers: int = 0, sessions: int = 0, done: bool = False) -> dict[str, Any]:
    return {
        "draining": True,
        "in_flight": in_flight,
        "for_peers": for_peers,
        "sessions": sessions,
        "done": done,
    }


class Draining:
    """Answers with one state after the other, the last one again and again; keeps what it was asked."""

    def __init__(self, *states: dict[str, Any]) -> None:
        self._states = list(states)
        self.asked: list[tuple[bool, float]] = []

    async def __call__(self, on: bool, wait_s: float) -> dict[str, Any]:
        self.asked.append((on, wait_s))
        if not on:
            return {**state(), "draining": False}
        return self._states.pop(0) if len(self._states) > 1 else self._states[0]


def draining(node: Node, *states: dict[str, Any]) -> Draining:
    node.twin.drain = Draining(*states)  # type: ignore[attr-defined]
    return node.twin.drain  # type: ignore[attr-defined,no-any-return]


def test_what_remains_is_said_once_for_each_change_until_nothing_runs(run: Run, node: Node) -> None:
    busy = state(3, for_peers=2, sessions=1)
    told = draining(node, busy, busy, state(1, for_peers=1), state(), state(done=True))
    ran = run("drain", "--wait", "60", **node.environment)
    assert ran.status == 0
    assert ran.out.startswith("drained: nothing runs, and other nodes send nothing")
    assert ran.err.splitlines() == [
        "draining: 3 calls run, 2 for other nodes; 1 session of agents stays until it stops",
        "draining: 1 call runs, 1 for other nodes",
        "draining: nothing runs, but work may still be on its way",
    ]
    assert all(on and 0 < wait_s <= 1 for on, wait_s in told.asked)


def test_a_node_that_is_not_drained_in_time_gives_status_1_and_the_ways_out(run: Run, node: Node) -> None:
    told = draining(node, state(2, for_peers=0))
    ran = run("drain", "--wait", "0", **node.environment)
    assert ran.status == 1
    assert ran.out.startswith("after 0 s: 2 calls run, 0 for other nodes; wait longer with --wait")
    assert told.asked == [(True, 0.0)]


def test_draining_is_taken_back(run: Run, node: Node) -> None:
    told = draining(node, state(2))
    ran = run("drain", "--undo", **node.environment)
    assert (ran.status, ran.out) == (0, "the node takes new work\n")
    assert told.asked == [(False, 0.0)]


def test_json_is_what_the_node_answered_last(run: Run, node: Node) -> None:
    draining(node, state(done=True))
    ran = run("drain", "--json", **node.environment)
    assert (ran.status, ran.out) == (
        0,
        '{"draining":true,"in_flight":0,"for_peers":0,"sessions":0,"done":true}\n',
    )


@pytest.mark.parametrize("key", ["", "wrong"])
def test_a_caller_without_the_operators_key_drains_nothing(run: Run, node: Node, key: str) -> None:
    told = draining(node, state(done=True))
    ran = run("drain", **{**node.environment, "TOOLMESH_KEY": key})
    assert ran.status == 1
    assert told.asked == []
