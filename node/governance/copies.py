"""What is held of one authority: its records, what they say, its role, and when it was last heard."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from node.governance.bodies import Broken, Item, governs, item_of
from node.governance.store import Saved
from node.governance.union import Side
from proto.names import NodeId
from proto.records import Kind, Record, RecordKey

STORE_FIELD = "governance"
"""Of a node record: the identity of the store in which the node lays down rules."""


@dataclass(slots=True)
class Copy:
    """`heard_ms` is on the monotonic clock, so that setting the other one neither opens nor closes anything here;
    `noted_ms` is when that was last written to disk.

    `store` is where it had laid this down. Should it speak from another one, it has lost the first: what it says is
    `anew`, and all that it had said before stays until it is told to be forgotten.
    """

    authority: NodeId
    role: bool
    heard_ms: int
    noted_ms: int = 0
    live: bool = False
    store: str = ""
    anew: Anew | None = None
    records: dict[RecordKey, Record] = field(default_factory=dict)
    items: dict[RecordKey, Item] = field(default_factory=dict)

    @classmethod
    def restored(cls, saved: Saved, now_ms: int, wall_ms: int) -> Copy:
        heard_ms = now_ms - max(0, wall_ms - saved.heard_ms)
        copy = cls(saved.authority, saved.role, heard_ms, now_ms, store=saved.store)
        copy.take(saved.records.values(), ())
        return copy

    def take(
        self, puts: Iterable[Record], deletes: Iterable[RecordKey], reasons: Mapping[RecordKey, str] | None = None
    ) -> None:
        """`reasons` say why a record could not be admitted."""
        for key in deletes:
            self.records.pop(key, None)
            self.items.pop(key, None)
        for record in puts:
            key = record.key
            self.records[key] = record
            why = reasons.get(key) if reasons else None
            self.items[key] = Broken(why) if why is not None else item_of(record, self.authority.name)

    def saved(self, wall_ms: int) -> Saved:
        return Saved(self.authority, self.role, wall_ms, self.store)

    def difference(
        self, said: Mapping[RecordKey, Record], store: str, *, whole: bool
    ) -> tuple[list[Record], list[RecordKey]]:
        """(what is new or different, what is gone) if this is what it says now, from that store.

        Not `whole`, or from a store that it has not named yet: nothing is gone.
        """
        if store and self.store and store != self.store:
            before = self.anew.before if self.anew else dict(self.records)
            self.anew = Anew(store, before, dict(said))
            return self._difference({**before, **said}, whole=whole)
        if store:
            self.store, self.anew = store, None
        return self._difference(said, whole=whole and bool(store))

    def begin_anew(self) -> tuple[list[Record], list[RecordKey]]:
        """What differs if only that counts which it has said anew."""
        assert self.anew is not None  # noqa: S101 - asked for
        anew, self.anew = self.anew, None
        self.store = anew.store
        return self._difference(anew.said, whole=True)

    def _difference(self, records: Mapping[RecordKey, Record], *, whole: bool) -> tuple[list[Record], list[RecordKey]]:
        puts = [r for key, r in records.items() if key not in self.records or self.records[key].digest != r.digest]
        return puts, [key for key in self.records if key not in records] if whole else []

    def side(self, *, fresh: bool) -> Side:
        return Side(self.authority.name, self.items, self.role, fresh)

    @property
    def broken(self) -> dict[RecordKey, str]:
        return {key: item.reason for key, item in self.items.items() if isinstance(item, Broken)}


@dataclass(frozen=True, slots=True)
class Anew:
    """What an authority that has lost its `before` says from another `store`."""

    store: str
    before: Mapping[RecordKey, Record]
    said: Mapping[RecordKey, Record]


def store_of(records: Iterable[Record]) -> str:
    """Which store an authority's node record names; empty while it is not there."""
    for record in records:
        if record.kind is Kind.NODE:
            return str(record.data().get(STORE_FIELD, ""))
    return ""


def said(records: Iterable[Record], refused: Iterable[RecordKey]) -> dict[RecordKey, Record]:
    """What governs of it, by key; of what was refused the name alone, which parses as nothing and so is `Broken`."""
    found = {record.key: record for record in records if governs(record.key)}
    for key in refused:
        if governs(key):
            found[key] = Record(key.kind, key.id, b"", b"")
    return found
