from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from bench import calibrate
from router.confidence import Signals
from router.evaluation.sets import read


def test_the_area_is_how_often_the_right_one_is_thought_likelier() -> None:
    right = np.array([1.0, 1.0, 0.0, 0.0])
    assert calibrate.area(np.array([0.9, 0.8, 0.2, 0.1]), right) == 1.0
    assert calibrate.area(np.array([0.1, 0.2, 0.8, 0.9]), right) == 0.0
    assert calibrate.area(np.array([0.5, 0.5, 0.5, 0.5]), right) == 0.5


def test_a_fit_finds_the_signal_that_tells_and_leaves_the_one_that_does_not() -> None:
    chance = np.random.default_rng(5)
    x = np.c_[np.ones(400), chance.normal(size=(400, 2))]
    y = (chance.random(400) < 1 / (1 + np.exp(-(2 * x[:, 1] - 1)))).astype(float)
    constant, telling, idle = calibrate.fit(x, y, np.full(400, 1 / 400))
    assert telling > 1
    assert constant < -0.5
    assert abs(idle) < 0.5


def test_every_corpus_and_way_of_asking_counts_alike() -> None:
    one = calibrate.Case("a", "asked", Signals(None, 1.0, 0.0), right=True)
    many = [calibrate.Case("b", "asked", Signals(None, 0.0, 0.0), right=False)] * 9
    _, _, weights = calibrate.table([one, *many], ("coverage",))
    assert weights[0] == pytest.approx(0.5)


def test_a_query_is_asked_in_every_way(tmp_path: Path) -> None:
    tools = [
        {"server": "s", "tool": f"tool_{n}", "description": f"Does {n}."} for n in ("red", "green", "blue", "black")
    ]
    (tmp_path / "corpus.jsonl").write_text("".join(json.dumps(t) + "\n" for t in tools), "utf-8")
    (tmp_path / "queries.jsonl").write_text(json.dumps({"query": "do green", "relevant": ["s/tool_green"]}), "utf-8")
    (one,) = read(tmp_path).sets
    found = list(calibrate.cases(one, calibrate.Collection(one.corpus, None), one.queries, 5))
    ways = {case.kind: case.right for case in found}
    assert ways["asked"]
    assert ways["among few"]
    assert not any(ways.get(kind, False) for kind in ("taken away", "foreign", "few, without"))
