"""What a command is given, and what it is not: seen by the command itself."""

from __future__ import annotations

import asyncio
import json
import os
import pwd
import socket
import sys
from pathlib import Path
from typing import Any

import pytest
import uvloop

from node.upstreams import process
from node.upstreams.process import bound_to_us, put_down, spawn
from node.upstreams.spec import UpstreamSpec
from proto.errors import Unavailable

LOOKS_AROUND = """
import json, os, sys

def here(fd):
    try:
        return os.readlink(f"/proc/self/fd/{fd}")
    except OSError:
        return ""

status = dict(line.split(":", 1) for line in open("/proc/self/status"))
print(json.dumps({
    "argv": sys.argv[1:], "env": dict(os.environ), "cwd": os.getcwd(), "uid": os.getuid(), "gid": os.getgid(),
    "groups": os.getgroups(), "leads": os.getsid(0) == os.getpid() == os.getpgid(0),
    "descriptors": {fd: os.readlink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd") if here(fd)},
    "no_new_privs": status["NoNewPrivs"].strip(), "capabilities": int(status["CapEff"], 16),
}), flush=True)
sys.stdin.read()
"""

confines = pytest.mark.skipif(process._setpriv() is None, reason="this system has no setpriv that knows --pdeathsig")
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can start a command as another user")


async def seen(tmp_path: Path, *arguments: str, **more: Any) -> dict[str, Any]:
    spec = UpstreamSpec("looks", (sys.executable, "-c", LOOKS_AROUND, *arguments), cwd=str(tmp_path), **more)
    started = await spawn(spec)
    try:
        async with asyncio.timeout(20):
            assert started.stdout is not None
            found: dict[str, Any] = json.loads(await started.stdout.readline())
            return found
    finally:
        await put_down(started, "looks")


def in_both_loops(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """As seen by a child of asyncio's own loop, and of uvloop's, which `toolmesh up` runs; each has its own way."""
    monkeypatch.setenv("TOOLMESH_SECRET", "hunter2")
    return [asyncio.run(seen(tmp_path)), uvloop.run(seen(tmp_path))]


def test_a_command_inherits_three_pipes_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Inheritable, as a careless library would leave it.
    left_open = socket.socket()
    left_open.set_inheritable(True)
    try:
        for found in in_both_loops(tmp_path, monkeypatch):
            pipes = {found["descriptors"][fd] for fd in "012"}
            # uvloop leaves the pipes' own second descriptors open.
            assert set(found["descriptors"].values()) == pipes
    finally:
        left_open.close()


def test_a_command_sees_no_variable_of_the_node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for found in in_both_loops(tmp_path, monkeypatch):
        assert "TOOLMESH_SECRET" not in found["env"]
        harmless = {"PATH", "HOME", "LANG", "TMPDIR", "TZ", "PWD", "SHLVL", "_"}
        assert {name for name in found["env"] if not name.startswith("LC_")} <= harmless


@confines
def test_a_command_leads_a_session_and_gains_no_rights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for found in in_both_loops(tmp_path, monkeypatch):
        assert found["leads"]
        assert found["no_new_privs"] == "1"
        assert found["cwd"] == str(tmp_path)


async def test_arguments_are_no_words_of_a_shell(tmp_path: Path) -> None:
    arguments = ["$(touch owned)", "; touch owned", "`touch owned`", "a b", "*", "--", "$HOME", "&&", "\n"]
    found = await seen(tmp_path, *arguments)
    assert found["argv"] == arguments
    assert not (tmp_path / "owned").exists()


@confines
@as_root
async def test_a_command_runs_as_its_user_with_no_rights_of_the_nodes() -> None:
    nobody = pwd.getpwnam("nobody")
    # The interpreter of these tests may lie where root alone may look.
    spec = UpstreamSpec("looks", ("/bin/sh", "-c", "id -u; id -g; id -G; cat /proc/self/status"), user="nobody")
    started = await spawn(spec)
    async with asyncio.timeout(20):
        said, _ = await started.communicate()
    uid, gid, groups, *lines = said.decode().splitlines()
    status = dict(line.split(":\t", 1) for line in lines)
    assert (int(uid), int(gid)) == (nobody.pw_uid, nobody.pw_gid)
    assert "0" not in groups.split()
    assert (int(status["CapEff"], 16), status["NoNewPrivs"]) == (0, "1")


@confines
def test_a_command_is_never_run_as_somebody_else_instead(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Unavailable, match="there is none of that name"):
        bound_to_us(["/bin/true"], "no-such-user")
    monkeypatch.setattr(os, "geteuid", lambda: 12_345)
    with pytest.raises(Unavailable, match="only a node that runs as root"):
        bound_to_us(["/bin/true"], "nobody")
    monkeypatch.setattr(process, "_setpriv", lambda: None)
    with pytest.raises(Unavailable, match="no setpriv"):
        bound_to_us(["/bin/true"], "nobody")
