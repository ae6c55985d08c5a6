"""What is held of one authority: its records, what they say, its role, and when it was last heard."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from node.governance.bodies import Broken, Item, governs, item_of
from node.governance.store import Saved
from node.governance.union import Side
from proto.names import NodeId
from proto.records import Record, RecordKey


@dataclass(slots=True)
class Copy:
    """`heard_ms` is on the monotonic clock, so that setting the other one neither opens nor closes anything here;
    `noted_ms` is when that was last written to disk."""

    authority: NodeId
    role: bool
    heard_ms: int
    noted_ms: int = 0
    live: bool = False
    records: dict[RecordKey, Record] = field(default_factory=dict)
    items: dict[RecordKey, Item] = field(default_factory=dict)

    @classmethod
    def restored(cls, saved: Saved, now_ms: int, wall_ms: int) -> Copy:
        heard_ms = now_ms - max(0, wall_ms - saved.heard_ms)
        copy = cls(saved.authority, saved.role, heard_ms, now_ms)
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

    def difference(self, records: Mapping[RecordKey, Record], *, whole: bool) -> tuple[list[Record], list[RecordKey]]:
        """(what is new or different in `records`, what is here and not there); not `whole`: nothing is gone yet."""
        puts = [r for key, r in records.items() if key not in self.records or self.records[key].digest != r.digest]
        return puts, [key for key in self.records if key not in records] if whole else []

    def side(self, *, fresh: bool) -> Side:
        return Side(self.authority.name, self.items, self.role, fresh)

    @property
    def broken(self) -> dict[RecordKey, str]:
        return {key: item.reason for key, item in self.items.items() if isinstance(item, Broken)}


def said(records: Iterable[Record], refused: Iterable[RecordKey]) -> dict[RecordKey, Record]:
    """What governs of it, by key; of what was refused the name alone, which parses as nothing and so is `Broken`."""
    found = {record.key: record for record in records if governs(record.key)}
    for key in refused:
        if governs(key):
            found[key] = Record(key.kind, key.id, b"", b"")
    return found
