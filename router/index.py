"""Everything that is searched, in memory: who offers what, the documents' words, their vectors, who may see them.

Belongs to one thread, the router's searching thread (`desk`); others ask it through that. Here is how it changes;
`retrieval` reads it.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from router.backlog import Backlog, Stage
from router.dense import Dense, Part
from router.documents import document
from router.lexical import Lexical
from router.masks import Masks
from router.names import Names
from router.ports import ToolEntry, ToolKey
from router.slots import GROW_MIN, KEY_BYTES, NONE, Slots, row_key

log = logging.getLogger("toolmesh.router")


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
        # Of a snapshot: documents that no tool has claimed yet, and those whose words are to be indexed anew.
        self._unclaimed: dict[int, None] = {}
        self._wordless: set[int] = set()

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
        self._unclaimed.pop(row, None)
        if row in self._wordless:
            self._wordless.discard(row)
            self.lexical.add(row, document(entry).fields)
            self.version += 1
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
        if row in self._wordless:
            self._wordless.discard(row)
        else:
            self.lexical.remove(row)
        self.backlog.discard(row)
        if self.dense is not None:
            self.dense.remove(row)
        self._stages[row] = Stage.NOTHING
        self.version += 1

    # ---- vectors ---------------------------------------------------------------------------------

    def waiting(self, count: int) -> tuple[Stage, list[Waiting]]:
        """The stage to be reached next, and the next documents for it, at most `count`."""
        stage, rows = self.backlog.next(count)
        entries = ((row, self.slots.one_of(row)) for row in rows)
        return stage, [Waiting(row, self.slots.key_of(row), e) for row, e in entries if e is not None]

    def expect(self, dimensions: int) -> None:
        """Vectors have so many dimensions from now on; those of a snapshot that have others are left behind."""
        if self.dense is None or self.dense.dimensions == dimensions:
            return
        log.warning("vectors of %d dimensions came back, the model gives %d", self.dense.dimensions, dimensions)
        self.dense = None
        self._stages[:] = Stage.NOTHING
        self.pending = len(self)
        for row in np.unique(self.slots.row_of[self.slots.row_of != NONE]):
            self.backlog.reached(int(row), Stage.NOTHING)
        self.version += 1

    def embedded(self, done: Sequence[Embedded]) -> None:
        """Give rows their vectors. One that has gone, or is another document's meanwhile, is passed over."""
        for each in done:
            row = each.row
            if self.slots.key_of(row) != each.key:
                continue
            if self.dense is not None and self._stages[row] == Stage.NOTHING:
                # What another recipe left has served until now.
                self.dense.remove(row)
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

    # ---- snapshots -------------------------------------------------------------------------------

    @property
    def unclaimed(self) -> int:
        """Documents of a snapshot that no tool has claimed yet; nobody sees them."""
        return len(self._unclaimed)

    def drop_unclaimed(self, most: int) -> None:
        for row in list(islice(self._unclaimed, most)):
            del self._unclaimed[row]
            self._drop(row)

    def state(self) -> dict[str, NDArray[Any] | bytes]:
        """Everything but the entries, as arrays; some are live and change with the index."""
        keys = self.slots.row_keys()
        parts: dict[str, NDArray[Any] | bytes] = {
            "rows.keys": b"".join(key or _FREE for key in keys),
            "rows.stages": self._stages[: len(keys)].copy(),
            "rows.wordless": np.array(sorted(self._wordless), dtype=np.int64),
        }
        parts |= {f"words.{name}": part for name, part in self.lexical.state().items()}
        if self.dense is not None:
            parts["vectors.dimensions"] = np.array([self.dense.dimensions])
            parts |= {f"vectors.{name}": part for name, part in self.dense.state().items()}
        return parts

    def restore(self, parts: Mapping[str, NDArray[Any]], *, words: bool, vectors: bool, stale: bool) -> None:
        """What `state` gave, into an index that is empty; its documents wait for entries that claim them.

        Without `words` these are indexed as documents are claimed, without `vectors` all are embedded again; `stale`
        vectors serve until they have been. So it is where an arm has changed how it makes what it keeps. Raises
        `ValueError`, `KeyError` for what makes no sense: then the index is as it was.
        """
        if len(self.slots) or self.slots.rows:
            raise ValueError("a snapshot is for an index that is empty")
        raw = parts["rows.keys"].tobytes()
        keys = [raw[at : at + KEY_BYTES] for at in range(0, len(raw), KEY_BYTES)]
        keys = [b"" if key == _FREE else key for key in keys]
        stages = parts["rows.stages"].astype(np.uint8)
        wordless = parts["rows.wordless"]
        if len(stages) != len(keys) or len(set(keys) - {b""}) != len(keys) - keys.count(b""):
            raise ValueError("its rows do not fit together")
        lexical, dense = Lexical(), None
        if words:
            try:
                lexical.restore(_under("words.", parts))
            except ValueError as e:
                log.info("words are indexed anew: %s", e)
                words = False
        if vectors and "vectors.dimensions" in parts:
            dense = Dense(int(parts["vectors.dimensions"][0]))
            try:
                dense.restore(_under("vectors.", parts))
            except ValueError as e:
                log.info("vectors are fetched anew: %s", e)
                dense = None
        if dense is None or stale:
            stages[:] = Stage.NOTHING
        self.slots.restore(keys)
        self.lexical, self.dense, self._stages = lexical, dense, stages
        rows = [row for row, key in enumerate(keys) if key]
        self._unclaimed = dict.fromkeys(rows)
        # Words may have been written while some were still to be indexed anew.
        self._wordless = set(wordless.tolist() if words else rows)


_FREE = bytes(KEY_BYTES)


def _under(prefix: str, parts: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    return {name.removeprefix(prefix): part for name, part in parts.items() if name.startswith(prefix)}


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
