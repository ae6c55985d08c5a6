"""Several listens as one: nothing before the acknowledgement, and an end that everybody notices."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from node.endpoints import listens
from node.endpoints.listens import ACKNOWLEDGED, merged, nothing_to_hear
from proto.calls import Answer, Exchange
from proto.errors import Unavailable, Unknown

if TYPE_CHECKING:
    from tests.node.endpoints.conftest import Heard


def acknowledgement(**honoured: Any) -> dict[str, Any]:
    return {"method": ACKNOWLEDGED, "params": {"notifications": honoured}}


class Server:
    """Acknowledges when told to, and ends with `end`."""

    def __init__(self, *uris: str) -> None:
        self.uris = list(uris)
        self.go = asyncio.Event()
        self.end: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self.came, self.left = asyncio.Event(), asyncio.Event()
        self.exchange: Exchange | None = None

    async def listen(self, exchange: Exchange) -> Answer:
        self.exchange = exchange
        self.came.set()
        try:
            await self.go.wait()
            exchange.event(acknowledgement(resourceSubscriptions=self.uris))
            exchange.event({"method": "notifications/resources/updated", "params": {"uri": self.uris[0]}})
            return await self.end
        finally:
            self.left.set()


async def refuse(exchange: Exchange) -> Answer:
    raise Unavailable("this one is down")


async def decline(exchange: Exchange) -> Answer:
    return {"error": {"code": -32601, "message": "no listens here"}}


async def test_what_comes_before_all_have_answered_waits_for_the_acknowledgement(heard: Heard) -> None:
    quick, slow = Server("a:1"), Server("b:1")
    whole = asyncio.create_task(merged({"quick": quick.listen, "slow": slow.listen, "down": refuse}, heard))
    quick.go.set()
    slow.go.set()
    await heard.until(3)
    assert heard.events == [
        acknowledgement(resourceSubscriptions=["a:1", "b:1"]),
        {"method": "notifications/resources/updated", "params": {"uri": "a:1"}},
        {"method": "notifications/resources/updated", "params": {"uri": "b:1"}},
    ]
    assert quick.exchange is not None
    assert await quick.exchange.request({"method": "ping"}) == {"result": {}}
    quick.end.set_result({"result": {}})
    assert await whole == {"result": {}}
    assert slow.left.is_set()


async def test_a_server_that_says_nothing_keeps_nobody_from_the_others(
    heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listens, "HONOURED_WITHIN_S", 0.0)
    quick, silent = Server("a:1"), Server("b:1")
    quick.go.set()
    whole = asyncio.create_task(merged({"silent": silent.listen, "quick": quick.listen}, heard))
    await heard.until(2)
    assert heard.events[0] == acknowledgement(resourceSubscriptions=["a:1"])
    async with asyncio.timeout(10):
        await silent.left.wait()
    assert not whole.done()
    quick.end.set_result({"result": {}})
    assert await whole == {"result": {}}
    with pytest.raises(Unavailable, match="within"):
        await merged({"silent": Server("b:1").listen}, heard)


async def test_an_early_crowd_is_bounded(heard: Heard, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listens, "EARLY_MAX", 2)
    last = Server("z:1")

    async def crowd(exchange: Exchange) -> Answer:
        exchange.event(acknowledgement())
        for i in range(5):
            exchange.event({"method": "notifications/vendor", "params": {"i": i}})
        last.go.set()
        return await last.end

    whole = asyncio.create_task(merged({"crowd": crowd, "last": last.listen}, heard))
    await heard.until(3)
    assert [e["params"].get("i") or e["params"].get("uri") for e in heard.events[1:]] == [4, "z:1"]
    whole.cancel()
    with pytest.raises(asyncio.CancelledError):
        await whole


async def test_where_all_refuse_the_first_refusal_is_the_answer(heard: Heard) -> None:
    with pytest.raises(Unavailable, match="this one is down"):
        await merged({"down": refuse, "old": decline}, heard)
    assert await merged({"old": decline, "down": refuse}, heard) == await decline(heard)
    assert heard.events == []


@pytest.mark.parametrize(
    "end", [lambda f: f.set_result({"error": {"code": 1}}), lambda f: f.set_exception(Unknown("x"))]
)
async def test_the_end_of_one_is_the_end_of_all(heard: Heard, end: Callable[[Any], None]) -> None:
    one, other = Server("a:1"), Server("b:1")
    whole = asyncio.create_task(merged({"one": one.listen, "other": other.listen}, heard))
    one.go.set()
    other.go.set()
    await heard.until(1)
    end(one.end)
    await asyncio.wait((whole,), timeout=10)
    assert whole.exception() is not None or whole.result() == {"error": {"code": 1}}
    assert other.left.is_set()


async def test_whoever_leaves_is_left_by_all_servers(heard: Heard) -> None:
    servers = {name: Server(f"{name}:1") for name in "abc"}
    servers["a"].go.set()
    whole = asyncio.create_task(merged({name: server.listen for name, server in servers.items()}, heard))
    for server in servers.values():
        async with asyncio.timeout(10):
            await server.came.wait()
    whole.cancel()
    with pytest.raises(asyncio.CancelledError):
        await whole
    assert all(server.left.is_set() for server in servers.values())


async def test_a_listen_that_hears_nothing_lasts_until_it_is_cancelled(heard: Heard) -> None:
    listening = asyncio.create_task(nothing_to_hear(heard))
    assert await heard.until(1) == [acknowledgement()]
    assert not listening.done()
    listening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await listening
