from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from node.upstreams.spec import UpstreamSpec
from node.upstreams.upstream import Offer, Upstream
from proto.calls import Answer, Call, Notification
from proto.errors import Unavailable

SERVERS = Path(__file__).parent / "servers"
PATIENCE_S = 20.0


class Recorder:
    """An `Exchange` that keeps what it hears."""

    def __init__(self) -> None:
        self.heard: list[Notification] = []
        self.first = asyncio.Event()

    def event(self, notification: Notification) -> None:
        self.heard.append(notification)
        self.first.set()

    async def request(self, request: Notification) -> Answer:
        raise Unavailable("nobody to ask")


class Client(Recorder):
    """An `Exchange` of a client that answers what it is asked: `answers` by method, else -32601; or not until told."""

    def __init__(self, **answers: Any) -> None:
        super().__init__()
        self.answers = {name.replace("_", "/"): value for name, value in answers.items()}
        self.asked: list[Notification] = []
        self.question = asyncio.Event()
        self.go_on = asyncio.Event()
        self.taken_back = asyncio.Event()
        self.go_on.set()

    async def request(self, request: Notification) -> Answer:
        self.asked.append(request)
        self.question.set()
        try:
            await self.go_on.wait()
        except asyncio.CancelledError:
            self.taken_back.set()
            raise
        answer = self.answers.get(request["method"])
        if answer is None:
            return {"error": {"code": -32601, "message": "not I"}}
        return {"result": answer}


class Watched:
    """An upstream and every offer that it made."""

    def __init__(self, spec: UpstreamSpec) -> None:
        self.offers: list[Offer] = []
        self._news = asyncio.Event()
        self.upstream = Upstream(spec, self._note, clock=lambda: 1_000)

    def _note(self, offer: Offer) -> None:
        self.offers.append(offer)
        self._news.set()

    async def until(self, holds: Callable[[Offer], bool]) -> Offer:
        async with asyncio.timeout(PATIENCE_S):
            while not (self.offers and holds(self.offers[-1])):
                self._news.clear()
                await self._news.wait()
        return self.offers[-1]

    async def until_up(self) -> Offer:
        return await self.until(lambda o: o.health.state == "up")

    async def until_down(self) -> Offer:
        return await self.until(lambda o: o.health.state == "down")

    async def tool(
        self, name: str, arguments: dict[str, Any] | None = None, exchange: Recorder | None = None, **more: Any
    ) -> Answer:
        params = {"name": name, "arguments": arguments or {}, **more.pop("params", {})}
        return await self.ask("tools/call", params, exchange, **more)

    async def ask(self, method: str, params: dict[str, Any], exchange: Recorder | None = None, **more: Any) -> Answer:
        call = Call(more.pop("call_id", "c1"), self.upstream.spec.name, method, params, **more)
        return await self.upstream.run(call, exchange or Recorder())


Watch = Callable[..., Any]


@pytest.fixture
async def watch() -> AsyncIterator[Watch]:
    """Start an upstream and hand it over, watched; all are stopped at the end."""
    started: list[Upstream] = []

    async def begin(spec: UpstreamSpec) -> Watched:
        watched = Watched(spec)
        started.append(watched.upstream)
        await watched.upstream.start()
        return watched

    yield begin
    await asyncio.gather(*(u.stop() for u in started))


@pytest.fixture
def raw() -> Callable[..., UpstreamSpec]:
    """The spec of the bare stdio server in given modes."""

    def build(*modes: str, **more: Any) -> UpstreamSpec:
        command = (sys.executable, "-S", "-E", str(SERVERS / "raw_stdio.py"), *modes)
        return UpstreamSpec("raw", command=command, **more)

    return build


@pytest.fixture
def recorder() -> Callable[[], Recorder]:
    return Recorder
