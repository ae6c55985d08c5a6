from __future__ import annotations

import numpy as np
import pytest

from router.dense import Dense, Part
from router.pool import Floats
from tests.router.views import view

WIDTH = 16


def axis(*indices: int) -> Floats:
    vector = np.zeros(WIDTH, dtype=np.float32)
    vector[list(indices)] = 1
    return vector / np.linalg.norm(vector)


def units(count: int, seed: int = 0, width: int = WIDTH) -> Floats:
    drawn = np.random.default_rng(seed).standard_normal((count, width)).astype(np.float32)
    return np.asarray(drawn / np.linalg.norm(drawn, axis=1, keepdims=True), dtype=np.float32)


def whole(dense: Dense, row: int, vectors: Floats) -> None:
    """Every part of a row: named, placed and two sentences."""
    for part, vector in zip(Part, vectors, strict=True):
        dense.put(row, part, vector)


def one(values: Floats) -> list[float]:
    return [round(float(v), 3) for v in values.ravel()]


def test_the_score_is_the_weighted_sum_of_name_place_and_nearest_sentence() -> None:
    dense = Dense(WIDTH)
    whole(dense, 2, np.stack([axis(0), axis(1), axis(2), axis(3)]))
    rows = np.array([2])
    queries = np.stack([axis(0), axis(1), axis(2), axis(3), axis(4)])
    # The whole stands for a sentence where it is nearer: 0.5 + 0.3 * 0.5 / 0.7.
    assert one(dense.scores(queries, rows)) == [0.714, 0.286, 0.3, 0.3, 0]


def test_the_name_stands_in_for_what_is_still_to_come() -> None:
    dense = Dense(WIDTH)
    rows, query = np.array([0]), axis(0)[None]
    assert one(dense.scores(query, rows)) == [0]
    assert dense.known(rows).tolist() == [False]
    dense.put(0, Part.NAMED, axis(0))
    assert dense.known(rows).tolist() == [True]
    assert one(dense.scores(query, rows)) == [1]
    dense.put(0, Part.PLACED, axis(1))
    assert one(dense.scores(query, rows)) == [0.714]
    dense.put(0, Part.SENTENCE_0, axis(0))
    assert one(dense.scores(query, rows)) == [0.8]


def test_parts_are_refused_before_the_name_and_what_is_no_unit_vector_always() -> None:
    dense = Dense(WIDTH)
    with pytest.raises(ValueError, match="comes first"):
        dense.put(0, Part.PLACED, axis(1))
    with pytest.raises(ValueError, match="beyond ±1"):
        dense.put(0, Part.NAMED, axis(1) * 3)
    with pytest.raises(ValueError, match="no numbers"):
        dense.put(0, Part.NAMED, axis(1) * np.float32(np.nan))


def test_tools_of_a_server_share_its_vector_and_silent_servers_have_none() -> None:
    dense = Dense(WIDTH)
    for row in range(3):
        dense.put(row, Part.NAMED, axis(row))
    dense.serve(0, "a", axis(3))
    dense.serve(1, "a", axis(3))
    similar = dense.server_scores(axis(3)[None], np.arange(3))[0]
    assert one(similar[:2]) == [1, 1]
    assert np.isnan(similar[2])
    assert repr(dense) == "Dense(3 rows, 0 sentences, 1 servers)"
    dense.remove(0)
    assert one(dense.server_scores(axis(3)[None], np.array([1]))) == [1]
    dense.serve(1, "b", axis(4))
    assert repr(dense) == "Dense(2 rows, 0 sentences, 1 servers)"


def test_a_row_is_used_again_with_nothing_of_the_old_left() -> None:
    dense = Dense(WIDTH)
    whole(dense, 0, np.stack([axis(0), axis(1), axis(2), axis(3)]))
    dense.serve(0, "a", axis(5))
    dense.remove(0)
    assert repr(dense) == "Dense(0 rows, 0 sentences, 0 servers)"
    rows = np.array([0])
    assert one(dense.scores(axis(0)[None], rows)) == [0]
    dense.put(0, Part.NAMED, axis(4))
    assert one(dense.scores(np.stack([axis(i) for i in range(6)]), rows)) == [0, 0, 0, 0, 1, 0]
    assert np.isnan(dense.server_scores(axis(5)[None], rows)).all()


def test_candidates_are_the_nearest_that_are_visible_and_embedded_with_the_spread_of_those() -> None:
    dense, vectors = Dense(WIDTH), units(300)
    for row in range(0, 300, 2):
        dense.put(row, Part.NAMED, vectors[row])
    queries = units(3, seed=1)
    seen = view(range(0, 300, 3), 320)
    rows = np.arange(0, 300, 6)
    similar = queries @ vectors[rows].T
    found = dense.candidates(queries, seen, 7)
    for each, cosines in zip(found.rows, similar, strict=True):
        assert sorted(each.tolist()) == sorted(rows[np.argsort(-cosines)[:7]].tolist())
    np.testing.assert_allclose(found.mean, similar.mean(axis=1), atol=1e-4)
    np.testing.assert_allclose(found.spread, similar.std(axis=1), atol=1e-4)


def test_rows_that_nobody_has_embedded_are_no_candidates_and_no_error() -> None:
    dense = Dense(WIDTH)
    found = dense.candidates(units(2), view(range(5), 8), 3)
    assert [r.tolist() for r in found.rows] == [[], []]
    assert found.mean.tolist() == found.spread.tolist() == [0, 0]
    assert one(dense.scores(units(1), np.array([7]))) == [0]
    dense.remove(90)
