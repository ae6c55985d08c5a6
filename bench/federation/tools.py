"""A hundred thousand tools of twenty owners in one node: its catalogue and its index of words, fed by hand.

`python -m bench.federation.tools OWNERS SERVERS TOOLS` prints its figures as JSON. A process of its own, for its
memory.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from bench.federation.figures import half, rounded
from bench.federation.words import MESH
from federation.events import Liveness
from node.catalog import Catalog
from node.guard.open import OpenGuard
from node.indexing import Indexing
from node.ports import Action
from node.views import MeshViews
from proto.names import NodeId
from proto.records import ANONYMOUS, Kind, Record
from router.ports import Filter
from router.router import Router

TIMES = 50
SEARCHES = 15


def records(owner: int, servers: int, tools: int) -> list[Record]:
    made = []
    for s in range(servers):
        made += [server(owner, s), *(tool(owner, s, t) for t in range(tools))]
    return made


def server(owner: int, s: int, since: int = 0) -> Record:
    health = {"state": "up", "cause": "", "since": since}
    body = {"serverInfo": {"name": "bench", "version": "1"}, "capabilities": {"tools": {}}, "health": health}
    return Record.of(Kind.SERVER, f"server-{owner}-{s}", body)


def tool(owner: int, s: int, t: int, version: int = 0) -> Record:
    verb, noun = VERBS[t % len(VERBS)], NOUNS[(owner + s + t // len(VERBS)) % len(NOUNS)]
    name = f"{verb}-{noun}-{t}"
    properties = {
        f"{noun}_{i}": {"type": "string", "description": f"What to {verb} the {noun} with, part {i}."} for i in range(6)
    }
    definition = {
        "name": name,
        "description": f"Version {version}: {verb} a {noun} of department {s} at site {owner}. " * 3,
        "inputSchema": {"type": "object", "properties": properties, "required": [f"{noun}_0"]},
    }
    return Record.of(Kind.TOOL, f"server-{owner}-{s}/{name}", definition)


VERBS = ("list", "create", "delete", "rename", "archive", "restore", "compare", "export", "approve", "schedule")
NOUNS = (
    "invoice",
    "ticket",
    "branch",
    "sensor",
    "patient",
    "route",
    "contract",
    "image",
    "payment",
    "meeting",
    "order",
)


def took_ms(act: Callable[[], object]) -> float:
    """Processor time of the loop's thread: what an act keeps the loop from doing on a machine that is free."""
    began = time.thread_time()
    act()
    return (time.thread_time() - began) * 1e3


def loop_ms(times: int, act: Callable[[int], object]) -> float:
    """The same of several acts, in the median."""
    return half([took_ms(partial(act, i)) for i in range(times)])


async def measure(owners: int, servers: int, tools: int) -> dict[str, Any]:
    ids = [NodeId.of(MESH, "eu", f"n-{i}") for i in range(owners)]
    catalog, router, guard = Catalog(NodeId.of(MESH, "eu", "me")), Router(None, None), OpenGuard()
    Indexing(catalog, router)
    views = MeshViews(catalog)
    await router.start()
    applied = []
    fed = [records(i, servers, tools) for i in range(owners)]
    began = time.process_time()
    for owner, its in zip(ids, fed, strict=True):
        feed = partial(views.changed, owner, its, ())
        applied.append(took_ms(feed))
        # Between two owners the loop breathes, as it does between two frames.
        await asyncio.sleep(0)
    del fed
    await router.settled()
    figures: dict[str, Any] = {
        "tools": owners * servers * tools,
        "apply_s": sum(applied) / 1e3,
        "apply_one_owner_ms": half(applied),
        "indexed_cpu_s": time.process_time() - began - sum(applied) / 1e3,
        "rss_mb": _rss_mb(),
        "one_tool_changes_ms": loop_ms(TIMES, lambda i: views.changed(ids[0], [tool(0, 0, 1, i + 1)], ())),
        "one_server_flaps_ms": loop_ms(TIMES, lambda i: views.changed(ids[0], [server(0, 0, i + 1)], ())),
        "owner_suspected_ms": loop_ms(TIMES, lambda _: views.liveness(ids[1], Liveness.SUSPECT, listed=True)),
        "owner_unlisted_ms": took_ms(lambda: views.liveness(ids[1], Liveness.DOWN, listed=False)),
        "owner_listed_again_ms": took_ms(lambda: views.liveness(ids[1], Liveness.ALIVE, listed=True)),
    }
    await router.settled()
    visibility = guard.visible(ANONYMOUS, Action.SEARCH)

    def allows(entry: Any) -> bool:
        held = catalog.find(entry.key.owner, entry.key.server)
        return held is not None and visibility.allows(held.resource(entry.key.tool))

    only = Filter(visibility.key, allows)
    cold = (await router.search("export an invoice", only=only)).took_ms
    warm = [(await router.search(f"{v} a {n}", only=only)).took_ms for v in VERBS for n in NOUNS[:2]][:SEARCHES]
    figures |= {"first_search_ms": cold, "search_p50_ms": half(warm)}
    figures["route_ms"] = loop_ms(TIMES, lambda i: catalog.route(f"server-{i % owners}-0", visibility))
    await router.stop()
    return rounded(figures)


def _rss_mb() -> float:
    status = Path("/proc/self/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmRSS:")).split()[1]) / 1024


if __name__ == "__main__":
    logging.disable(logging.WARNING)
    print(json.dumps(asyncio.run(measure(*map(int, sys.argv[1:4])))))
