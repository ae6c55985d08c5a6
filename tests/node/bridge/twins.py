"""A server of either era as a function, a bridge over it, and a client that is told and asked."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from node.bridge.bridge import Bridge
from node.bridge.lot import Lot
from node.sealing import Sealer
from node.upstreams.spec import UpstreamSpec
from proto.calls import Answer, Call, Exchange, Notification
from proto.errors import Unavailable
from proto.records import Principal

LEGACY, MODERN = "2025-11-25", "2026-07-28"
ALL = {"elicitation": {"form": {}, "url": {}}, "sampling": {}, "roots": {}}
ANNE, BERT = Principal("anne", kind="key"), Principal("bert", kind="key")
WAIT_S = 10.0

Serve = Callable[[Call, Exchange], Awaitable[Answer]]


@dataclass
class Lists:
    tools: tuple[dict[str, Any], ...] = ()


@dataclass
class Server:
    """A `Bridgeable` that runs `serve`. `calls` came, `cancelled` of them were cancelled."""

    serve: Serve
    modern: bool | None = False
    legacy: bool | None = True
    learns: bool = False
    plain: bool = False
    legacy_learns: bool = True
    spec: UpstreamSpec = field(default_factory=lambda: UpstreamSpec("ask", command=("ask",)))
    offer: Lists = field(default_factory=Lists)
    calls: list[Call] = field(default_factory=list)
    running: int = 0
    cancelled: int = 0
    idle: asyncio.Event = field(default_factory=asyncio.Event)

    full: Callable[[], object] = lambda: None

    def main_will_do(self, call: Call) -> bool:
        return self.plain

    async def learn(self) -> None:
        self.modern = self.learns

    async def learn_legacy(self) -> None:
        self.legacy = self.legacy_learns

    def when_full(self, do: Callable[[], object]) -> None:
        self.full = do

    async def run(self, call: Call, exchange: Exchange) -> Answer:
        self.calls.append(call)
        self.running += 1
        try:
            return await self.serve(call, exchange)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.running -= 1
            self.idle.set()


@dataclass
class Client:
    """An `Exchange` that answers questions by `answers[method]`, if it has one; `heard` keeps what it is told."""

    answers: dict[str, Any] = field(default_factory=dict)
    heard: list[Notification] = field(default_factory=list)
    asked: list[Notification] = field(default_factory=list)

    def event(self, notification: Notification) -> None:
        self.heard.append(notification)

    async def request(self, request: Notification) -> Answer:
        self.asked.append(request)
        if request["method"] not in self.answers:
            raise Unavailable("nobody is to be asked here")
        answer = self.answers[request["method"]]
        return answer if "error" in answer else {"result": answer}


class Timers:
    """A clock that goes when it is told to."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self._set: dict[int, tuple[float, Callable[[], None]]] = {}
        self._last = 0

    def time(self) -> float:
        return self.now_s

    def call_later(self, delay: float, callback: Callable[[], None], /) -> Timer:
        self._last += 1
        self._set[self._last] = (self.now_s + delay, callback)
        return Timer(self._set, self._last)

    def go(self, seconds: float) -> None:
        self.now_s += seconds
        for n, (at_s, do) in sorted(self._set.items()):
            if at_s <= self.now_s and self._set.pop(n, None):
                do()


@dataclass
class Timer:
    of: dict[int, tuple[float, Callable[[], None]]]
    n: int

    def cancel(self) -> None:
        self.of.pop(self.n, None)


@dataclass
class Mesh:
    """One node with one server, and its clients' words for calling it."""

    server: Server
    timers: Timers
    bridge: Bridge
    _made: int = 0

    def call(self, era: str, params: dict[str, Any] | None = None, method: str = "tools/call", **more: Any) -> Call:
        self._made += 1
        return Call(
            call_id=f"c{self._made}",
            server="ask",
            method=method,
            params=params or {"name": "ask", "arguments": {"n": 1}},
            era=era,
            **{"principal": ANNE, "client_capabilities": ALL, **more},
        )

    async def run(self, call: Call, client: Client | None = None) -> Answer:
        async with asyncio.timeout(WAIT_S):
            return await self.bridge.target(self.server).call(call, client or Client())


def mesh_of(serve: Serve, *, modern: bool = False, service: str = "", **bounds: Any) -> Mesh:
    """`bounds` are `Lot`'s."""
    timers = Timers()
    bridge = Bridge("eu-1", Sealer([b"k" * 32], clock=lambda: timers.now_s), Lot(clock=timers, **bounds))
    spec = UpstreamSpec("ask", command=("ask",), service=service)
    return Mesh(Server(serve, modern, not modern, spec=spec), timers, bridge)
