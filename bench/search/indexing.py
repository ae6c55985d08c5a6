"""How fast texts become vectors, beside sentence-transformers with the same weights and texts in the same run."""

from __future__ import annotations

import importlib.util
import json
import math
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.search import made
from bench.search.rig import Size, default_model
from router.documents import document
from router.embedders.minilm import PACKAGE
from router.embedding import TEXTS_A_BATCH

ROOT = Path(__file__).parents[2]
MODELS = ROOT / ".venv-models" / "bin" / "python"
ROUNDS = 3
THEIRS_S_MAX = 600


@dataclass(frozen=True, slots=True)
class Took:
    """The least of some rounds, on the wall's clock and the processor's."""

    wall_s: float = math.inf
    cpu_s: float = math.inf

    def least(self, wall_s: float, cpu_s: float) -> Took:
        return Took(min(self.wall_s, wall_s), min(self.cpu_s, cpu_s))


async def indexing(size: Size) -> dict[str, Any]:
    """Texts a second, of tools' documents as the router makes them; rounds in turn, the best of each."""
    texts = list(dict.fromkeys(t for entry in made.tools(size.texts) for t in _texts(entry)))[: size.texts]
    figures: dict[str, Any] = {"texts": len(texts), "characters": round(sum(map(len, texts)) / len(texts))}
    ours = default_model()
    theirs = _Theirs.start() if MODELS.is_file() else None
    took, took_theirs = Took(), Took()
    for _ in range(ROUNDS):
        began, used = time.perf_counter(), time.process_time()
        for begin in range(0, len(texts), TEXTS_A_BATCH):
            ours.embed(texts[begin : begin + TEXTS_A_BATCH])
        took = took.least(time.perf_counter() - began, time.process_time() - used)
        if theirs is not None:
            took_theirs = took_theirs.least(*theirs.embed(texts))
    figures |= {"texts_per_s": round(len(texts) / took.wall_s, 1), "cpu_s": round(took.cpu_s, 2)}
    if theirs is None:
        figures["without_reference"] = f"{MODELS.relative_to(ROOT)} is missing: run make models"
        return figures
    theirs.stop()
    return {
        **figures,
        "reference_per_s": round(len(texts) / took_theirs.wall_s, 1),
        "reference_cpu_s": round(took_theirs.cpu_s, 2),
        "ratio": round(took_theirs.wall_s / took.wall_s, 2),
        "ratio_cpu": round(took_theirs.cpu_s / took.cpu_s, 2),
    }


def _texts(entry: Any) -> list[str]:
    doc = document(entry)
    return [t for t in (doc.named, doc.placed, *doc.sentences, doc.server) if t]


class _Theirs:
    """A process with torch, which is no part of ours."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    @classmethod
    def start(cls) -> _Theirs:
        script = Path(__file__).with_name("theirs.py")
        process = subprocess.Popen(
            [str(MODELS), str(script), str(_model())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        return cls(process)

    def embed(self, texts: list[str]) -> tuple[float, float]:
        """Seconds, and those of the processor."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(texts) + "\n")
        self._process.stdin.flush()
        wall_s, cpu_s = map(float, self._process.stdout.readline().split())
        return wall_s, cpu_s

    def stop(self) -> None:
        self._process.communicate(timeout=THEIRS_S_MAX)


def _model() -> Path:
    spec = importlib.util.find_spec(PACKAGE)
    assert spec is not None
    assert spec.submodule_search_locations
    return Path(spec.submodule_search_locations[0]) / "model"
