"""A process that runs one node, from its start to its end: signals, draining, and the memory that it keeps."""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
import sys
from collections.abc import Callable

from node.app import App
from node.config import NodeConfig
from proto.errors import MeshError

log = logging.getLogger("toolmesh.node")

_YOUNG_MAX = 10_000
"""At 700, the default, it looks for garbage because 16 calls run at once, and finds none."""


async def serve(app: App, started: Callable[[], None] = lambda: None) -> None:
    """Run a node until SIGINT or SIGTERM, then drain and stop it; a second signal ends the draining. Or until it has
    left the mesh. `started` is called when it has started.

    Raises what `App.start` raises.
    """
    _on_signal(app.ending.set)
    try:
        await app.start()
        started()
        await app.ending.wait()
        draining = asyncio.create_task(app.finish())
        _on_signal(draining.cancel)
        await asyncio.wait((draining,))
        if draining.cancelled():
            log.warning("told to stop again: %d running calls are cut", app.gateway.in_flight)
        else:
            draining.result()
    finally:
        await app.stop()


def _on_signal(do: Callable[[], object]) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, do)


async def _serve(config: NodeConfig) -> None:
    await serve(App(config), _settle_memory)


def _settle_memory() -> None:
    """What is there now, modules above all, stays to the end: the garbage collector need not look at it again.

    Calls leave it hardly anything to find, so it looks for that when `_YOUNG_MAX` more objects are there than at its
    last look. For a process that runs one node and nothing else.
    """
    gc.freeze()
    gc.set_threshold(_YOUNG_MAX, 10, 10)


def run(config: NodeConfig) -> int:
    """Run a node in this process; the exit status. What went wrong is one line on stderr."""
    import uvloop

    try:
        uvloop.run(_serve(config))
    except MeshError as e:
        print(f"toolmesh: {e.message}", file=sys.stderr)
        return 1
    return 0
