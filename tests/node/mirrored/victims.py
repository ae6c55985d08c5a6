"""Clients to be killed: `python -m tests.node.mirrored.victims ERA URL [ERA URL …]`.

Three of that era at each address, each with a call that is held and, before 2026-07-28, a GET stream; says `held` on
stdout once all are.
"""

from __future__ import annotations

import asyncio
import sys

import aiohttp

from tests.node.mirrored.agents import MODERN, Agent, messages_of

EACH = 3


async def hold(http: aiohttp.ClientSession, era: str, url: str, held: asyncio.Semaphore) -> None:
    agent = await Agent(http, url, era).open()
    async with asyncio.TaskGroup() as tasks:
        if era != MODERN:
            tasks.create_task(stream(http, agent, held))
        notify = [{"method": "notifications/progress", "params": {"progress": 1}}]
        params = {"name": "mirror", "arguments": {"hold": 1, "notify": notify}, "_meta": {"progressToken": 1}}
        async with agent.posted(agent.request("tools/call", params)) as heard:
            await anext(heard)
            held.release()
            await anext(heard)


async def stream(http: aiohttp.ClientSession, agent: Agent, held: asyncio.Semaphore) -> None:
    async with http.get(agent.url, headers=agent.headers) as response:
        held.release()
        async for _ in messages_of(response):
            pass


async def main() -> None:
    wanted = list(zip(sys.argv[1::2], sys.argv[2::2], strict=True))
    held = asyncio.Semaphore(0)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http, asyncio.TaskGroup() as tasks:
        for era, url in wanted * EACH:
            tasks.create_task(hold(http, era, url, held))
        for era, _ in wanted * EACH:
            for _ in range(1 if era == MODERN else 2):
                await held.acquire()
        print("held", flush=True)


if __name__ == "__main__":
    asyncio.run(main())
