"""Agents whose machine vanished in the middle of a stream: they say nothing, and are missed."""

import asyncio

from yarl import URL

from node.ingress.holding import Get
from node.ingress.settings import IngressSettings
from tests.node.ingress.conftest import served
from tests.node.ingress.talking import cut, pulls_cables

# Two comments are on their way, and then nobody takes them or refuses them.
IMPATIENT = IngressSettings(ping_s=0.1, stall_s=0.5)


@pulls_cables
async def test_a_stream_of_a_session_ends(monkeypatch):
    closed, close = asyncio.Event(), Get.closed
    monkeypatch.setattr(Get, "closed", lambda got: (close(got), closed.set()))
    async with asyncio.timeout(60), served(IMPATIENT) as edge:
        headers = {name.replace("_", "-"): value for name, value in (await edge.session()).items()}
        async with edge.http.get(edge.url, headers={**headers, "Accept": "text/event-stream"}) as response:
            await response.content.readline()
            with cut(URL(edge.url).port):
                await closed.wait()


@pulls_cables
async def test_a_call_that_streams_its_answer_is_cancelled():
    async with asyncio.timeout(60), served(IMPATIENT) as edge:

        async def slow(arguments, caller, exchange):
            exchange.event({"method": "notifications/progress", "params": {"progressToken": 1, "progress": 1}})
            try:
                await edge.root.release.wait()
            except asyncio.CancelledError:
                edge.root.cancelled.set()
                raise

        edge.root.tools["slow"] = slow
        asked = edge.modern("tools/call", {"name": "slow", "arguments": {}}, meta={"progressToken": 1})
        async with asked as response:
            await response.content.readline()
            with cut(URL(edge.url).port):
                await edge.root.cancelled.wait()
