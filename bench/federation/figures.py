"""Numbers as figures: medians, 99th percentiles, and the digits that mean something."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any


def ms(ns: int) -> float:
    return ns / 1e6


def half(numbers: Sequence[float]) -> float:
    return statistics.median(numbers)


def most(numbers: Sequence[float]) -> float:
    """The 99th percentile: the smallest number that at least 99 % do not exceed."""
    return sorted(numbers)[math.ceil(0.99 * len(numbers)) - 1]


def rounded(figures: Mapping[str, Any]) -> dict[str, Any]:
    """Floats to three digits that matter."""
    return {name: _rounded(value) if isinstance(value, float) else value for name, value in figures.items()}


def _rounded(value: float) -> float:
    return float(f"{value:.3g}") if abs(value) < 1000 else float(round(value))
