"""The lab itself: is it as far, as deaf and as lossy as it says?"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import aiohttp
import pytest

from tests.lab import netns
from tests.lab.net import Lab
from tests.lab.waiting import ENOUGH_S, until

pytestmark = pytest.mark.lab
REGIONS = {"eu": ("eu-1", "eu-2"), "us": ("us-1",)}
DELAYS = {frozenset({"eu", "us"}): 40.0}
PORT = 7000
LATE_MS = 15
"""What a busy machine may add to a round trip, in the quickest of nine."""


@pytest.fixture
async def lab() -> AsyncIterator[Lab]:
    async with await Lab.up(REGIONS, DELAYS) as lab:
        yield lab


@contextmanager
def datagrams(lab: Lab, node: str) -> Iterator[socket.socket]:
    with netns.socket_in(lab.namespace(node), kind=socket.SOCK_DGRAM) as s:
        s.setblocking(False)
        s.bind((lab.address(node), PORT))
        yield s


async def received(s: socket.socket, within_s: float = ENOUGH_S) -> bytes:
    async with asyncio.timeout(within_s):
        return await asyncio.get_running_loop().sock_recv(s, 2_000)


async def round_trip_ms(lab: Lab, a: str, b: str) -> float:
    """The quickest of nine: packets can be late, never early."""
    took = []
    with datagrams(lab, a) as near, datagrams(lab, b) as far:
        for i in range(9):
            began = time.perf_counter()
            near.sendto(bytes([i]), (lab.address(b), PORT))
            far.sendto(await received(far), (lab.address(a), PORT))
            assert await received(near) == bytes([i])
            took.append((time.perf_counter() - began) * 1000)
    return min(took)


async def hears(lab: Lab, ear: str, mouth: str) -> bool:
    """Whether a datagram gets through; the relay's counters tell when it has met its fate."""
    with datagrams(lab, mouth) as there, datagrams(lab, ear) as here:
        before = lab.carried(mouth, ear)
        there.sendto(b"x", (lab.address(ear), PORT))
        await until(lambda: lab.carried(mouth, ear) != before, "the relay saw the datagram")
        if lab.carried(mouth, ear).cut_off > before.cut_off:
            return False
        return await received(here) == b"x"


async def test_regions_are_twice_the_delay_apart_and_back(lab: Lab) -> None:
    assert 80 <= await round_trip_ms(lab, "eu-1", "us-1") <= 80 + LATE_MS
    assert 0.6 <= await round_trip_ms(lab, "eu-1", "eu-2") <= 0.6 + LATE_MS
    lab.delay("eu-1", "us", 10)
    assert 20 <= await round_trip_ms(lab, "eu-1", "us-1") <= 20 + LATE_MS
    assert 80 <= await round_trip_ms(lab, "eu-2", "us-1") <= 80 + LATE_MS


async def test_a_cut_is_silent_where_a_closed_port_is_refused(lab: Lab) -> None:
    loop = asyncio.get_running_loop()
    lab.delay("eu", "us", 0)
    with lab.socket("eu-1") as s:
        s.setblocking(False)
        with pytest.raises(ConnectionRefusedError):
            await loop.sock_connect(s, (lab.address("us-1"), PORT))
    lab.cut("eu-1", "us-1")
    with lab.socket("eu-1") as s:
        s.setblocking(False)
        attempt = asyncio.create_task(loop.sock_connect(s, (lab.address("us-1"), PORT)))
        await until(lambda: lab.carried("eu-1", "us-1").cut_off >= 2, "TCP tried a second time")
        assert not attempt.done()
        attempt.cancel()
    assert await hears(lab, "eu-2", "us-1")


async def test_a_one_way_cut_deafens_one_side_only(lab: Lab) -> None:
    lab.cut_one_way(hearing="eu-1", deaf="us-1")
    assert not await hears(lab, ear="us-1", mouth="eu-1")
    assert await hears(lab, ear="eu-1", mouth="us-1")
    assert await hears(lab, ear="us-1", mouth="eu-2")
    lab.heal()
    assert await hears(lab, ear="us-1", mouth="eu-1")


async def test_a_region_is_cut_off_as_a_whole_and_heals(lab: Lab) -> None:
    lab.cut_region("eu")
    assert not await hears(lab, "us-1", "eu-1")
    assert not await hears(lab, "eu-2", "us-1")
    assert await hears(lab, "eu-2", "eu-1")
    lab.heal()
    assert await hears(lab, "us-1", "eu-1")
    assert await round_trip_ms(lab, "eu-1", "us-1") >= 80


async def test_a_lossy_road_loses_some_and_counts_them(lab: Lab) -> None:
    lab.loss("eu", "us", 50)
    with datagrams(lab, "eu-1") as s:
        for _ in range(100):
            s.sendto(b"x", (lab.address("us-1"), PORT))
        await until(lambda: sum(lab.carried("eu", "us")[i] for i in (0, 2)) == 100, "all have met their fate")
    seen = lab.carried("eu", "us")
    assert 20 < seen.lost < 80
    assert seen.cut_off == seen.overflowed == 0


async def test_a_loopback_of_a_node_is_reached_from_outside_though_the_node_is_cut_off(lab: Lab) -> None:
    argv = [sys.executable, "-m", "http.server", "--bind", "127.0.0.1", str(PORT)]
    await lab.start("us-1", argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=Path(__file__).parent)
    lab.cut_region("us")
    async with aiohttp.ClientSession(connector=lab.connector("us-1")) as session:

        async def served() -> bool:
            try:
                async with session.get(f"http://127.0.0.1:{PORT}/test_net.py") as response:
                    return response.status == 200
            except aiohttp.ClientConnectorError:
                return False

        await until(served, "the node's loopback answers")


async def test_what_runs_on_a_node_ends_with_the_lab(lab: Lab) -> None:
    sleeper = await lab.start("eu-1", ["sleep", "1000"])
    namespaces = [lab.namespace(node) for node in lab.nodes]
    await lab.down()
    async with asyncio.timeout(ENOUGH_S):
        assert await sleeper.wait() == -signal.SIGKILL
    assert not [name for name in namespaces if (netns.NETNS / name).exists()]


async def test_a_lab_whose_process_is_killed_cleans_up_after_itself() -> None:
    program = """
import asyncio, os, signal
from tests.lab.net import Lab
from tests.lab.waiting import ENOUGH_S, until
async def main():
    lab = await Lab.up({"eu": ["eu-1"], "us": ["us-1"]}, {})
    await lab.start("eu-1", ["sleep", "1000"])
    os.kill(os.getpid(), signal.SIGKILL)
asyncio.run(main())
"""
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", program, cwd=Path(__file__).parents[2])
    async with asyncio.timeout(ENOUGH_S):
        assert await process.wait() == -signal.SIGKILL
    left = f"{netns.prefix_of(process.pid)}*"
    await until(lambda: not any(netns.NETNS.glob(left)), "the namespaces are gone")


async def test_what_a_dead_lab_left_is_removed_by_the_next() -> None:
    dead = await asyncio.create_subprocess_exec("true")
    await dead.wait()
    stale, living = f"{netns.prefix_of(dead.pid)}1-eu-1", f"{netns.prefix_of(os.getppid())}1-eu-1"
    netns.make(stale)
    netns.make(living)
    try:
        async with await Lab.up(REGIONS, DELAYS):
            assert not (netns.NETNS / stale).exists()
            assert (netns.NETNS / living).exists()
    finally:
        netns.remove([living])
