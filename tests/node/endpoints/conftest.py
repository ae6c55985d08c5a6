"""Endpoints over a catalogue of two nodes, whose servers answer with what reached them."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from node.catalog import Catalog
from node.endpoints.addresses import MeshEndpoints
from node.endpoints.meta import MetaEndpoint, MetaSettings
from node.gateway import Gateway
from node.guard.keys import ApiKey
from node.indexing import Indexing
from node.ports import Caller
from proto.calls import Answer, Call, Exchange, Notification
from proto.errors import Unknown
from proto.names import NodeId
from proto.records import Kind, Principal, Record, RecordKey
from router.feedback import Feedback
from router.memory import HashingEmbedder
from router.router import Router
from tests.node.guards import KeyGuard

EU, US = (NodeId("mesh.test", region, f"{region}-1") for region in ("eu", "us"))
KEYS = [ApiKey("clerk", b"1" * 32), ApiKey("intern", b"2" * 32, servers=("wiki",))]
_FIELDS = {Kind.TOOL: "name", Kind.PROMPT: "name", Kind.RESOURCE: "uri", Kind.TEMPLATE: "uriTemplate"}


class Heard:
    """An `Exchange` that keeps what it is told; `said` answers what is asked."""

    def __init__(self) -> None:
        self.events: list[Notification] = []
        self.asked: list[Notification] = []
        self.said: Answer = {"result": {}}
        self._came = asyncio.Event()

    def event(self, notification: Notification) -> None:
        self.events.append(notification)
        self._came.set()

    async def request(self, request: Notification) -> Answer:
        self.asked.append(request)
        return self.said

    async def until(self, count: int) -> list[Notification]:
        async with asyncio.timeout(10):
            while len(self.events) < count:
                self._came.clear()
                await self._came.wait()
        return self.events


class Servers:
    """All of them: an answer says which server was asked, where, and with what params. `tell` speaks to listens."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, Call]] = []
        self.answers: dict[str, Answer] = {}
        self.listening: dict[str, Exchange] = {}
        self.refusing: set[str] = set()
        self.ended = asyncio.Event()

    def on(self, node: str) -> Any:
        async def call(call: Call, exchange: Exchange) -> Answer:
            self.calls.append((node, call))
            if call.method == "subscriptions/listen":
                return await self._listen(f"{call.server}--{node}", call, exchange)
            if (answer := self.answers.get(call.method)) is not None:
                return answer
            return {"result": {"content": [], "at": f"{call.server}--{node}", "params": call.params}}

        return type("Target", (), {"call": staticmethod(call)})()

    async def _listen(self, at: str, call: Call, exchange: Exchange) -> Answer:
        if at in self.refusing:
            raise Unknown(f"{at} hears nobody")
        honoured = call.params["notifications"]
        exchange.event({"method": "notifications/subscriptions/acknowledged", "params": {"notifications": honoured}})
        self.listening[at] = exchange
        try:
            await self.ended.wait()
            return {"result": {}}
        finally:
            del self.listening[at]


class House:
    """Searches by words alone, or, with a `feedback`, by meaning too; `router` must be started then."""

    def __init__(
        self, page_items: int = 3, settings: MetaSettings | None = None, feedback: Feedback | None = None
    ) -> None:
        self.catalog = Catalog(EU)
        self.servers = Servers()
        guard = KeyGuard(KEYS, "mesh.test")
        local = self.servers.on("eu-1")
        self.gateway = Gateway(self.catalog, guard, local=lambda _: local, remote=self.servers.on)
        self.router = Router(HashingEmbedder() if feedback else None, None, feedback=feedback)
        Indexing(self.catalog, self.router)
        meta = MetaEndpoint(self.catalog, guard, self.gateway, self.router, self._add, settings, feedback)
        self.endpoints = MeshEndpoints(meta, self.catalog, guard, self.gateway, page_items)

    async def _add(self, name: str, caller: Caller) -> Any:
        raise Unknown(f"no server named {name!r}")

    def offer(self, node: NodeId, server: str, kind: Kind = Kind.TOOL, *names: str, **more: Any) -> None:
        """What a server says of itself (`more`), and what it offers of one kind, described by the node."""
        body = {
            "name": server,
            "health": {"state": "up"},
            "serverInfo": {"name": server, "version": "1"},
            "capabilities": {"tools": {}, "prompts": {}, "resources": {"subscribe": True}, "completions": {}},
            **more,
        }
        records = [Record.of(Kind.SERVER, server, body)]
        for name in names:
            definition = {_FIELDS[kind]: name, "description": f"{name} of {server}", "vendor": None}
            records.append(Record.of(kind, f"{server}/{name}", definition))
        self.catalog.apply(node, records, [])

    def withdraw(self, node: NodeId, server: str, kind: Kind = Kind.SERVER, name: str = "") -> None:
        self.catalog.apply(node, [], [RecordKey(kind, f"{server}/{name}" if name else server)])

    async def ask(
        self,
        method: str,
        params: dict[str, Any] | None = None,
        caller: str = "clerk",
        at: str | None = "*",
        exchange: Exchange | None = None,
        era: str = "2025-11-25",
    ) -> Any:
        """The result."""
        answer = await self.endpoints.endpoint(at).handle(
            method, params or {}, caller_of(caller, era), exchange or Heard()
        )
        return answer["result"]

    def as_clerk(self) -> tuple[Caller, Exchange]:
        return caller_of("clerk"), Heard()

    async def use(self, tool: str, arguments: dict[str, Any], caller: str = "clerk", **outer: Any) -> Any:
        """The result of one of the meta-tools."""
        return await self.ask("tools/call", {"name": tool, "arguments": arguments, **outer}, caller, at=None)

    async def pages(self, method: str, field: str, caller: str = "clerk", at: str = "*") -> list[list[Any]]:
        found, params = [], {}
        while True:
            result = await self.ask(method, params, caller, at)
            found.append(result[field])
            if "nextCursor" not in result:
                return found
            params = {"cursor": result["nextCursor"]}


def caller_of(subject: str, era: str = "2025-11-25") -> Caller:
    return Caller(Principal(subject, "mesh.test", kind="key"), era, f"session of {subject}")


@pytest.fixture
def house() -> House:
    return House(page_items=3)


@pytest.fixture
def heard() -> Heard:
    return Heard()
