"""Listens that an endpoint answers itself."""

from __future__ import annotations

import asyncio

from proto.calls import Answer, Exchange


async def nothing_to_hear(exchange: Exchange) -> Answer:
    """A listen that honours nothing, until it is cancelled."""
    exchange.event({"method": "notifications/subscriptions/acknowledged", "params": {"notifications": {}}})
    ended: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
    return await ended
