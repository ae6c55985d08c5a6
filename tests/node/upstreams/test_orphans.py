"""What becomes of servers whose node is killed, or that are being ended when something else is cut short."""

from __future__ import annotations

import asyncio
import os
import select
import shutil
import signal
import subprocess
import sys

import pytest

from node.upstreams import process
from node.upstreams.spec import UpstreamSpec
from node.upstreams.stdio import StdioWire
from node.upstreams.upstream import Upstream

DEAF = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(600)"
"""Reads nothing, so that the end of its input tells it nothing, and ends on no request."""

NODE = """
import subprocess, sys
from node.upstreams.process import bound_to_us
server = subprocess.Popen(
    bound_to_us([sys.executable, "-c", sys.argv[1]]),
    stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True,
)
server.stdout.readline()
print(server.pid, flush=True)
sys.stdin.read()
"""


@pytest.mark.skipif(process._setpriv() is None, reason="this system has no setpriv that knows --pdeathsig")
def test_a_server_that_ignores_the_end_of_its_input_does_not_outlive_a_killed_node():
    node = subprocess.Popen([sys.executable, "-c", NODE, DEAF], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert node.stdin is not None
    assert node.stdout is not None
    with node, os.fdopen(os.pidfd_open(int(node.stdout.readline()))) as server:
        node.send_signal(signal.SIGKILL)
        ended, _, _ = select.select([server], [], [], 30)
    assert ended


def test_without_setpriv_a_command_is_run_as_it_is(monkeypatch):
    process._setpriv.cache_clear()
    monkeypatch.setattr(shutil, "which", lambda *_: None)
    try:
        assert process.bound_to_us(["/bin/x", "-a"]) == ["/bin/x", "-a"]
    finally:
        process._setpriv.cache_clear()


class Deafness:
    def received(self, message: object, related: int | None = None) -> None: ...

    def unreadable(self, request_id: int | None, why: str) -> None: ...

    def lost(self, cause: str) -> None: ...


async def test_a_server_is_put_down_for_good_though_the_closing_of_its_wire_is_cancelled():
    wire = StdioWire(UpstreamSpec("deaf", command=(sys.executable, "-c", DEAF)), grace_s=0.1)
    await wire.open(Deafness())
    server = wire._process
    assert server is not None
    assert server.stdin is not None
    closing = asyncio.create_task(wire.close())
    async with asyncio.timeout(30):
        for _ in range(5):
            await asyncio.sleep(0)
        assert server.stdin.is_closing()
        for _ in range(2):
            closing.cancel()
            await asyncio.sleep(0)
        with pytest.raises(asyncio.CancelledError):
            await closing
    assert server.returncode is not None


async def test_a_server_that_was_stopped_is_not_started_again_to_learn_its_era(raw):
    upstream = Upstream(raw(), lambda _: None)
    await upstream.stop()
    await upstream.learn()
    assert upstream.modern is None
