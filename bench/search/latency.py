"""How long a search takes, its encoding included: by the number of tools, of searchers, of steps, by what is visible.

And what the approximate way loses, beside scoring everything."""

from __future__ import annotations

import itertools
import json
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from bench.search import made
from bench.search.rig import Size, embedder, filled, reference_ms, rss_mb, searched, snapshot_of, spread, timed, warm
from router import retrieval
from router.evaluation.metrics import percentile
from router.ports import EVERYTHING, Embedder, Filter, ToolEntry
from router.router import Router

SHARES = (2, 50, 98)
SEARCHERS = 4
DEPTH = 10


async def latency(size: Size) -> dict[str, Any]:
    """By number of tools. Every query is new: no vector of one is at hand."""
    model = embedder(size)
    found: dict[str, Any] = {}
    for count in size.tools:
        tools = list(made.tools(count))
        began, used = time.perf_counter(), time.process_time()
        made_before = snapshot_of(size, count) if size.kept else None
        async with filled(model, tools, made_before) as router:
            took, used = time.perf_counter() - began, time.process_time() - used
            figures: dict[str, Any] = {"rss_mb": rss_mb()}
            if made_before is None or not made_before.is_file():
                figures |= {"indexed_s": round(took, 2), "indexed_cpu_s": round(used, 2)}
            await warm(router)
            figures |= await _searches(router, model, size)
            print(f"  {count:,} tools: {json.dumps(figures)}", flush=True)
            figures["visible"] = await _visible(router, size)
            figures["recall_at_10"] = await _recall(router, size)
            found[str(count)] = figures
        # Let go before the next one is made: memory is measured too.
        del tools, router
    return found


async def _searches(router: Router, model: Embedder, size: Size) -> dict[str, Any]:
    steps = iter(made.queries(3 * size.searches))
    one, four, alone = (list(itertools.islice(steps, size.searches)) for _ in range(3))
    encoded = []
    for query in alone:
        began = time.perf_counter()
        model.embed([query], query=True)
        encoded.append((time.perf_counter() - began) * 1000)
    return {
        "reference_ms": round(reference_ms(), 3),
        "one": await searched(router, one),
        "four": await searched(router, four, searchers=SEARCHERS),
        "encoding": spread(encoded),
        "split": await searched(router, made.tasks(size.tasks)),
    }


async def _visible(router: Router, size: Size) -> dict[str, Any]:
    """Classes that see a part, beside those that see all, query by query in turn."""
    classes = {"100 %": EVERYTHING, **{f"{s} %": Filter(("share", s), _share(s)) for s in SHARES}}
    first = {}
    for name, only in classes.items():
        (first[name],) = await timed(router, made.queries(1, seed=50 + len(name)), only)
    queries = iter(made.queries(len(classes) * size.searches, seed=7))
    times: dict[str, list[float]] = {name: [] for name in classes}
    for _ in range(size.searches):
        for name, only in classes.items():
            times[name] += await timed(router, [next(queries)], only)
    whole = percentile(times["100 %"], 0.5)
    return {
        name: {
            **spread(times[name]),
            "ratio": round(percentile(times[name], 0.5) / whole, 2),
            "first_ms": round(first[name], 1),
        }
        for name in classes
    }


def _share(percent: int) -> Any:
    def allows(entry: ToolEntry) -> bool:
        return zlib.crc32("/".join(entry.key[:3]).encode()) % 100 < percent

    return allows


async def _recall(router: Router, size: Size) -> float:
    """Which share of the ten that are found when everything is scored is found by the way of candidates, too."""
    shares = []
    for query in made.queries(size.recalled, seed=11):
        quick = {hit.entry.key for hit in (await router.search(query, k=DEPTH)).hits}
        with _everything_scored():
            exact = {hit.entry.key for hit in (await router.search(query, k=DEPTH)).hits}
        shares.append(len(quick & exact) / max(1, len(exact)))
    return round(sum(shares) / len(shares), 4)


@contextmanager
def _everything_scored() -> Iterator[None]:
    before, retrieval.ALL_UP_TO = retrieval.ALL_UP_TO, 10**9
    try:
        yield
    finally:
        retrieval.ALL_UP_TO = before
