"""eu-1 as it sees the mesh, with everything that `explain` asks: a catalogue, a guard, a gateway, a router."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from federation.events import Liveness
from federation.refusals import Refusal
from federation.status import PeerStatus
from node.catalog import Catalog
from node.explaining.case import Sources
from node.explaining.explain import explain
from node.gateway import Gateway
from node.guard.keys import ApiKey
from node.guard.open import OpenGuard
from node.indexing import Indexing
from node.operator.explained import Explanation, Finding
from node.ports import Guard
from proto.names import NodeId
from proto.records import ANONYMOUS, Principal, Record
from router.router import Router
from tests.node.guards import KeyGuard
from tests.node.keyed import keyed

MESH = "mesh.test"
KEYS = [ApiKey("alice", b"1" * 32, servers=("geo", "text-*")), ApiKey("root", b"2" * 32)]


@dataclass
class World:
    catalog: Catalog
    make: Callable[..., list[Record]]
    peers: dict[str, PeerStatus] = field(default_factory=dict)
    guard: Guard = field(default_factory=OpenGuard)
    refusals: tuple[Refusal, ...] = ()
    catalogue: frozenset[str] = frozenset()
    unapproved: frozenset[str] = frozenset()
    loaded: bool = True

    def __post_init__(self) -> None:
        self.router = Router(None, None)
        Indexing(self.catalog, self.router)
        self.gateway = self._gateway()

    def _gateway(self) -> Gateway:
        def none(_: str) -> Any:
            raise AssertionError("nothing is called")

        return Gateway(self.catalog, self.guard, local=none, remote=none, clock=lambda: 1_000.0)

    def hosts(self, node: NodeId, name: str, *tools: str, **more: Any) -> None:
        self.catalog.apply(node, self.make(name, *tools, **more), [])
        if node != self.catalog.me:
            self.peers.setdefault(node.name, PeerStatus(node, "10.0.0.1:7401", Liveness.ALIVE, since_ms=60_000))

    def becomes(self, node: NodeId, state: Liveness, cause: str = "", *, listed: bool = True) -> None:
        self.peers[node.name] = replace(self.peers[node.name], state=state, cause=cause, since_ms=90_000)
        self.catalog.set_liveness(node, state, listed=listed)

    def with_keys(self) -> None:
        self.guard = KeyGuard(KEYS, MESH)
        self.gateway = self._gateway()

    def ask(self, tool: str, server: str = "", who: str = "anonymous") -> Explanation:
        principal: Principal = keyed(KEYS, MESH).principals().get(who, ANONYMOUS)
        sources = Sources(
            self.catalog,
            self.guard,
            self.gateway,
            self.router,
            tuple(self.peers.values()),
            self.refusals,
            self.catalogue,
            self.unapproved,
            self.loaded,
        )
        return explain(sources, server, tool, principal)


def told(answer: Explanation, about: str) -> list[Finding]:
    return [f for f in answer["findings"] if f["about"] == about]


@pytest.fixture
def world(catalog: Catalog, make_server: Callable[..., list[Record]]) -> World:
    return World(catalog, make_server)


@pytest.fixture
def findings() -> Callable[[Explanation, str], list[Finding]]:
    return told
