"""A node that goes for good: drained, forgotten by its peers, its process ended; and back if it is started again."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import yaml

from federation.ca import init_ca
from federation.events import Liveness
from node.app import App
from node.demo.world import free_port
from node.serving import serve
from proto.errors import Conflict
from tests.node.waiting import WAIT_S, until
from tests.node.working import MESH, Work, app_of, settings_of, up, working

UNITS = Path(__file__).parents[2] / "deploy" / "examples" / "servers" / "units.py"


@pytest.fixture
async def eu(tmp_path: Path) -> AsyncIterator[App]:
    init_ca(tmp_path / "ca", MESH)
    eu = app_of(settings_of("eu", tmp_path), tmp_path)
    await eu.start()
    yield eu
    await eu.stop()


def at(app: App) -> str:
    assert app.federation is not None
    return f"127.0.0.1:{app.federation.bound_port}"


def state(app: App, peer: str) -> Liveness | None:
    assert app.federation is not None
    return next((p.state for p in app.federation.peers() if p.node and p.node.name == peer), None)


async def toolmesh(*args: str) -> tuple[int, str, str]:
    """Exit status, stdout, stderr of the command."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "node.cli",
        *args,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(WAIT_S):
        out, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


async def test_a_node_that_leaves_is_gone_from_its_peers_and_simply_back_once_it_starts_again(
    eu: App, tmp_path: Path
) -> None:
    servers = {"units": {"command": [sys.executable, str(UNITS)]}}
    us = settings_of("us", tmp_path, static=[at(eu)], servers=servers)
    http = f"127.0.0.1:{free_port(0)}"
    us |= {"http": {"listen": http}, "search": {"embedder": "none"}}
    (tmp_path / "us.yaml").write_text(yaml.safe_dump(us))

    async with AsyncExitStack() as stack:
        for life in (1, 2):
            node = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "node.cli",
                "up",
                "-c",
                str(tmp_path / "us.yaml"),
                stderr=asyncio.subprocess.DEVNULL,
            )
            stack.callback(lambda n=node: n.returncode is None and n.kill())
            await until(eu, lambda: (s := eu.catalog.find("us-1", "units")) is not None and s.up and bool(s.tools))
            assert state(eu, "us-1") is Liveness.ALIVE, life
            status, out, err = await toolmesh("leave", "--yes", "--url", f"http://{http}")
            assert (status, out) == (0, "it has left: 1 peer took its goodbye (eu-1)\n"), err
            async with asyncio.timeout(WAIT_S):
                assert await node.wait() == 0
            await until(eu, lambda: "us-1" not in eu.catalog.owners)
            assert state(eu, "us-1") is Liveness.LEFT


async def test_calls_that_run_keep_a_node_from_leaving_unless_they_may_be_cut(
    eu: App, tmp_path: Path, work: Work
) -> None:
    ap = app_of(settings_of("ap", tmp_path, static=[at(eu)], servers={"slow": work.server}), tmp_path)
    serving = asyncio.create_task(serve(ap))
    await until(eu, up(eu, "ap-1"))
    async with working(eu, work) as call:
        kept = await ap.leaving.leave(0.05, cut=False)
        assert (kept.left, kept.in_flight, kept.for_peers) == (False, 1, 1)
        assert state(eu, "ap-1") is Liveness.DRAINING
        assert not serving.done()
        gone = await ap.leaving.leave(0.05, cut=True)
        assert (gone.left, gone.told, gone.untold) == (True, ("eu-1",), ())
        await asyncio.wait_for(serving, WAIT_S)
        call.cancel()
    assert state(eu, "ap-1") is Liveness.LEFT


async def test_whoever_asks_twice_or_stops_waiting_gets_one_goodbye(eu: App, tmp_path: Path) -> None:
    ap = app_of(settings_of("ap", tmp_path, static=[at(eu)]), tmp_path)
    serving = asyncio.create_task(serve(ap))
    await until(eu, lambda: "ap-1" in eu.catalog.owners)
    impatient = asyncio.create_task(ap.leaving.leave(WAIT_S, cut=False))
    other = asyncio.create_task(ap.leaving.leave(WAIT_S, cut=False))
    await until(eu, lambda: eu.catalog.owners["ap-1"].draining)
    impatient.cancel()
    assert (await other).told == ("eu-1",)
    assert (await ap.leaving.leave(0, cut=False)).told == ("eu-1",)
    await asyncio.wait_for(serving, WAIT_S)


async def test_a_peer_that_could_not_be_told_is_named(eu: App, tmp_path: Path) -> None:
    ap = app_of(settings_of("ap", tmp_path, static=[at(eu)]), tmp_path)
    await ap.start()
    await until(ap, lambda: "eu-1" in ap.catalog.owners)
    await eu.stop()
    gone = await ap.leaving.leave(WAIT_S, cut=False)
    assert (gone.told, gone.untold) == ((), ("eu-1",))
    await ap.stop()


async def test_a_node_that_runs_alone_has_no_mesh_to_leave(tmp_path: Path) -> None:
    alone = app_of({}, tmp_path)
    await alone.start()
    with pytest.raises(Conflict, match="runs alone"):
        await alone.leaving.leave(0, cut=True)
    assert not alone.gateway.draining
    await alone.stop()
