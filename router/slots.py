"""Who offers what: a slot is one entry of one owner, a row one distinct document, which many slots may share.

Ten thousand equal tools are ten thousand slots on one row: what is computed, is computed by row. Numbers of both
kinds are dense, handed out again when they are free, and so index plain arrays.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from hashlib import blake2b
from itertools import chain
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from proto import jsons
from proto.errors import Invalid
from router.ports import At, ToolEntry, ToolKey

NONE = -1
GROW_MIN = 64
KEY_BYTES = 16

Group = tuple[str, str, str, bytes]
K = TypeVar("K")


def row_key(entry: ToolEntry) -> bytes:
    """16 bytes that are equal for entries whose documents are: what `documents` reads, hashed without reading it.

    Labels, region and owner are no part of it, so that their changes cost no vector.
    """
    digest = entry.digest
    if not digest:
        try:
            digest = jsons.digest(entry.definition)
        except Invalid:
            # Only from tests and tools: records never hold what has no canonical form.
            digest = repr(entry.definition).encode("utf-8", "replace")
    key = entry.key
    texts = (key.kind, key.tool, key.server, entry.server_title, entry.server_description)
    # Lengths first: no text can pretend to be the end of one and the beginning of the next.
    lengths = ",".join([str(len(t)) for t in texts])
    return blake2b(
        "\0".join((lengths, *texts)).encode("utf-8", "surrogatepass") + digest, digest_size=KEY_BYTES
    ).digest()


def group_of(entry: ToolEntry) -> Group | None:
    """Replicas: declared to be one service, and of one definition."""
    return (entry.service, entry.key.kind, entry.key.tool, entry.digest) if entry.service else None


class Numbers:
    """Small numbers handed out and taken back: the lowest that was never used, or one that is free again."""

    def __init__(self, used: int = 0) -> None:
        self._used = used
        self._free: list[int] = []

    def take(self) -> int:
        if self._free:
            return self._free.pop()
        self._used += 1
        return self._used - 1

    def give_back(self, number: int) -> None:
        self._free.append(number)


class Slots:
    """Entries by slot and by key, slots by row and by group. Knows nothing of words or vectors."""

    def __init__(self) -> None:
        self.entries: list[ToolEntry | None] = []
        self.row_of: NDArray[np.int64] = np.full(0, NONE, dtype=np.int64)
        """Shape (slot capacity,); -1 for free slots."""
        self.capacity = 0
        """Rows that the arrays by row must have room for."""
        self._slot_of: dict[ToolKey, int] = {}
        self._row_by_key: dict[bytes, int] = {}
        self._row_keys: list[bytes] = []
        self._slots_of: list[set[int]] = []
        self._groups: dict[Group, set[int]] = {}
        self._by_server: dict[At, set[int]] = {}
        self._numbers = Numbers()
        self._rows = Numbers()

    def __len__(self) -> int:
        return len(self._slot_of)

    def __repr__(self) -> str:
        return f"Slots({len(self)} entries on {self.rows} rows)"

    @property
    def rows(self) -> int:
        return len(self._row_by_key)

    # ---- rows ------------------------------------------------------------------------------------

    def row(self, key: bytes) -> int:
        """The row of a document, or -1."""
        return self._row_by_key.get(key, NONE)

    def new_row(self, key: bytes) -> int:
        row = self._rows.take()
        if row == len(self._row_keys):
            self._row_keys.append(key)
            self._slots_of.append(set())
            if row >= self.capacity:
                self.capacity = max(GROW_MIN, self.capacity * 3 // 2, row + 1)
        self._row_keys[row] = key
        self._row_by_key[key] = row
        return row

    def drop_row(self, row: int) -> None:
        """Of a row that no slot stands on."""
        del self._row_by_key[self._row_keys[row]]
        self._row_keys[row] = b""
        self._rows.give_back(row)

    def key_of(self, row: int) -> bytes:
        """b"" for a free row."""
        return self._row_keys[row]

    def slots_of(self, row: int) -> set[int]:
        """Not to be written to."""
        return self._slots_of[row]

    def any_of(self, row: int) -> ToolEntry | None:
        """Whichever entry of a document is at hand."""
        return next((self.entries[slot] for slot in self._slots_of[row]), None)

    def one_of(self, row: int) -> ToolEntry | None:
        """The entry of a document that comes first by its key: their texts are equal, and all nodes name the same."""
        return min((self.entry(slot) for slot in self._slots_of[row]), key=lambda e: e.key, default=None)

    def row_keys(self) -> list[bytes]:
        """By row, b"" where a row is free."""
        return list(self._row_keys)

    def restore(self, keys: list[bytes]) -> None:
        """Rows as `row_keys` gave them, with nothing on them. Only for one that is empty."""
        self._row_keys = list(keys)
        self._slots_of = [set() for _ in keys]
        self._row_by_key = {key: row for row, key in enumerate(keys) if key}
        self._rows = Numbers(len(keys))
        for row, key in enumerate(keys):
            if not key:
                self._rows.give_back(row)
        self.capacity = max(self.capacity, len(keys))

    # ---- slots -----------------------------------------------------------------------------------

    def slot(self, key: ToolKey) -> int:
        """-1: nobody offers it."""
        return self._slot_of.get(key, NONE)

    def entry(self, slot: int) -> ToolEntry:
        entry = self.entries[slot]
        assert entry is not None  # noqa: S101 - the caller has it from the living
        return entry

    def put(self, entry: ToolEntry, row: int) -> tuple[int, int]:
        """The entry's slot, and the row that it stood on before (-1: none; perhaps the same)."""
        slot = self._slot_of.get(entry.key, NONE)
        before = NONE
        if slot == NONE:
            slot = self._take(entry.key)
        else:
            before = int(self.row_of[slot])
            self._leave(slot, before)
        self.entries[slot] = entry
        self.row_of[slot] = row
        self._slots_of[row].add(slot)
        if group := group_of(entry):
            self._groups.setdefault(group, set()).add(slot)
        return slot, before

    def delete(self, key: ToolKey) -> tuple[int, int]:
        """(slot, row) that it had, (-1, -1) where nobody offered it."""
        slot = self._slot_of.pop(key, NONE)
        if slot == NONE:
            return NONE, NONE
        row = int(self.row_of[slot])
        self._leave(slot, row)
        discard(self._by_server, key[:2], slot)
        self.entries[slot] = None
        self.row_of[slot] = NONE
        self._numbers.give_back(slot)
        return slot, row

    def at(self, servers: Iterable[At]) -> NDArray[np.int64]:
        """The slots of these servers, in no order."""
        return np.fromiter(chain.from_iterable(self._by_server.get(at, ()) for at in servers), dtype=np.int64)

    def meant(self, owner: str, server: str, tool: str, kind: str, digest: bytes) -> Iterable[int]:
        """Slots of one definition: of one owner's tool, or, where `owner` is "", of the declared service `server`."""
        if not owner:
            return self._groups.get((server, kind, tool, digest), ())
        slot = self.slot(ToolKey(owner, server, tool, kind))
        return (slot,) if slot != NONE and self.entry(slot).digest == digest else ()

    def replicas(self, slot: int, visible: NDArray[np.bool_]) -> Iterator[int]:
        """The other slots of the same declared service and definition that may be seen."""
        group = group_of(self.entry(slot))
        for other in self._groups.get(group, ()) if group else ():
            if other != slot and visible[other]:
                yield other

    def _take(self, key: ToolKey) -> int:
        slot = self._numbers.take()
        self._slot_of[key] = slot
        self._by_server.setdefault(key[:2], set()).add(slot)
        if slot == len(self.entries):
            self.entries.append(None)
            if slot >= len(self.row_of):
                grown = np.full(max(GROW_MIN, slot * 3 // 2), NONE, dtype=np.int64)
                grown[: len(self.row_of)] = self.row_of
                self.row_of = grown
        return slot

    def _leave(self, slot: int, row: int) -> None:
        self._slots_of[row].discard(slot)
        if group := group_of(self.entry(slot)):
            discard(self._groups, group, slot)


def discard(sets: dict[K, set[int]], key: K, number: int) -> None:
    """Takes a number out of the set under `key`, and the set itself when it is empty."""
    sets[key].discard(number)
    if not sets[key]:
        del sets[key]
