from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from router import dense as module
from router.dense import Dense, Part
from router.pool import Floats, Rows
from tests.router.views import view

WIDTH = 160
COUNT = 3_000


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    """What holds from 8,192 rows on holds here from 300 on."""
    monkeypatch.setattr(module, "EXACT_MAX", 300)
    monkeypatch.setattr(module, "SHORTLIST", 150)
    monkeypatch.setattr(module, "PUTS_A_SLICE", 4)
    monkeypatch.setattr(module, "ROOM", 64)


def texts(count: int, seed: int = 0) -> Floats:
    """Unit vectors that lie as those of texts do: in some directions they differ much, in most a little."""
    drawn = np.random.default_rng(seed).standard_normal((count, WIDTH)) / np.sqrt(np.arange(1, WIDTH + 1))
    drawn[:, 0] += 1
    return np.asarray(drawn / np.linalg.norm(drawn, axis=1, keepdims=True), dtype=np.float32)


def filled(vectors: Floats) -> Dense:
    dense = Dense(WIDTH)
    for row, vector in enumerate(vectors):
        dense.put(row, Part.NAMED, vector)
    return dense


def recall(dense: Dense, vectors: Floats, queries: Floats, rows: Rows) -> float:
    """Share of the ten nearest of `rows` that are among the fifty candidates."""
    found = dense.candidates(queries, view(rows, len(vectors)), 50)
    wanted = [rows[np.argsort(-similar)[:10]] for similar in queries @ vectors[rows].T]
    return float(np.mean([np.isin(want, got).mean() for want, got in zip(wanted, found.rows, strict=True)]))


VECTORS = texts(COUNT)
QUERIES = texts(60, seed=1)


def test_a_shortlist_holds_the_nearest_whatever_part_is_visible() -> None:
    dense = filled(VECTORS)
    assert dense.approximate
    chance = np.random.default_rng(2)
    for share in (1.0, 0.98, 0.5, 0.15, 0.02):
        rows = np.flatnonzero(chance.random(COUNT) < share)
        assert recall(dense, VECTORS, QUERIES, rows) >= 0.99


def test_a_shortlist_has_the_mean_and_spread_of_all_that_is_visible() -> None:
    dense = filled(VECTORS)
    rows = np.arange(0, COUNT, 2)
    # As unlike the texts as can be: a good part of them lies in directions that are not looked at.
    queries = np.random.default_rng(5).standard_normal((60, WIDTH)).astype(np.float32)
    queries /= np.linalg.norm(queries, axis=1, keepdims=True)
    similar = queries @ VECTORS[rows].T
    found = dense.candidates(queries, view(rows, COUNT), 50)
    np.testing.assert_allclose(found.mean, similar.mean(axis=1), atol=0.005)
    np.testing.assert_allclose(found.spread, similar.std(axis=1), rtol=0.03)


def test_rows_that_change_while_directions_are_sought_and_after_are_found() -> None:
    vectors, moved = VECTORS.copy(), texts(COUNT, seed=3)
    dense = Dense(WIDTH)
    chance = np.random.default_rng(4)
    for row in range(COUNT):
        dense.put(row, Part.NAMED, vectors[row])
        again = int(chance.integers(row + 1))
        vectors[again] = moved[again]
        dense.put(again, Part.NAMED, vectors[again])
    assert dense.approximate
    assert recall(dense, vectors, QUERIES, np.arange(COUNT)) >= 0.99


def test_removed_rows_are_no_candidates() -> None:
    dense = filled(VECTORS)
    for row in range(0, COUNT, 3):
        dense.remove(row)
    found = dense.candidates(QUERIES, view(range(COUNT), COUNT), 50)
    assert all((rows % 3 != 0).all() for rows in found.rows)


def test_equal_texts_have_no_directions_and_are_found_all_the_same() -> None:
    same = np.repeat(VECTORS[:1], COUNT, axis=0)
    found = filled(same).candidates(QUERIES, view(range(COUNT), COUNT), 50)
    assert [len(rows) for rows in found.rows] == [50] * len(QUERIES)
    assert np.isfinite(found.mean).all()
    np.testing.assert_allclose(found.spread, 0, atol=0.01)


def as_read(state: dict[str, Any]) -> dict[str, Any]:
    return {n: np.frombuffer(v, np.uint8) if isinstance(v, bytes) else np.array(v) for n, v in state.items()}


def test_what_comes_back_finds_the_same_and_goes_on_changing() -> None:
    before = filled(VECTORS)
    for row in range(0, COUNT, 5):
        before.put(row, Part.PLACED, VECTORS[row - 1])
        before.put(row, Part.SENTENCE_1, VECTORS[row - 2])
        before.serve(row, f"server {row % 7}", VECTORS[row % 7])
    after = Dense(WIDTH)
    after.restore(as_read(before.state()))
    assert after.approximate
    assert repr(after) == repr(before)
    for dense in (before, after):
        dense.remove(5)
        dense.put(COUNT, Part.NAMED, VECTORS[5])
        dense.put(COUNT, Part.SENTENCE_0, VECTORS[6])
        dense.serve(COUNT, "server 3", VECTORS[9])
    rows, seen = np.arange(COUNT + 1), view(range(COUNT + 1), COUNT + 1)
    np.testing.assert_array_equal(before.scores(QUERIES, rows), after.scores(QUERIES, rows))
    np.testing.assert_array_equal(before.server_scores(QUERIES, rows), after.server_scores(QUERIES, rows))
    one, other = before.candidates(QUERIES, seen, 50), after.candidates(QUERIES, seen, 50)
    assert [sorted(r.tolist()) for r in one.rows] == [sorted(r.tolist()) for r in other.rows]


@pytest.mark.parametrize(
    ("name", "spoil"),
    [
        ("made_by", lambda v: v[:-1]),
        ("main", lambda v: v[:-1]),
        ("main", lambda v: v.astype(np.float32)),
        ("embedded", lambda v: v[1:]),
        ("placed", lambda v: v[1:]),
        ("sentences", lambda v: v[:-1]),
        ("sentences_of", lambda v: np.maximum(v, 0)),
        ("servers", lambda v: v[:, 1:]),
        ("server_of", lambda v: v + 1),
        ("digests", lambda v: v[:-20]),
        ("directions", lambda v: v[1:]),
    ],
)
def test_what_does_not_fit_together_is_refused_and_changes_nothing(name: str, spoil: Any) -> None:
    dense = filled(VECTORS)
    for row in range(8):
        dense.put(row, Part.SENTENCE_0, VECTORS[row])
        dense.serve(row, f"server {row}", VECTORS[row])
    kept, fresh = as_read(dense.state()), Dense(WIDTH)
    with pytest.raises(ValueError):  # noqa: PT011 - each says what it is in its own words
        fresh.restore(kept | {name: spoil(kept[name])})
    assert repr(fresh) == "Dense(0 rows, 0 sentences, 0 servers)"
