"""What is held of one owner's records, counted as it changes, so that nobody has to count it. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set

from proto.records import Kind, Record, RecordKey

ENTRY_BYTES = 48
"""Of a manifest entry on the wire, besides its id."""


class Holdings:
    """`said`: what the owner says now. `kept`: what it had before a restart that it has not finished.

    No key is in both. `bytes` counts the bodies of what is said, `tools` the tools of either.
    """

    __slots__ = ("bytes", "kept", "said", "tools")

    def __init__(self) -> None:
        self.said: dict[RecordKey, Record] = {}
        self.kept: dict[RecordKey, Record] = {}
        self.bytes = 0
        self.tools = 0

    def __len__(self) -> int:
        return len(self.said) + len(self.kept)

    def __repr__(self) -> str:
        return f"{len(self.said)}" + (f"+{len(self.kept)} kept" if self.kept else "")

    def all(self) -> Mapping[RecordKey, Record]:
        """Everything, to be read at once and not to be kept."""
        return {**self.kept, **self.said} if self.kept else self.said

    def manifest(self, bytes_max: int) -> dict[RecordKey, bytes]:
        """Digests of all that is held; nothing if they would not fit."""
        size = sum(ENTRY_BYTES + len(key.id.encode("utf-8", "surrogatepass")) for key in self.keys())
        return {key: record.digest for key, record in self.all().items()} if size <= bytes_max else {}

    def put(self, record: Record) -> None:
        """The owner says this."""
        key = record.key
        self.drop(key)
        self.said[key] = record
        self.bytes += len(record.body)
        self.tools += key.kind is Kind.TOOL

    def drop(self, key: RecordKey) -> bool:
        """Whether it was held."""
        held = self.said.pop(key, None)
        if held is not None:
            self.bytes -= len(held.body)
        elif self.kept.pop(key, None) is None:
            return False
        self.tools -= key.kind is Kind.TOOL
        return True

    def get(self, key: RecordKey) -> Record | None:
        return self.said.get(key) or self.kept.get(key)

    def keys(self) -> Set[RecordKey]:
        """Of all that is held; not to be kept."""
        return self.said.keys() | self.kept.keys() if self.kept else self.said.keys()

    def keep(self, records: Mapping[RecordKey, Record]) -> None:
        """Old records, of which only the owner's next word can tell whether it still has them."""
        self.kept = dict(records)
        self.tools = sum(key.kind is Kind.TOOL for part in (self.said, self.kept) for key in part)

    def replace(self, said: dict[RecordKey, Record], listed: Set[RecordKey]) -> None:
        """The owner says `said` from now on, of all that it has `listed`: the rest of what is held is kept."""
        kept = {k: r for part in (self.kept, self.said) for k, r in part.items() if k not in listed}
        self.said, self.bytes = said, sum(len(r.body) for r in said.values())
        self.keep(kept)

    def settle(self) -> set[RecordKey]:
        """Nothing old is kept any longer; what that was."""
        gone, self.kept = set(self.kept), {}
        self.tools -= sum(key.kind is Kind.TOOL for key in gone)
        return gone

    def clear(self) -> tuple[RecordKey, ...]:
        gone = tuple(self.all())
        self.said, self.kept, self.bytes, self.tools = {}, {}, 0, 0
        return gone

    def restore(self, records: Iterable[Record], *, said: bool) -> None:
        """From disk, as said or as kept."""
        held = {r.key: r for r in records}
        if said:
            self.replace(held, frozenset())
        else:
            self.keep(held)
