"""What is open of a caller ends with what let him in: streams, sessions, subscriptions, connections."""

import asyncio
import time

import pytest

from node.ingress.rechecking import Rechecks
from tests.node.ingress.talking import dialled
from tests.node.ingress.test_sse_transport import streaming

ANN, BEN = {"Authorization": "Bearer ann"}, {"Authorization": "Bearer ben"}


async def ended(content) -> None:
    """Until the other side has ended the stream."""
    async with asyncio.timeout(10):
        await content.read()


def stream(edge, session):
    return edge.http.get(
        edge.url, headers={k.replace("_", "-"): v for k, v in session.items()} | {"Accept": "text/event-stream"}
    )


async def asked(edge, session):
    async with edge.post(edge.call("ping"), **session) as r:
        return r.status


async def test_a_revoked_callers_session_is_gone_and_its_stream_with_it(edge):
    ann, ben = await edge.session(**ANN), await edge.session(**BEN)
    async with stream(edge, ann) as of_ann, stream(edge, ben) as of_ben:
        edge.authenticator.revoked.add("ann")
        edge.ingress.recheck()
        await ended(of_ann.content)
        assert (await asked(edge, ann), await asked(edge, ben)) == (404, 200)
        assert not of_ben.content.at_eof()


async def test_a_proof_that_runs_out_ends_the_stream_and_leaves_the_session_to_a_newer_one(edge):
    edge.authenticator.ends_s["ann"] = int(time.time()) + 3_600
    ann = await edge.session(**ANN)
    async with stream(edge, ann) as first:
        edge.authenticator.ends_s["ann"] = 1
        assert await asked(edge, ann) == 200
        edge.ingress.recheck()
        await ended(first.content)
    edge.authenticator.ends_s["ann"] = int(time.time()) + 7_200
    assert await asked(edge, ann) == 200
    async with stream(edge, ann) as second:
        edge.ingress.recheck()
        assert await asked(edge, ann) == 200
        assert not second.content.at_eof()


async def test_a_session_hears_of_changes_by_the_newest_proof_of_its_caller(edge):
    edge.authenticator.ends_s["ann"] = first_s = int(time.time()) + 3_600
    ann = await edge.session(path="/time", **ANN)
    edge.authenticator.ends_s["ann"] = newer_s = first_s + 3_600
    async with edge.post(edge.call("ping"), path="/time", **ann) as r:
        assert r.status == 200
    edge.endpoints.change("time", "prompts", seen_by=lambda principal: principal.expires_s == first_s)
    edge.endpoints.change("time", "tools", seen_by=lambda principal: principal.expires_s == newer_s)
    headers = {k.replace("_", "-"): v for k, v in ann.items()} | {"Accept": "text/event-stream"}
    async with edge.http.get(edge.url + "/time", headers=headers) as r:
        told = await edge.next(edge.events(r))
    assert told["method"] == "notifications/tools/list_changed"


async def test_a_subscription_ends_with_its_result(edge):
    async with edge.modern("subscriptions/listen", {"notifications": {"toolsListChanged": True}}, **ANN) as r:
        events = edge.events(r)
        assert (await edge.next(events))["method"] == "notifications/subscriptions/acknowledged"
        edge.ingress.recheck()
        edge.authenticator.revoked.add("ann")
        edge.ingress.recheck()
        assert (await edge.next(events))["result"]["resultType"] == "complete"


@pytest.mark.parametrize("how", ["revoked", "run out"])
async def test_two_way_connections_are_closed(edge, how):
    edge.authenticator.ends_s["ann"] = int(time.time()) + 3_600 if how == "revoked" else 1
    async with dialled(edge, headers=ANN) as socket, streaming(edge, "/sse", **ANN) as events:
        edge.authenticator.revoked |= {"ann"} if how == "revoked" else set()
        edge.ingress.recheck()
        async with asyncio.timeout(10):
            assert await events.response.content.read() == b""
            assert (await socket.socket.receive()).data in (1001, 1000)
    await edge.wait(edge.ingress.connections.none_left)


async def test_a_post_with_a_newer_proof_keeps_its_stream(edge):
    edge.authenticator.ends_s["ann"] = 1
    async with streaming(edge, "/sse", **ANN) as events:
        edge.authenticator.ends_s["ann"] = int(time.time()) + 3_600
        await events.say(edge.call("initialize", {"protocolVersion": "2024-11-05", "capabilities": {}}, 0), **ANN)
        assert (await events.message())["id"] == 0
        edge.ingress.recheck()
        await events.say(edge.call("ping", None, 1), **ANN)
        assert (await events.message())["id"] == 1


async def test_what_is_open_is_looked_at_again_and_again_even_after_a_failure():
    looked, twice = [], asyncio.Event()

    def recheck():
        looked.append(1)
        if len(looked) == 2:
            twice.set()
            return
        raise RuntimeError("broken")

    rechecks = Rechecks(recheck, every_s=0.001)
    rechecks.start()
    async with asyncio.timeout(10):
        await twice.wait()
    rechecks.stop()
