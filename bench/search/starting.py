"""A node's search with a hundred thousand tools: its first start, and what a second one takes; memory and disk.

Each start is a process of its own (`python -m bench.search.starting DIRECTORY SIZE`), so that memory is counted
from nothing and nothing is at hand but what lies on disk.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bench.search import made
from bench.search.rig import Size, embedder, fill, peak_mb, rss_mb, snapshot_of, until
from router.chroma_directory import ChromaDirectory
from router.keeping import KeptVectors
from router.router import Router

START_S_MAX = 3_600


async def starting(size: Size) -> dict[str, Any]:
    """Twice the same node; the tools themselves are made before the clock runs."""
    with tempfile.TemporaryDirectory(prefix="toolmesh-bench-") as temporary:
        directory = Path(temporary)
        # Both starts find the vectors of the phrases.
        embedder(size)
        first = await asyncio.to_thread(_start, directory, size)
        print(f"  first: {json.dumps(first)}", flush=True)
        on_disk = {name: _mb(directory / name) for name in ("vectors", "index.snapshot")}
        if size.kept:
            shutil.copy(directory / "index.snapshot", snapshot_of(size, size.tools[-1]))
        second = await asyncio.to_thread(_start, directory, size)
    disk = round(sum(on_disk.values()), 1)
    return {"tools": size.tools[-1], "first": first, "second": second, "disk_mb": disk, "on_disk_mb": on_disk}


def _start(directory: Path, size: Size) -> dict[str, Any]:
    command = [sys.executable, "-m", "bench.search.starting", str(directory), json.dumps(asdict(size))]
    done = subprocess.run(command, capture_output=True, text=True, timeout=START_S_MAX, check=False)
    if done.returncode:
        raise RuntimeError(f"a start failed: {done.stderr[-2_000:]}")
    figures: dict[str, Any] = json.loads(done.stdout)
    return figures


def _mb(path: Path) -> float:
    files = [path] if path.is_file() else path.rglob("*")
    return round(sum(f.stat().st_size for f in files if f.is_file()) / 2**20, 1)


async def _measure(directory: Path, size: Size) -> dict[str, Any]:
    model = embedder(size)
    tools = list(made.tools(size.tools[-1]))
    query = made.queries(1)[0]
    model.embed([query], query=True)
    figures: dict[str, Any] = {"rss_of_tools_mb": rss_mb()}
    began, used = time.perf_counter(), time.process_time()

    def passed(what: str) -> None:
        figures[f"{what}_s"] = round(time.perf_counter() - began, 2)
        figures[f"{what}_cpu_s"] = round(time.process_time() - used, 2)

    kept = KeptVectors(ChromaDirectory(directory / "vectors", model.model_id))
    router = Router(model, kept, snapshot=directory / "index.snapshot")
    await router.start()
    await fill(router, tools)
    found = await router.search(query)
    passed("first_answer")
    assert found.hits
    # Counts too what waits in the inbox: all of it is searchable by words then.
    await until(lambda: router.status().mode == "hybrid" and not router.status().pending, 0.05)
    passed("searchable")
    await router.settled()
    passed("settled")
    assert (await router.search(query)).mode == "hybrid"
    figures["peak_until_settled_mb"] = peak_mb()
    await asyncio.sleep(size.rest_s)
    figures |= {"rss_mb": rss_mb(), "peak_mb": peak_mb()}
    status = router.status()
    figures |= {"from_store": status.from_store, "computed": status.computed}
    began, used = time.perf_counter(), time.process_time()
    await router.stop()
    passed("stopping")
    return figures


if __name__ == "__main__":
    asked = json.loads(sys.argv[2])
    print(json.dumps(asyncio.run(_measure(Path(sys.argv[1]), Size(**{**asked, "tools": tuple(asked["tools"])})))))
