"""How soon a change is searchable on an idle node: by its words, and by its meaning."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from random import Random
from typing import Any

from bench.search import made
from bench.search.rig import Size, embedder, filled, spread, until, warm
from bench.search.stand_in import StandIn
from proto import jsons
from router.ports import Embedder, ToolEntry, ToolKey
from router.router import Router

TOOLS = 10_000


async def freshness(size: Size) -> dict[str, Any]:
    """A tool at a time joins ten thousand, embedded by the model itself; milliseconds."""
    model = embedder(size)
    words, meanings = [], []
    async with filled(model, made.tools(min(TOOLS, size.tools[-1]))) as router:
        await warm(router)
        with _model_itself(model):
            used = time.process_time()
            for number in range(size.fresh):
                name = f"{made.maker(Random(number)).lower()}_zeppelin_{number}"
                began = time.perf_counter()
                key = _join(router, name)
                found = await router.search(name, k=1)
                words.append((time.perf_counter() - began) * 1000)
                assert found.hits[0].entry.key == key, found.hits[:1]
                await until(lambda key=key: not router.waits(key))  # type: ignore[misc]
                meanings.append((time.perf_counter() - began) * 1000)
            used = (time.process_time() - used) * 1000 / size.fresh
    count = min(TOOLS, size.tools[-1])
    return {"tools": count, "words": spread(words), "meaning": spread(meanings), "cpu_ms": round(used, 1)}


@contextmanager
def _model_itself(model: Embedder) -> Iterator[None]:
    """Nothing stands in for it meanwhile."""
    if not isinstance(model, StandIn):
        yield
        return
    model.stands_in = False
    try:
        yield
    finally:
        model.stands_in = True


def _join(router: Router, name: str) -> ToolKey:
    definition = {"name": name, "description": f"Steers the airship {name} to a mast and moors it. Needs calm air."}
    key = ToolKey("bench-1", "airships", name)
    about = "Airships: masts, gas, ballast."
    router.apply([ToolEntry(key, definition, jsons.digest(definition), server_description=about)], ())
    return key
