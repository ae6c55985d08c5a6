from __future__ import annotations

import numpy as np
import pytest

from router import byte_products
from router.byte_products import QUERY_MAX, products

CHANCE = np.random.default_rng(0)


@pytest.fixture(params=["onnxruntime", "numpy"])
def _way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "numpy":
        monkeypatch.setattr(byte_products, "_runner", lambda: None)
    else:
        assert byte_products._runner() is not None


@pytest.mark.usefixtures("_way")
@pytest.mark.parametrize(("rows", "width", "queries"), [(2_500, 96, 4), (1, 96, 1), (0, 96, 2), (33, 7, 40)])
def test_products_are_those_of_whole_numbers(rows: int, width: int, queries: int) -> None:
    left = CHANCE.integers(0, 256, (rows, width)).astype(np.uint8)
    right = CHANCE.integers(-QUERY_MAX, QUERY_MAX + 1, (width, queries)).astype(np.int8)
    found = products(left, right)
    assert found.shape == (rows, queries)
    assert (found == left.astype(np.int64) @ right.astype(np.int64)).all()


@pytest.mark.usefixtures("_way")
def test_the_largest_products_do_not_overflow() -> None:
    left = np.full((40, 384), 255, dtype=np.uint8)
    for sign in (1, -1):
        right = np.full((384, 3), sign * QUERY_MAX, dtype=np.int8)
        assert (products(left, right) == sign * 384 * 255 * QUERY_MAX).all()
