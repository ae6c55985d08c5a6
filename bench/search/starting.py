"""A node's search with a hundred thousand tools: its first start, and what a second one takes; memory and disk.

Each start is a process of its own (`python -m bench.search.starting DIRECTORY TOOLS REAL`), so that memory is counted
from nothing and nothing is at hand but what lies on disk.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from bench.search import made
from bench.search.rig import Size, embedder, fill, rss_mb, until
from router.chroma_directory import ChromaDirectory
from router.keeping import KeptVectors
from router.router import Router

START_S_MAX = 3_600


async def starting(size: Size) -> dict[str, Any]:
    """Twice the same node; the tools themselves are made before the clock runs."""
    with tempfile.TemporaryDirectory(prefix="toolmesh-bench-") as directory:
        first = await asyncio.to_thread(_start, directory, size)
        on_disk = _mb(Path(directory))
        second = await asyncio.to_thread(_start, directory, size)
    return {"tools": size.tools[-1], "first": first, "second": second, "disk_mb": on_disk}


def _start(directory: str, size: Size) -> dict[str, Any]:
    command = [sys.executable, "-m", "bench.search.starting", directory, str(size.tools[-1]), str(int(size.real))]
    done = subprocess.run(command, capture_output=True, text=True, timeout=START_S_MAX, check=False)
    if done.returncode:
        raise RuntimeError(f"a start failed: {done.stderr[-2_000:]}")
    figures: dict[str, Any] = json.loads(done.stdout)
    return figures


def _mb(directory: Path) -> float:
    return round(sum(f.stat().st_size for f in directory.rglob("*") if f.is_file()) / 2**20, 1)


async def _measure(directory: Path, count: int, real: bool) -> dict[str, Any]:
    model = embedder(Size(real=real))
    tools = list(made.tools(count))
    query = made.queries(1)[0]
    model.embed([query], query=True)
    figures = {"rss_of_tools_mb": rss_mb()}
    began = time.perf_counter()
    kept = KeptVectors(ChromaDirectory(directory / "vectors", model.model_id))
    router = Router(model, kept, snapshot=directory / "index.snapshot")
    await router.start()
    await fill(router, tools)
    found = await router.search(query)
    figures["first_answer_s"] = round(time.perf_counter() - began, 2)
    assert found.hits
    # Counts too what waits in the inbox: all of it is searchable by words then.
    await until(lambda: router.status().mode == "hybrid" and not router.status().pending, 0.05)
    figures["searchable_s"] = round(time.perf_counter() - began, 2)
    await router.settled()
    figures["settled_s"] = round(time.perf_counter() - began, 2)
    assert (await router.search(query)).mode == "hybrid"
    figures["rss_mb"] = rss_mb()
    status = router.status()
    figures |= {"from_store": status.from_store, "computed": status.computed}
    began = time.perf_counter()
    await router.stop()
    return {**figures, "stopping_s": round(time.perf_counter() - began, 2)}


if __name__ == "__main__":
    print(json.dumps(asyncio.run(_measure(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3] == "1"))))
