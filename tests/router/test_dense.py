from __future__ import annotations

import numpy as np
import pytest

from router.dense import Dense
from router.ports import Vectors


def axis(*indices: int) -> Vectors:
    vector = np.zeros(8, dtype=np.float32)
    vector[list(indices)] = 1
    return vector / np.linalg.norm(vector)


def test_similarity_is_the_weighted_sum_of_both_cosines() -> None:
    dense = Dense(8)
    dense.add(axis(0), axis(1))
    assert dense.similarities(np.stack([axis(0), axis(1), axis(2)])).ravel().tolist() == pytest.approx([0.5, 0.2, 0])


def test_the_nearest_sentence_counts_and_a_single_sentence_is_the_whole() -> None:
    dense = Dense(8)
    long = dense.add(axis(0), axis(0), [axis(1), axis(2)])
    short = dense.add(axis(0), axis(0))
    queries = axis(2)[None]
    rows = np.array([long, short])
    main = dense.similarities(queries)[:, rows]
    assert dense.sentence_similarities(queries, rows, main).ravel().tolist() == pytest.approx([0.3, 0])
    whole = axis(0)[None]
    main = dense.similarities(whole)[:, rows]
    assert dense.sentence_similarities(whole, rows, main).ravel().tolist() == pytest.approx([0.3, 0.3])


def test_tools_of_a_server_share_its_vector_and_silent_servers_have_none() -> None:
    dense = Dense(8)
    dense.add(axis(0), axis(0), server=("a", axis(3)))
    dense.add(axis(1), axis(1), server=("a", axis(3)))
    dense.add(axis(2), axis(2))
    similar = dense.server_similarities(axis(3)[None])[0]
    assert similar[:2].tolist() == [1, 1]
    assert np.isnan(similar[2])
    assert repr(dense) == "Dense(3 rows, 0 sentences, 1 servers)"


def test_rows_are_reused_after_removal_with_nothing_of_the_old_left() -> None:
    dense = Dense(8)
    first = dense.add(axis(0), axis(0), [axis(1), axis(2)], ("a", axis(3)))
    dense.remove(first)
    again = dense.add(axis(4), axis(4))
    assert again == first
    rows = np.array([again])
    queries = axis(1)[None]
    assert dense.sentence_similarities(queries, rows, dense.similarities(queries)).tolist() == [[0]]
    assert np.isnan(dense.server_similarities(axis(3)[None])).all()


def test_many_rows_grow_the_matrix_and_keep_their_vectors() -> None:
    dense = Dense(8)
    rows = [dense.add(axis(i % 8), axis(i % 8), [axis(i % 8), axis((i + 1) % 8)]) for i in range(500)]
    assert rows == list(range(500))
    similar = dense.similarities(axis(3)[None])[0]
    assert np.flatnonzero(similar > 0.6).tolist() == list(range(3, 500, 8))
