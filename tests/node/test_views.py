"""What the federation reports of a peer, in the catalogue and in the log."""

from __future__ import annotations

import logging

import pytest

from federation.events import Liveness
from node.catalog import Catalog
from node.views import MeshViews
from proto.names import NodeId
from proto.records import Kind, Record

ME, PEER = (NodeId.of("mesh.test", n, f"{n}-1") for n in ("eu", "us"))


@pytest.fixture
def views(caplog: pytest.LogCaptureFixture) -> MeshViews:
    caplog.set_level(logging.INFO, "toolmesh.mesh")
    views = MeshViews(Catalog(ME))
    views.changed(PEER, [Record.of(Kind.SERVER, "units", {"name": "units"})], [])
    return views


def test_the_log_tells_only_what_the_federation_has_not_said(
    views: MeshViews, caplog: pytest.LogCaptureFixture
) -> None:
    for state, listed in [
        (Liveness.ALIVE, True),
        (Liveness.DOWN, True),
        (Liveness.DOWN, False),
        (Liveness.DOWN, False),
        (Liveness.ALIVE, True),
    ]:
        views.liveness(PEER, state, listed=listed)
    assert caplog.messages == [
        "the tools of us-1 leave lists and search",
        "the tools of us-1 are back in lists and search",
    ]


def test_nothing_is_held_of_a_node_that_has_left(views: MeshViews, caplog: pytest.LogCaptureFixture) -> None:
    views.liveness(PEER, Liveness.LEFT, listed=False)
    assert PEER.name not in views._catalog.owners
    assert caplog.messages == []
