"""Silence that counts, and silence that is this node's own sleep."""

from __future__ import annotations

import asyncio
import time

import pytest

from federation.silence import heard_within


async def test_silence_ends_the_wait_when_the_time_is_over() -> None:
    loop = asyncio.get_running_loop()
    began = loop.time()
    with pytest.raises(TimeoutError):
        async with heard_within(0.1, look_s=0.04):
            await loop.create_future()
    assert loop.time() - began >= 0.1


async def test_what_is_heard_in_time_is_taken_and_nothing_ends_later() -> None:
    async with heard_within(0.02, look_s=0.01):
        await asyncio.sleep(0)
    # Longer than the limit that is over: a timer left behind would end this.
    await asyncio.sleep(0.05)


async def test_a_loop_that_stood_still_gives_what_came_meanwhile_its_time() -> None:
    loop = asyncio.get_running_loop()
    async with heard_within(0.2, look_s=0.1):
        time.sleep(1)  # noqa: ASYNC251 the loop is frozen
        # Read by another thread, as gRPC does: it comes after the timers that are due.
        word: asyncio.Future[str] = loop.create_future()
        loop.call_later(0.02, word.set_result, "beat")
        assert await word == "beat"
