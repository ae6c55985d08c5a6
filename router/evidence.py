"""What was learned from use, as a node keeps it: queries (as vectors) that led to a tool, and who vouches for each.

An entry is one tool, one vector and its votes. A vote is a principal's keyed hash and the hour of its newest success:
however often somebody calls, it is one vote. Queries nearer than `ALIKE` share an entry, whose vector stays that of
the first: nobody can drag it elsewhere. Nothing here reads a clock; hours are counted since 1970.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from router.ports import ToolEntry

ENTRIES_MAX = 4_096
PER_TOOL_MAX = 8
VOTES_MAX = 8
"""Beyond what makes a vote count in full; the oldest gives way."""
ALONE_MAX = ENTRIES_MAX // 4
"""Entries that one principal may fill alone, in all; beyond that its own oldest gives way, not another's."""
ALONE_PER_TOOL = 2
"""So many of a tool's entries a principal may have beside those of others."""
REMOVED_MAX = 1_024
ALIKE = 0.9

Vector = NDArray[np.float16]


class Subject(NamedTuple):
    """One definition of one tool. `owner` is "" for a declared service, which `server` then names."""

    owner: str
    server: str
    tool: str
    kind: str
    digest: bytes

    @classmethod
    def of(cls, entry: ToolEntry) -> Subject:
        key = entry.key
        owner, server = ("", entry.service) if entry.service else (key.owner, key.server)
        return cls(owner, server, key.tool, key.kind, entry.digest)

    @property
    def name(self) -> tuple[str, str, str, str]:
        """What stays the same when the tool is redefined."""
        return self[:4]


@dataclass(slots=True, eq=False)
class Entry:
    """`vector` is a unit vector; `votes`: principal's hash → hour, at least one; `changed` orders changes."""

    number: int
    subject: Subject
    vector: Vector
    votes: dict[str, int]
    changed: int = 0

    @property
    def newest(self) -> int:
        return max(self.votes.values())


@dataclass(frozen=True, slots=True)
class Changes:
    """What became of one node's evidence after `since`, up to `to`. `anew`: forget what was known of it before.

    `more`: there is more after `to`.
    """

    life: str
    to: int
    puts: tuple[Entry, ...]
    gone: tuple[int, ...]
    anew: bool
    more: bool


@dataclass(slots=True)
class Evidence:
    """One node's own. `life` names this run of numbers: another one, and nothing known of it holds any more."""

    life: str
    entries: dict[int, Entry] = field(default_factory=dict)
    seq: int = 0
    _of: dict[tuple[str, str, str, str], list[Entry]] = field(default_factory=dict)
    _removed: list[tuple[int, int]] = field(default_factory=list)
    _forgotten: int = 0

    def __len__(self) -> int:
        return len(self.entries)

    def vote(self, subject: Subject, vector: Vector, voter: str, hour: int) -> tuple[Entry | None, list[Entry]]:
        """Count a success. Returns the entry that is new or has another vote, if any, and those that had to go.

        A tool that is redefined starts anew. Where every entry of the tool is vouched for by several principals and
        all its places are taken, nothing is learned.
        """
        of = self._of.get(subject.name, [])
        gone = [self._remove(e) for e in list(of) if e.subject.digest != subject.digest]
        of = self._of.get(subject.name, [])
        nearest = max(of, key=lambda e: _cosine(e, vector), default=None)
        if nearest is not None and _cosine(nearest, vector) >= ALIKE:
            if nearest.votes.get(voter, -1) < hour:
                nearest.votes[voter] = hour
                while len(nearest.votes) > VOTES_MAX:
                    del nearest.votes[min(nearest.votes, key=lambda v: (nearest.votes[v], v))]
                self._touch(nearest)
            return nearest, gone
        if len(of) >= PER_TOOL_MAX:
            crowded = _weakest(of, voter, ALONE_PER_TOOL)
            if crowded is None:
                return None, gone
            gone.append(self._remove(crowded))
        if len(self.entries) >= ENTRIES_MAX:
            least = _weakest(self.entries.values(), voter, ALONE_MAX) or min(self.entries.values(), key=_strength)
            gone.append(self._remove(least))
        return self._add(subject, vector, {voter: hour}), gone

    def restore(self, kept: Iterable[tuple[Subject, Vector, dict[str, int]]]) -> None:
        """Put back what was saved, as far as there is room. For an empty one."""
        for subject, vector, votes in kept:
            if len(self.entries) < ENTRIES_MAX and len(self._of.get(subject.name, ())) < PER_TOOL_MAX:
                self._add(subject, vector, dict(votes))

    def expire(self, before: int) -> tuple[list[Entry], list[Entry]]:
        """Drop votes from before this hour; returns the entries that have fewer now, and those that are gone."""
        fewer = []
        for entry in self.entries.values():
            stale = [v for v, hour in entry.votes.items() if hour < before]
            if stale and len(stale) < len(entry.votes):
                for voter in stale:
                    del entry.votes[voter]
                self._touch(entry)
                fewer.append(entry)
        return fewer, [self._remove(e) for e in [e for e in self.entries.values() if e.newest < before]]

    def since(self, life: str, seq: int, count: int) -> Changes:
        """What someone who knows `life` up to `seq` lacks, at most `count` entries."""
        anew = life != self.life or seq < self._forgotten or seq > self.seq
        seq = 0 if anew else seq
        changed = sorted((e for e in self.entries.values() if e.changed > seq), key=lambda e: e.changed)
        puts = tuple(changed[:count])
        more = len(changed) > count
        to = puts[-1].changed if more else self.seq
        gone = () if anew else tuple(number for at, number in self._removed if seq < at <= to)
        return Changes(self.life, to, puts, gone, anew, more)

    def __iter__(self) -> Iterator[Entry]:
        return iter(self.entries.values())

    def _add(self, subject: Subject, vector: Vector, votes: dict[str, int]) -> Entry:
        self.seq += 1
        entry = Entry(self.seq, subject, vector, votes, self.seq)
        self.entries[entry.number] = entry
        self._of.setdefault(subject.name, []).append(entry)
        return entry

    def _touch(self, entry: Entry) -> None:
        self.seq += 1
        entry.changed = self.seq

    def _remove(self, entry: Entry) -> Entry:
        self.seq += 1
        del self.entries[entry.number]
        of = self._of[entry.subject.name]
        of.remove(entry)
        if not of:
            del self._of[entry.subject.name]
        self._removed.append((self.seq, entry.number))
        if len(self._removed) > REMOVED_MAX:
            # Whoever knows less than this is told everything anew.
            self._forgotten = self._removed.pop(0)[0]
        return entry


def _cosine(entry: Entry, vector: Vector) -> float:
    return float(entry.vector.astype(np.float32) @ vector.astype(np.float32))


def _strength(entry: Entry) -> tuple[int, int, int]:
    return len(entry.votes), entry.newest, entry.number


def _weakest(entries: Iterable[Entry], voter: str, share: int) -> Entry | None:
    """Which entry gives way to a new one of `voter`: its own oldest where it has its share, else the weakest that one
    principal alone vouches for; None where there is none such."""
    alone = [e for e in entries if len(e.votes) == 1]
    own = [e for e in alone if voter in e.votes]
    return min(own if len(own) >= share else alone, key=_strength, default=None)
