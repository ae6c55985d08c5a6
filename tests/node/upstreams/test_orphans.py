"""What becomes of servers whose node is killed."""

from __future__ import annotations

import os
import select
import shutil
import signal
import subprocess
import sys

import pytest

from node.upstreams import process

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
