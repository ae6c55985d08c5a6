"""How much of everything is measured."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Size:
    rounds: int = 5
    calls: int = 400
    connections: tuple[int, ...] = (1, 16, 64)
    tools: tuple[int, ...] = (1, 1_000)
    hop_rounds: int = 7
    hop_calls: int = 300
    starts: int = 5
    sessions: int = 10_000
    pipe_calls: int = 300


QUICK = Size(
    rounds=1, calls=60, connections=(1, 8), tools=(1, 50), hop_rounds=1, hop_calls=40, starts=1, sessions=100,
    pipe_calls=30,
)  # fmt: skip
