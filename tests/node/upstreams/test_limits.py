"""A server's process within bounds."""

from __future__ import annotations

import sys

import psutil
import pytest

from node.upstreams.limits import limited
from node.upstreams.spec import UpstreamSpec
from proto.errors import Invalid


def children() -> list[psutil.Process]:
    return psutil.Process().children(recursive=True)


async def test_limits_hold_from_the_first_moment_on_the_servers_own_process(watch, raw):
    w = await watch(raw(limits={"memory_mb": 700, "cpu_s": 60, "open_files": 37}))
    await w.until_up()
    (server,) = [p for p in children() if "raw_stdio.py" in " ".join(p.cmdline())]
    assert "limits.py" not in " ".join(server.cmdline())
    assert server.rlimit(psutil.RLIMIT_AS) == (700 * 2**20, 700 * 2**20)
    assert server.rlimit(psutil.RLIMIT_CPU) == (60, 65)
    assert server.rlimit(psutil.RLIMIT_NOFILE) == (37, 37)
    assert "result" in await w.tool("echo")


async def test_a_server_that_cannot_live_within_its_limits_is_down_with_a_cause(watch, raw):
    w = await watch(raw(limits={"memory_mb": 1}))
    assert (await w.until_down()).health.cause


def test_without_limits_the_command_is_run_as_it_is():
    assert limited(("/bin/x", "-a"), {}) == ["/bin/x", "-a"]


@pytest.mark.parametrize("limits", [{"memory_mb": 0}, {"disk_mb": 5}])
def test_a_limit_that_does_not_exist_or_is_not_above_zero_is_refused(limits):
    with pytest.raises(Invalid, match="memory_mb, cpu_s, open_files"):
        UpstreamSpec("s", command=(sys.executable,), limits=limits)


def test_limits_are_for_a_command():
    with pytest.raises(Invalid, match="'limits' are for a 'command'"):
        UpstreamSpec("s", url="http://h/", limits={"cpu_s": 1})
