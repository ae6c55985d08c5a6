"""What the parts of the bench share: the size of a run, routers full of made tools, times and their percentiles."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

import psutil

from bench.search import made
from bench.search.stand_in import StandIn
from router.embedders.factory import make_embedder
from router.evaluation.metrics import percentile
from router.ports import EVERYTHING, Embedder, Filter, ToolEntry, VectorStore
from router.router import Router

APPLIED_AT_ONCE = 1_000


@dataclass(frozen=True)
class Size:
    """How much of everything is measured. `real`: no stand-ins, the model embeds every text."""

    tools: tuple[int, ...] = (1_000, 10_000, 100_000)
    searches: int = 120
    tasks: int = 60
    recalled: int = 100
    fresh: int = 10
    texts: int = 400
    real: bool = False


QUICK = Size(tools=(1_000, 5_000), searches=20, tasks=10, recalled=20, fresh=3, texts=60)


def default_model() -> Embedder:
    """The model of a node without settings, loaded."""
    model = make_embedder()
    assert model is not None
    model.load()
    return model


def embedder(size: Size) -> Embedder:
    model = default_model()
    if size.real:
        return model
    stand_in = StandIn(model)
    stand_in.load()
    return stand_in


@asynccontextmanager
async def filled(
    model: Embedder, tools: Iterable[ToolEntry], store: VectorStore | None = None
) -> AsyncIterator[Router]:
    """A router that has everything indexed and embedded."""
    router = Router(model, store)
    await router.start()
    try:
        await fill(router, list(tools))
        await router.settled()
        yield router
    finally:
        await router.stop()


async def fill(router: Router, tools: Sequence[ToolEntry]) -> None:
    """As a node does, some at a time."""
    for begin in range(0, len(tools), APPLIED_AT_ONCE):
        router.apply(tools[begin : begin + APPLIED_AT_ONCE], ())
        await asyncio.sleep(0)


async def until(holds: Callable[[], bool], every_s: float = 0.002) -> float:
    """How long it took, in seconds."""
    began = time.perf_counter()
    while not holds():  # noqa: ASYNC110 - what is measured tells nobody when it is done
        await asyncio.sleep(every_s)
    return time.perf_counter() - began


async def timed(router: Router, queries: Iterable[str], only: Filter = EVERYTHING, searchers: int = 1) -> list[float]:
    """Milliseconds of each search as its searcher sees it; each of several asks as soon as it is answered."""
    waiting = iter(queries)
    took: list[float] = []

    async def searcher() -> None:
        for query in waiting:
            began = time.perf_counter()
            await router.search(query, only=only)
            took.append((time.perf_counter() - began) * 1000)

    await asyncio.gather(*(searcher() for _ in range(searchers)))
    return took


def spread(times: Sequence[float]) -> dict[str, float]:
    """p50 and p95, in milliseconds."""
    return {"p50_ms": round(percentile(times, 0.5), 3), "p95_ms": round(percentile(times, 0.95), 3)}


async def searched(
    router: Router, queries: Sequence[str], only: Filter = EVERYTHING, searchers: int = 1
) -> dict[str, float]:
    """Percentiles, and `cpu_ms`: processor time of this process a search, which a busy machine stretches less."""
    began = time.process_time()
    times = await timed(router, queries, only, searchers)
    return {**spread(times), "cpu_ms": round((time.process_time() - began) * 1000 / len(times), 3)}


def rss_mb() -> float:
    return round(psutil.Process().memory_info().rss / 2**20, 1)


def one_core() -> int:
    """Everything that this process does from now on happens on one core; which one."""
    core = min(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {core})
    return core


async def warm(router: Router, searches: int = 5) -> None:
    """The first searches of a router pay for caches that all others find filled."""
    await timed(router, made.queries(searches, seed=99))
