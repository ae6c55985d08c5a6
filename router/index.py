"""Everything that is searched, in memory: who offers what, the documents' words, their vectors, who may see them.

Belongs to one thread, the router's searching thread (`desk`); others ask it through that. Here is how it changes;
`retrieval` reads it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from router.backlog import Backlog, Stage
from router.dense import Dense, Part
from router.documents import document
from router.lexical import Lexical
from router.masks import Masks
from router.names import Names
from router.ports import ToolEntry, ToolKey
from router.slots import GROW_MIN, NONE, Slots, row_key


@dataclass(frozen=True, slots=True)
class Waiting:
    """A document that waits for vectors: its row, its row's key, and an entry that has its texts."""

    row: int
    key: bytes
    entry: ToolEntry


@dataclass(frozen=True, slots=True)
class Embedded:
    """Vectors of a row, and the stage that it reaches by them. `server` is (text digest, vector).

    Without `parts` the row reaches its stage without a vector: no model could embed its text.
    """

    row: int
    key: bytes
    stage: Stage
    parts: Mapping[Part, NDArray[np.float32]]
    server: tuple[str, NDArray[np.float32]] | None = None


class Index:
    def __init__(self) -> None:
        self.slots = Slots()
        self.lexical = Lexical()
        self.dense: Dense | None = None
        self.masks = Masks()
        self.names = Names()
        self.backlog = Backlog()
        self.version = 0
        """Counts changes of documents and vectors: what a snapshot holds is as of one of them."""
        self.pending = 0
        """Entries without a vector."""
        self._stages: NDArray[np.uint8] = np.zeros(0, dtype=np.uint8)

    def __len__(self) -> int:
        return len(self.slots)

    def __repr__(self) -> str:
        return f"Index({len(self)} tools, {self.slots.rows} documents, {self.pending} waiting for vectors)"

    # ---- entries ---------------------------------------------------------------------------------

    def put(self, entry: ToolEntry) -> None:
        """Searchable by its words at once; takes the place of an entry of the same key. Where its texts are known,
        from another owner or from before, this costs a hash and a few look-ups."""
        held = self.slots.slot(entry.key)
        if held != NONE and _same(self.slots.entry(held), entry):
            return
        key = row_key(entry)
        row = self.slots.row(key)
        if row == NONE:
            row = self._begin(key, entry)
        elif not self.slots.slots_of(row):
            self._claim(row, entry)
        slot, before = self.slots.put(entry, row)
        self.pending += int(self._stages[row] == Stage.NOTHING)
        if before != NONE:
            # After the new one is in: where only its labels changed, the row is kept.
            self._left(before, entry)
        self.masks.changed(slot)

    def delete(self, key: ToolKey) -> None:
        """Gone from search at once; unknown keys are no error."""
        slot = self.slots.slot(key)
        if slot == NONE:
            return
        entry = self.slots.entry(slot)
        slot, row = self.slots.delete(key)
        self._left(row, entry)
        self.masks.changed(slot)

    def waits(self, key: ToolKey) -> bool:
        """Whether it has no vector yet. Look-ups only, so that any thread may ask."""
        slot = self.slots.slot(key)
        return slot != NONE and bool(self._stages[self.slots.row_of[slot]] == Stage.NOTHING)

    def _begin(self, key: bytes, entry: ToolEntry) -> int:
        row = self.slots.new_row(key)
        if row >= len(self._stages):
            self._stages = _grown(self._stages, max(GROW_MIN, row * 3 // 2))
        self._stages[row] = Stage.NOTHING
        self.lexical.add(row, document(entry).fields)
        self.names.add(entry.key.tool, row)
        self.backlog.reached(row, Stage.NOTHING)
        self.version += 1
        return row

    def _claim(self, row: int, entry: ToolEntry) -> None:
        """A row of a snapshot has found its entry."""
        self.names.add(entry.key.tool, row)
        self.backlog.reached(row, Stage(int(self._stages[row])))

    def _left(self, row: int, entry: ToolEntry) -> None:
        """An entry that stood on the row has gone to another, or away."""
        self.pending -= int(self._stages[row] == Stage.NOTHING)
        if not self.slots.slots_of(row):
            self.names.remove(entry.key.tool, row)
            self._drop(row)

    def _drop(self, row: int) -> None:
        self.slots.drop_row(row)
        self.lexical.remove(row)
        self.backlog.discard(row)
        if self.dense is not None and self._stages[row] != Stage.NOTHING:
            self.dense.remove(row)
        self._stages[row] = Stage.NOTHING
        self.version += 1

    # ---- vectors ---------------------------------------------------------------------------------

    def waiting(self, count: int) -> tuple[Stage, list[Waiting]]:
        """The stage to be reached next, and the next documents for it, at most `count`."""
        stage, rows = self.backlog.next(count)
        entries = ((row, self.slots.one_of(row)) for row in rows)
        return stage, [Waiting(row, self.slots.key_of(row), e) for row, e in entries if e is not None]

    def embedded(self, done: Sequence[Embedded]) -> None:
        """Give rows their vectors. One that has gone, or is another document's meanwhile, is passed over."""
        for each in done:
            row = each.row
            if self.slots.key_of(row) != each.key:
                continue
            for part, vector in each.parts.items():
                if self.dense is None:
                    self.dense = Dense(len(vector))
                self.dense.put(row, part, vector)
            if each.server is not None and self.dense is not None:
                self.dense.serve(row, *each.server)
            if self._stages[row] == Stage.NOTHING and each.stage is not Stage.NOTHING:
                self.pending -= len(self.slots.slots_of(row))
            self._stages[row] = each.stage
            self.backlog.reached(row, each.stage)
            self.version += 1


def _same(one: ToolEntry, other: ToolEntry) -> bool:
    """Equal, without comparing definitions whose digests tell."""
    return (
        one.digest == other.digest
        and (bool(one.digest) or one.definition == other.definition)
        and (one.region, one.service, one.server_title) == (other.region, other.service, other.server_title)
        and one.server_description == other.server_description
        and one.labels == other.labels
    )


def _grown(values: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    grown = np.zeros(size, dtype=np.uint8)
    grown[: len(values)] = values
    return grown
