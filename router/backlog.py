"""Documents that wait for vectors: every first vector before any second, and neither new nor old ones starve."""

from __future__ import annotations

import enum
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from itertools import islice


class Stage(enum.IntEnum):
    """How far a document's vectors have come. From `NAMED` on it is found by meaning."""

    NOTHING = 0
    NAMED = 1
    ALL = 2


class Backlog:
    """Rows, each once, by the stage that they have reached. Bounded by the number of documents."""

    def __init__(self) -> None:
        self._first: OrderedDict[int, None] = OrderedDict()
        self._rest: OrderedDict[int, None] = OrderedDict()
        self._aside: dict[int, Stage] = {}
        self.arrived = 0
        """Counts rows that came without any vector: who works on others may look whether a new one came."""

    def __len__(self) -> int:
        return len(self._first) + len(self._rest) + len(self._aside)

    def __repr__(self) -> str:
        return f"Backlog({len(self._first)} without a vector, {len(self._rest)} without all, {self.aside} aside)"

    @property
    def aside(self) -> int:
        return len(self._aside)

    def reached(self, row: int, stage: Stage) -> None:
        """The row is as far as `stage` now."""
        self.discard(row)
        if stage is Stage.NOTHING:
            self.arrived += 1
        self._wait(row, stage)

    def discard(self, row: int) -> None:
        self._first.pop(row, None)
        self._rest.pop(row, None)
        self._aside.pop(row, None)

    def put_aside(self, rows: Iterable[int]) -> None:
        """Another node is computing what these wait for; until `recall` others go before them."""
        for row in rows:
            if row in self._first:
                del self._first[row]
                self._aside[row] = Stage.NOTHING
            elif row in self._rest:
                del self._rest[row]
                self._aside[row] = Stage.NAMED

    def recall(self) -> None:
        aside, self._aside = self._aside, {}
        for row, stage in aside.items():
            self._wait(row, stage)

    def next(self, count: int) -> tuple[Stage, list[int]]:
        """The stage to be reached next and at most `count` rows for it, the newest and the oldest in turns: what
        changed last is found soon, and a server that changes all the time holds up no other."""
        waiting, stage = (self._first, Stage.NAMED) if self._first else (self._rest, Stage.ALL)
        return stage, list(islice(_from_both_ends(waiting), count))

    def _wait(self, row: int, stage: Stage) -> None:
        if stage is Stage.NOTHING:
            self._first[row] = None
        elif stage is Stage.NAMED:
            self._rest[row] = None


def _from_both_ends(waiting: OrderedDict[int, None]) -> Iterator[int]:
    newest, oldest = reversed(waiting), iter(waiting)
    for _ in range((len(waiting) + 1) // 2):
        new, old = next(newest), next(oldest)
        yield new
        if old != new:
            yield old
