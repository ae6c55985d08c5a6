"""From scored documents to the hits that are shown: entry by entry, replicas and look-alikes folded, with reasons."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from heapq import nsmallest
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from router import confidence, diversity, rank
from router.index import Index
from router.masks import View
from router.ports import Hit, Prefer, ToolEntry, ToolKey, Why
from router.slots import group_of

PREFERENCE = 0.1
"""Z-scores that what the caller prefers may move a hit, up or down."""
SLOTS_OF_A_ROW_MAX = 200
"""Equal tools that may make the page; ten thousand of one text are as good as two hundred."""


@dataclass(slots=True)
class Scored:
    """The candidates of one task, by position: n rows, their final scores, and how these came about."""

    rows: NDArray[np.int64]
    words: rank.Arm
    meaning: rank.Arm | None
    embedded: NDArray[np.bool_]
    fused: rank.Fused
    total: rank.Scores
    called: rank.Scores
    names: rank.Scores
    feedback: rank.Scores
    lifted: dict[int, float]
    """Feedback by slot: of equal tools only those have it that were used."""


class Page:
    """Candidates as entries, best first, and the hits made of them."""

    def __init__(self, index: Index, view: View, scored: Scored) -> None:
        self._slots = index.slots
        self._view = view
        self._scored = scored
        self.position: dict[int, int] = {}
        """Slot → position of its row among the candidates."""
        self._preference: dict[int, float] = {}

    def candidates(self, k: int, prefer: Prefer | None) -> Iterator[diversity.Candidate]:
        """Entry by entry; the best 4 k are put in order once more by what was learned of each, and by preference."""
        ranked = self._ranked()
        first = list(islice(ranked, 4 * k))
        if prefer is not None:
            for slot in first:
                self._preference[slot] = PREFERENCE * min(1.0, max(-1.0, prefer(self._slots.entry(slot))))
        if prefer is not None or self._scored.lifted:
            first.sort(key=self._score, reverse=True)
        for slots in (first, ranked):
            yield from map(self._candidate, slots)

    def hit(self, pick: diversity.Pick, likely: float, first: diversity.Pick, *, explain: bool) -> Hit:
        slot, entry = pick.position, self._slots.entry
        behind = max(0.0, self._score(first.position) - self._score(slot))
        return Hit(
            entry(slot),
            confidence.shown_score(likely, behind),
            tuple(sorted(entry(s).key for s in self._slots.replicas(slot, self._view.slots))),
            self._why(slot) if explain else None,
            tuple(entry(s).key for s in pick.alike),
        )

    def _score(self, slot: int) -> float:
        at, scored = self.position[slot], self._scored
        own = scored.lifted.get(slot, 0.0) - float(scored.feedback[at])
        return float(scored.total[at]) + own + self._preference.get(slot, 0.0)

    def _ranked(self) -> Iterator[int]:
        """Slots, best first; equal scores in the order of their keys, whatever came first."""
        count, done = 32, 0
        while True:
            positions = rank.best(self._scored.total, count, self)
            for position in positions[done:]:
                for slot in self._visible(position):
                    self.position[slot] = position
                    yield slot
            done, count = len(positions), 4 * count
            if done == len(self._scored.rows):
                return

    def __getitem__(self, position: int) -> ToolKey:
        """What breaks ties."""
        return self._slots.entry(self._visible(position)[0]).key

    def _visible(self, position: int) -> list[int]:
        of = self._slots.slots_of(int(self._scored.rows[position]))
        if len(of) == 1:
            return list(of)
        slots = (s for s in of if self._view.slots[s])
        return nsmallest(SLOTS_OF_A_ROW_MAX, slots, key=lambda slot: self._slots.entry(slot).key)

    def _candidate(self, slot: int) -> diversity.Candidate:
        entry = self._slots.entry(slot)
        description = entry.definition.get("description")
        return diversity.Candidate(
            slot,
            entry.key.server,
            group_of(entry),
            entry.key.tool,
            description if isinstance(description, str) else "",
            _parameters(entry),
        )

    def _why(self, slot: int) -> Why:
        at, scored = self.position[slot], self._scored
        fused, meaning = scored.fused, scored.meaning
        name = scored.called[at] + scored.names[at]
        clauses = scored.total[at] - name - scored.feedback[at] - fused.total[0, at]
        return Why(
            words=float(fused.words[0, at]),
            meaning=float(fused.meaning[0, at]),
            server=float(fused.server[0, at]),
            clauses=float(clauses),
            name=float(name),
            feedback=scored.lifted.get(slot, 0.0),
            preference=self._preference.get(slot, 0.0),
            words_rank=_place(scored.words.scores[0], at) if scored.words.scores[0, at] > 0 else 0,
            meaning_rank=_place(meaning.scores[0], at) if meaning is not None and scored.embedded[at] else 0,
        )


def _place(scores: rank.Scores, position: int) -> int:
    return 1 + int(np.count_nonzero(scores > scores[position]))


def _parameters(entry: ToolEntry) -> frozenset[str]:
    schema = entry.definition.get("inputSchema")
    properties = schema.get("properties") if isinstance(schema, dict) else None
    return frozenset(properties) if isinstance(properties, dict) else frozenset()
