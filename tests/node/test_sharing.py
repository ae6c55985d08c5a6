"""Vectors between the nodes of a mesh, over real mTLS: a text is embedded once, by whoever owns its tool."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from pathlib import Path

import numpy as np
import pytest

from federation.ca import init_ca
from federation.driver import Federation
from federation.events import Liveness
from federation.lending import Loan
from node.sharing import SharedVectors
from proto import jsons
from router.keeping import KeptVectors
from router.memory import HashingEmbedder, MemoryStore
from router.ports import ToolEntry, ToolKey, Vectors
from router.router import Router
from tests.wire.meshes import DOMAIN, WAIT_S, Mesh, at, status_where

TOOLS = ("convert currency", "read file", "send mail")


class Recorder(HashingEmbedder):
    """Remembers what it was given to embed."""

    def __init__(self, dimensions: int = 256) -> None:
        super().__init__(dimensions)
        self.texts: list[str] = []

    def embed(self, texts: Sequence[str], *, query: bool = False) -> Vectors:
        if not query:
            self.texts += texts
        return super().embed(texts, query=query)


class Node:
    """What of a node has to do with vectors, joined as `App` does it."""

    def __init__(self, name: str, embedder: Recorder) -> None:
        self.name = name
        self.embedder = embedder
        self.kept = KeptVectors(MemoryStore(), get_s=60)
        self.shared = SharedVectors(name, "eu", embedder, self.kept)
        self.router = Router(embedder, self.kept, source=self.shared)
        self.federation: Federation | None = None

    async def start(self, mesh: Mesh, *seeds: str) -> None:
        self.federation, _ = await mesh.node(self.name, *seeds, lender=self.shared)
        self.shared.join(self.federation, lambda: self.router.status().pending > 0)
        await self.router.start()

    async def embedded(self) -> None:
        async with asyncio.timeout(WAIT_S):
            await self.router.settled()

    @property
    def address(self) -> str:
        assert self.federation is not None
        return at(self.federation)

    async def meets(self) -> None:
        assert self.federation is not None
        await status_where(self.federation, lambda s: s.state is Liveness.ALIVE)


def entries(owner: str, tools: Sequence[str] = TOOLS) -> list[ToolEntry]:
    made = []
    for tool in tools:
        definition = {"name": tool.replace(" ", "_"), "description": f"It can {tool}. And it tells how it went."}
        key = ToolKey(owner, "desk", tool.replace(" ", "_"))
        made.append(ToolEntry(key, definition, jsons.digest(definition), server_description="All about desks."))
    return made


class World:
    def __init__(self, mesh: Mesh, stack: AsyncExitStack) -> None:
        self.mesh = mesh
        self._stack = stack

    async def node(self, name: str, *seeds: str, embedder: Recorder | None = None) -> Node:
        node = Node(name, embedder or Recorder())
        self._stack.push_async_callback(node.router.stop)
        await node.start(self.mesh, *seeds)
        return node


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    init_ca(tmp_path / "ca", DOMAIN)
    mesh = Mesh(tmp_path / "ca", tmp_path)
    async with AsyncExitStack() as stack:
        yield World(mesh, stack)
    await asyncio.gather(*(f.stop() for f in mesh.running))


async def test_a_second_node_embeds_nothing_of_what_the_first_one_owns(world: World) -> None:
    a = await world.node("a")
    a.router.apply(entries("a"), ())
    await a.embedded()
    b = await world.node("b", a.address)
    await b.meets()
    b.router.apply(entries("a"), ())
    await b.embedded()
    assert b.embedder.texts == []
    status = b.router.status()
    assert (status.embedded, status.computed, status.from_peers) == (3, 0, len(set(a.embedder.texts)))
    assert a.shared.lent == status.from_peers
    one, other = [await n.router.search("send a mail", k=3) for n in (a, b)]
    assert [h.entry.key for h in one.hits] == [h.entry.key for h in other.hits]
    np.testing.assert_allclose([h.score for h in one.hits], [h.score for h in other.hits], atol=1e-3)


async def asked_again(owner: Node) -> None:
    """Until it has been asked for vectors, and has not only begun to answer: twice, one after the other."""
    asked = asyncio.Semaphore(0)
    lend = owner.shared.lend

    async def lending(model: str, recipe: str, digests: Sequence[bytes]) -> Loan:
        loan = await lend(model, recipe, digests)
        asked.release()
        return loan

    owner.shared.lend = lending  # type: ignore[method-assign]
    async with asyncio.timeout(WAIT_S):
        await asked.acquire()
        await asked.acquire()


async def test_while_the_owner_is_embedding_the_others_wait_for_it(world: World) -> None:
    a = await world.node("a")
    b = await world.node("b", a.address)
    await b.meets()
    # The owner has heard of its tools and has not embedded them yet.
    still = True
    assert a.federation is not None
    a.shared.join(a.federation, lambda: still)
    b.router.apply(entries("a"), ())
    await asked_again(a)
    assert b.router.status().computed == 0
    assert (await b.router.search("send a mail")).hits
    a.router.apply(entries("a"), ())
    await a.embedded()
    still = False
    await b.embedded()
    assert b.embedder.texts == []


async def test_texts_of_a_node_s_own_are_embedded_though_others_are_waited_for(world: World) -> None:
    a = await world.node("a")
    b = await world.node("b", a.address)
    await b.meets()
    assert a.federation is not None
    a.shared.join(a.federation, lambda: True)
    b.router.apply([*entries("a", TOOLS[:1]), *entries("b", TOOLS[1:2])], ())
    await asked_again(a)
    assert b.router.status().embedded == 1
    assert not any("currency" in text for text in b.embedder.texts)


async def test_two_owners_of_one_text_do_not_wait_for_each_other(world: World) -> None:
    a = await world.node("a")
    b = await world.node("b", a.address)
    await b.meets()
    await a.meets()
    for node in (a, b):
        assert node.federation is not None
        node.shared.join(node.federation, lambda: True)
    # Each takes the text for the other one's.
    a.router.apply(entries("b"), ())
    b.router.apply(entries("a"), ())
    await a.embedded()
    await b.embedded()
    assert a.router.status().embedded == b.router.status().embedded == 3


async def test_what_is_waited_for_in_vain_is_computed(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("node.sharing.PATIENCE_S", 0.0)
    a = await world.node("a")
    b = await world.node("b", a.address)
    await b.meets()
    assert a.federation is not None
    a.shared.join(a.federation, lambda: True)
    b.router.apply(entries("a"), ())
    await b.embedded()
    assert b.router.status().computed > 0


async def test_vectors_of_another_model_are_refused_and_computed_here(world: World) -> None:
    a = await world.node("a")
    a.router.apply(entries("a"), ())
    await a.embedded()
    b = await world.node("b", a.address, embedder=Recorder(64))
    await b.meets()
    b.router.apply(entries("a"), ())
    await b.embedded()
    status = b.router.status()
    assert (status.embedded, status.from_peers) == (3, 0)
    assert len(b.embedder.texts) == len(set(a.embedder.texts))


async def test_what_its_owner_cannot_give_another_peer_may_have(world: World) -> None:
    a = await world.node("a")
    a.router.apply(entries("gone"), ())
    await a.embedded()
    b = await world.node("b", a.address)
    await b.meets()
    b.router.apply(entries("gone"), ())
    await b.embedded()
    assert b.embedder.texts == []


async def test_an_owner_that_dies_meanwhile_costs_the_computing_only(world: World) -> None:
    a = await world.node("a")
    a.router.apply(entries("a"), ())
    await a.embedded()
    b = await world.node("b", a.address)
    await b.meets()
    asked = asyncio.Event()

    async def lend(*_: object) -> None:
        asked.set()
        await asyncio.Event().wait()

    a.shared.lend = lend  # type: ignore[assignment, method-assign]
    b.router.apply(entries("a"), ())
    async with asyncio.timeout(WAIT_S):
        await asked.wait()
    assert a.federation is not None
    await a.federation.stop()
    await b.embedded()
    assert b.router.status().computed == len(set(b.embedder.texts)) > 0


@pytest.mark.parametrize("fault", ["width", "length", "not a number"])
async def test_a_peer_whose_vectors_cannot_be_right_is_not_believed(world: World, fault: str) -> None:
    a = await world.node("a")
    a.router.apply(entries("a"), ())
    await a.embedded()
    real = a.shared._kept.get
    spoil = {"width": lambda v: v[:-1], "length": lambda v: v * 2, "not a number": lambda v: v * np.nan}[fault]
    a.shared._kept.get = lambda digests: {d: spoil(v) for d, v in real(digests).items()}  # type: ignore[method-assign]
    b = await world.node("b", a.address)
    await b.meets()
    b.router.apply(entries("a"), ())
    await b.embedded()
    status = b.router.status()
    assert (status.embedded, status.from_peers) == (3, 0)
    assert b.shared.doubted == ("a",)
