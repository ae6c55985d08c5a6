from __future__ import annotations

from hashlib import sha256

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.digests import DigestSet


def digest(i: int) -> str:
    return sha256(str(i).encode()).hexdigest()


@settings(deadline=None)
@given(st.sets(st.integers(0, 50)), st.lists(st.sets(st.integers(0, 50)), max_size=5), st.integers(0, 3))
def test_it_holds_what_was_given_and_added(given_: set[int], added: list[set[int]], merges: int) -> None:
    held = DigestSet(map(digest, given_))
    expected = set(given_)
    for more in added:
        held.add([digest(i) for i in more])
        expected |= more
        if merges:
            held = DigestSet.of(held.array())
    assert held.has([digest(i) for i in range(60)]).tolist() == [i in expected for i in range(60)]
    assert len(held) == len(expected)


def test_much_that_is_added_is_merged() -> None:
    held = DigestSet()
    for begin in range(0, 5_000, 500):
        held.add([digest(i) for i in range(begin, begin + 500)])
    assert len(held) == 5_000
    assert len(held._added) <= 1_000
    assert held.has([digest(4_999), digest(5_000)]).tolist() == [True, False]


@pytest.mark.parametrize("array", [np.array([2, 1], np.uint64), np.array([1, 1], np.uint64), np.array([1.0])])
def test_what_is_no_sorted_array_is_refused(array: np.ndarray) -> None:  # type: ignore[type-arg]
    with pytest.raises(ValueError, match="no sorted array"):
        DigestSet.of(array)
