"""What nodes learned from use outlives them, and is told to each other over the mesh's own wire."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Collection
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from federation.ca import init_ca
from node.app import App
from node.learning import FILE, METHOD, Learning, secret_of
from node.mesh_keys import make
from node.ports import Caller
from node.searching import who
from proto.calls import Call
from proto.errors import Invalid, Unknown
from proto.names import NodeId
from proto.records import ANONYMOUS, Principal
from router.feedback import Feedback
from router.ports import ToolEntry, ToolKey
from tests.node.waiting import until
from tests.node.working import MESH, app_of, settings_of

MODEL = "model@1"
TOOL = ToolEntry(ToolKey("eu-1", "clock", "get_time"), {"name": "get_time"}, digest=b"d")
QUERY = np.eye(16, dtype=np.float32)[3]


def learn(feedback: Feedback, query: np.ndarray = QUERY, tool: ToolEntry = TOOL, caller: str = "ada") -> None:
    feedback.lifts(query, caller, MODEL)
    feedback.shown(caller, query, [tool])
    assert feedback.called(caller, tool, ok=True)


def lifted(feedback: Feedback, query: np.ndarray = QUERY) -> bool:
    return bool(feedback.lifts(query, "ada", MODEL))


@dataclass
class Node:
    app: App
    feedback: Feedback
    learning: Learning


def learning(app: App, directory: Path, peers: Collection[NodeId] | None = None) -> Node:
    """Rounds come when the test says so, not by the clock."""
    feedback = Feedback(secret=secret_of(MESH, ()))

    def others() -> Collection[NodeId]:
        return [o.id for o in app.catalog.owners.values()] if peers is None else peers

    directory.mkdir(exist_ok=True)
    made = Learning(feedback, directory / FILE, app.catalog.me, app.gateway, others, every_s=86_400)
    return Node(app, feedback, made)


@pytest.fixture
async def alone(tmp_path: Path) -> App:
    return app_of({}, tmp_path)


@pytest.fixture
async def pair(tmp_path: Path) -> AsyncIterator[tuple[Node, Node]]:
    """Two nodes of one mesh that know of each other."""
    init_ca(tmp_path / "ca", MESH)
    async with AsyncExitStack() as stack:
        eu = app_of(settings_of("eu", tmp_path), tmp_path)
        stack.push_async_callback(eu.stop)
        await eu.start()
        assert eu.federation is not None
        ap = app_of(settings_of("ap", tmp_path, static=[f"127.0.0.1:{eu.federation.bound_port}"]), tmp_path)
        stack.push_async_callback(ap.stop)
        await ap.start()
        for app in (eu, ap):
            await until(app, lambda app=app: len(app.catalog.owners) == 2)  # type: ignore[misc]
        yield learning(eu, tmp_path / "learned-eu"), learning(ap, tmp_path / "learned-ap")


async def test_what_one_node_learned_is_known_at_the_other_after_a_round(pair: tuple[Node, Node]) -> None:
    eu, ap = pair
    # More than one page.
    queries = np.random.default_rng(1).normal(size=(600, 16)).astype(np.float32)
    queries /= np.linalg.norm(queries, axis=1, keepdims=True)
    for n, query in enumerate(queries):
        learn(eu.feedback, query, replace(TOOL, key=TOOL.key._replace(tool=f"tool-{n}")))
    assert not lifted(ap.feedback, queries[-1])
    await ap.learning.round()
    assert ap.feedback.status().foreign == 600
    assert lifted(ap.feedback, queries[-1])
    learn(eu.feedback)
    await ap.learning.round()
    assert ap.feedback.status().foreign == 601
    assert eu.feedback.status().foreign == 0, "what was told is not passed on, least of all back"


async def test_a_node_without_a_search_yet_takes_nothing_and_hears_it_later(pair: tuple[Node, Node]) -> None:
    eu, ap = pair
    learn(eu.feedback)
    await ap.learning.round()
    assert ap.feedback.status().foreign == 0, "of which model that is, is not known here yet"
    assert not lifted(ap.feedback)
    await ap.learning.round()
    assert lifted(ap.feedback)


async def test_what_a_node_told_goes_when_it_has_left(pair: tuple[Node, Node], tmp_path: Path) -> None:
    eu, ap = pair
    learn(eu.feedback)
    ap.feedback.lifts(QUERY, "", MODEL)
    await ap.learning.round()
    assert lifted(ap.feedback)
    without = learning(ap.app, tmp_path / "without", peers=())
    without.learning._feedback = ap.feedback
    await without.learning.round()
    assert not lifted(ap.feedback)


async def test_a_round_goes_on_where_a_peer_does_not_answer(
    pair: tuple[Node, Node], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    eu, ap = pair
    learn(eu.feedback)
    ap.feedback.lifts(QUERY, "", MODEL)
    absent = NodeId.of(MESH, "eu", "aa-never-there")
    both = learning(ap.app, tmp_path / "both", peers=[absent, eu.app.catalog.me])
    both.learning._feedback = ap.feedback
    with caplog.at_level(logging.DEBUG, "toolmesh.learning"):
        await both.learning.round()
    assert "aa-never-there was not heard" in caplog.text
    assert lifted(ap.feedback)


async def test_another_trust_domain_is_told_nothing_and_not_asked(alone: App, tmp_path: Path) -> None:
    stranger = NodeId.of("elsewhere.test", "eu", "eu-9")
    node = learning(alone, tmp_path / "kept", peers=[stranger])
    learn(node.feedback)
    call = Call(call_id="1", server="", method=METHOD, params={})
    with pytest.raises(Unknown):
        await node.learning.answer(call, None, stranger)  # type: ignore[arg-type]
    await node.learning.round()
    assert node.feedback.status().peers == 0


@pytest.mark.parametrize("params", [{"life": 7}, {"since": "x"}, {"life": None}])
async def test_a_question_that_makes_no_sense_is_refused(alone: App, tmp_path: Path, params: dict[str, Any]) -> None:
    node = learning(alone, tmp_path / "kept")
    with pytest.raises(Invalid, match="params"):
        await alone.gateway.carry(alone.catalog.me.name, METHOD, params, Caller(), None)  # type: ignore[arg-type]
    assert node.feedback.status().own == 0


async def test_it_is_there_again_after_a_restart_and_gone_after_a_reset(alone: App, tmp_path: Path) -> None:
    first = learning(alone, tmp_path / "kept")
    await first.learning.start()
    learn(first.feedback)
    await first.learning.stop()

    second = learning(alone, tmp_path / "kept")
    await second.learning.start()
    assert lifted(second.feedback)
    assert await second.learning.reset() == 1
    assert not lifted(second.feedback)
    await second.learning.stop()

    third = learning(alone, tmp_path / "kept")
    await third.learning.start()
    assert not lifted(third.feedback)
    await third.learning.stop()


async def test_a_directory_that_cannot_be_written_stops_nothing(
    alone: App, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    node = learning(alone, tmp_path / "kept")
    await node.learning.start()
    learn(node.feedback)
    (tmp_path / "kept").rmdir()
    await node.learning.stop()
    assert "cannot be kept" in caplog.text
    assert lifted(node.feedback)


def test_principals_are_told_apart_by_issuer_tenant_and_subject() -> None:
    ada = Principal("ada", "keys", "t1", kind="key")
    others = (replace(ada, tenant="t2"), replace(ada, issuer="idp"), replace(ada, subject="bob"), ANONYMOUS)
    assert len({who(Caller(p)) for p in (ada, *others)}) == 5
    assert who(Caller(ada)) == who(Caller(replace(ada, groups=("g",), scopes=("s",)), session_key="other"))


def test_nodes_that_share_a_mesh_key_know_a_principal_by_the_same_hash(tmp_path: Path) -> None:
    make(tmp_path / "one")
    make(tmp_path / "two")
    assert secret_of(MESH, [tmp_path / "one"]) == secret_of(MESH, [tmp_path / "one", tmp_path / "two"])
    assert len({secret_of(MESH, [tmp_path / "one"]), secret_of(MESH, [tmp_path / "two"]), secret_of(MESH, ())}) == 3
    assert secret_of(MESH, ()) != secret_of("other.test", ())
