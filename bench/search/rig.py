"""What the parts of the bench share: the size of a run, routers full of made tools, times and their percentiles."""

from __future__ import annotations

import asyncio
import functools
import os
import resource
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil

from bench.search import made
from bench.search.stand_in import StandIn
from router.embedders.factory import make_embedder
from router.evaluation.metrics import percentile
from router.ports import EVERYTHING, Embedder, Filter, ToolEntry
from router.router import Router

APPLIED_AT_ONCE = 1_000


@dataclass(frozen=True)
class Size:
    """How much of everything is measured. `real`: no stand-ins, the model embeds every text. `kept`: a folder for what
    is made once, the vectors of `StandIn` and the snapshot of the index of `starting`, which `latency` takes up."""

    tools: tuple[int, ...] = (1_000, 10_000, 100_000)
    searches: int = 120
    tasks: int = 60
    recalled: int = 100
    fresh: int = 10
    texts: int = 400
    pairs: int = 300
    rest_s: float = 15.0
    real: bool = False
    kept: str = ""


QUICK = Size(tools=(1_000, 5_000), searches=20, tasks=10, recalled=20, fresh=3, texts=60, pairs=40, rest_s=1.0)


def default_model() -> Embedder:
    """The model of a node without settings, loaded."""
    model = make_embedder()
    assert model is not None
    model.load()
    return model


@functools.cache
def embedder(size: Size) -> Embedder:
    """The default model or stand-ins over it; one for all parts: the phrases take it seconds."""
    model = default_model()
    if size.real:
        return model
    stand_in = StandIn(model, Path(size.kept) / "phrases.npy" if size.kept else None)
    stand_in.load()
    return stand_in


@asynccontextmanager
async def filled(model: Embedder, tools: Iterable[ToolEntry], made_before: Path | None = None) -> AsyncIterator[Router]:
    """A router that has everything indexed and embedded, from the snapshot `made_before` where there is one."""
    with tempfile.TemporaryDirectory(prefix="toolmesh-bench-") as directory:
        router = Router(model, None, snapshot=_lent(made_before, Path(directory)))
        await router.start()
        try:
            await fill(router, list(tools))
            await router.settled()
            yield router
        finally:
            await router.stop()


def _lent(made_before: Path | None, directory: Path) -> Path | None:
    """A link in whose place a router may write its own."""
    if made_before is None or not made_before.is_file():
        return None
    snapshot = directory / "index.snapshot"
    snapshot.symlink_to(made_before.absolute())
    return snapshot


def snapshot_of(size: Size, count: int) -> Path:
    """Where the index of so many tools is kept."""
    return Path(size.kept) / f"index-{count}{'-real' if size.real else ''}.snapshot"


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


def peak_mb() -> float:
    """The most that was resident. Of this program: the kernel's `ru_maxrss` counts what the process was before, too."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return round(next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024, 1)


def cpu_s() -> float:
    """Processor time of this process and of those that it has waited for."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def reference_ms(products: int = 25) -> float:
    """Processor time of a product of 20,000 vectors by one, the median: how fast this machine is at this moment."""
    vectors = np.ones((20_000, 384), np.float32)
    took = []
    for _ in range(products):
        began = time.thread_time()
        vectors @ vectors[0]
        took.append((time.thread_time() - began) * 1000)
    return percentile(took, 0.5)


def one_core() -> int:
    """Everything that this process does from now on happens on one core; which one."""
    core = min(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {core})
    return core


async def warm(router: Router, searches: int = 5) -> None:
    """The first searches of a router pay for caches that all others find filled."""
    await timed(router, made.queries(searches, seed=99))
