"""Over HTTP nobody says that a session is forgotten: who only listens finds out all the same."""

from __future__ import annotations

import asyncio

from tests.node.upstreams.conftest import Client
from tests.node.upstreams.test_http import hand  # noqa: F401 - a fixture
from tests.node.upstreams.test_http import spec as http_spec
from tests.node.upstreams.test_listening import begin
from tests.node.upstreams.test_sessions import ASKS


def handshakes(server):
    return [b["params"]["capabilities"] for _, _, b in server.asked if b and b.get("method") == "initialize"]


async def test_a_session_that_the_server_forgot_is_made_again_for_who_listens_in_it(watch, hand):  # noqa: F811
    w = await watch(http_spec(hand, probe_every_s=0.02))
    await w.until_up()
    client = Client()
    task = await begin(w, {"notifications": {}}, client, client_capabilities=ASKS)
    assert handshakes(hand) == [{}, ASKS]
    hand.session = "s2"
    async with asyncio.timeout(10):
        while handshakes(hand).count(ASKS) < 2:  # noqa: ASYNC110 - the server has no event for it
            await asyncio.sleep(0.005)
    assert not task.done()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert w.upstream._sessions._pulses == {}


async def test_a_session_that_no_longer_answers_is_opened_anew_for_who_listens_in_it(watch, hand, monkeypatch):  # noqa: F811
    w = await watch(http_spec(hand, probe_every_s=0.02))
    await w.until_up()
    client = Client()
    task = await begin(w, {"notifications": {}}, client, client_capabilities=ASKS)
    (slot,) = w.upstream._sessions.pool

    async def unanswered(method, params):
        raise TimeoutError

    monkeypatch.setattr(slot.connection, "request", unanswered)
    async with asyncio.timeout(10):
        while handshakes(hand).count(ASKS) < 2:  # noqa: ASYNC110 - the server has no event for it
            await asyncio.sleep(0.005)
    assert not task.done()
    task.cancel()
