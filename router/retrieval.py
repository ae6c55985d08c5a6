"""How the index is searched: candidates from both arms, scores, and of these the page that is shown.

Everything is scored by row, once for many equal tools; only what may make the page is looked at entry by entry.
What a caller may not see influences nothing: candidates, word frequencies, means and spreads are those of its view.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from heapq import nsmallest
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from router import confidence, diversity, rank
from router.dense import Dense
from router.index import Index
from router.lexical import Query
from router.masks import View
from router.ports import Hit, Prefer, ToolEntry, ToolKey, Vectors, Why
from router.slots import group_of

ALL_UP_TO = 4_000
"""Where a caller sees no more documents than these, all are candidates."""
BY_MEANING = 400
BY_WORDS = 200
"""Candidates that each text of a task brings in where there are more."""
NAMED_MAX = 200
PREFERENCE = np.float32(0.1)
SLOTS_OF_A_ROW_MAX = 200
"""Equal tools that may make the page; ten thousand of one text are as good as two hundred."""


@dataclass(frozen=True, slots=True)
class Task:
    """One search: `texts[0]` is the whole task, the rest its steps; `vectors` are in the same order (None: by words
    alone). `names` is where tools may be named outright, `query` what was asked, as it was."""

    texts: tuple[str, ...]
    names: tuple[str, ...]
    query: str
    k: int
    vectors: Vectors | None = None
    prefer: Prefer | None = None
    principal: str = ""
    explain: bool = False


@dataclass(frozen=True, slots=True)
class Found:
    """`likely`: how likely the best hit fits, 0 to 1; `searched`: how many tools the caller may see."""

    hits: tuple[Hit, ...]
    hybrid: bool
    likely: float
    searched: int


@dataclass(slots=True)
class _Scored:
    """The candidates of one task, by position: n rows, their final scores, and how these came about."""

    rows: NDArray[np.int64]
    words: rank.Arm
    meaning: rank.Arm | None
    embedded: NDArray[np.bool_]
    fused: rank.Fused
    total: rank.Scores
    names: rank.Scores
    feedback: rank.Scores


def search(index: Index, tasks: Sequence[Task], view: View) -> list[Found]:
    """What each task finds in `view`. Several at once cost one pass over the words and one over the vectors, and
    find what they would find alone."""
    if not view.count:
        return [Found((), t.vectors is not None and index.dense is not None, 0.0, view.searched) for t in tasks]
    queries = [index.lexical.query(text) for task in tasks for text in task.texts]
    words = _measured(index.lexical.scores(queries, view), view)
    meant = _Meant.of(index.dense, tasks, view)
    found, at = [], 0
    for number, task in enumerate(tasks):
        mine = slice(at, at + len(task.texts))
        at = mine.stop
        own = rank.Arm(words.scores[mine], words.mean[mine], words.spread[mine])
        scored = _score(index, task, view, own, meant[number] if meant else None)
        found.append(_found(index, task, view, queries[mine.start], scored))
    return found


@dataclass(frozen=True, slots=True)
class _Meant:
    """The arm of meaning for one task: candidates of each text, mean and spread (q,) over the view."""

    dense: Dense
    vectors: Vectors
    rows: Sequence[NDArray[np.int64]]
    mean: rank.Scores
    spread: rank.Scores

    @staticmethod
    def of(dense: Dense | None, tasks: Sequence[Task], view: View) -> list[_Meant | None]:
        """For each task, None where it has no vectors; empty where no document has any."""
        vectors = [task.vectors for task in tasks if task.vectors is not None]
        if dense is None or not vectors or not dense.known(view.indices).any():
            return []
        candidates = dense.candidates(np.concatenate(vectors), view, BY_MEANING)
        out: list[_Meant | None] = []
        at = 0
        for task in tasks:
            if task.vectors is None:
                out.append(None)
                continue
            mine = slice(at, at + len(task.vectors))
            at = mine.stop
            rows, mean, spread = candidates.rows[mine], candidates.mean[mine], candidates.spread[mine]
            out.append(_Meant(dense, task.vectors, rows, mean, spread))
        return out


def _measured(scores: rank.Scores, view: View) -> rank.Arm:
    """Scores (q, capacity) with mean and spread over the view's documents; outside the view they are zero."""
    mean = scores.sum(axis=1) / view.count
    squares = np.array([np.dot(row, row) for row in scores], dtype=np.float32) / view.count
    return rank.Arm(scores, mean, np.sqrt(np.maximum(squares - mean * mean, 0)))


def _score(index: Index, task: Task, view: View, words: rank.Arm, meant: _Meant | None) -> _Scored:
    bonuses: dict[int, float] = {}
    for row, bonus in islice(index.names.named(task.names), NAMED_MAX):
        if view.rows[row]:
            bonuses.setdefault(row, bonus)
    rows = _candidates(view, words.scores, meant, list(bonuses))
    own = rank.Arm(words.scores[:, rows], words.mean, words.spread)
    meaning = server = None
    embedded = np.zeros(len(rows), dtype=np.bool_)
    if meant is not None:
        embedded = meant.dense.known(rows)
        meaning = rank.Arm(meant.dense.scores(meant.vectors, rows), meant.mean, meant.spread)
        server = meant.dense.server_scores(meant.vectors, rows)
    fused = rank.fuse(own, meaning, embedded, server)
    names = np.zeros(len(rows), dtype=np.float32)
    names[np.searchsorted(rows, list(bonuses))] = list(bonuses.values())
    feedback = np.zeros(len(rows), dtype=np.float32)
    total = rank.with_clauses(fused.total) + names + feedback
    return _Scored(rows, own, meaning, embedded, fused, total, names, feedback)


def _candidates(view: View, words: rank.Scores, meant: _Meant | None, named: list[int]) -> NDArray[np.int64]:
    """Rows in order. By words alone those that share none are left out: they have no claim to be near."""
    if meant is not None and view.count <= ALL_UP_TO:
        return view.indices
    found = [np.asarray(named, dtype=np.int64)]
    if meant is not None:
        found += meant.rows
    for scores in words:
        met = np.flatnonzero(scores)
        most = ALL_UP_TO if meant is None else BY_WORDS
        if len(met) > most:
            met = met[np.argpartition(scores[met], -most)[-most:]]
        found.append(met)
    return np.unique(np.concatenate(found))


def _found(index: Index, task: Task, view: View, query: Query, scored: _Scored) -> Found:
    hybrid = scored.meaning is not None
    if not len(scored.rows):
        return Found((), hybrid, 0.0, view.searched)
    page = _Page(index, view, scored)
    picks = diversity.pick(page.candidates(task), task.k)
    best = page.position[picks[0].position]
    signals = confidence.observe(
        scored.words,
        scored.meaning,
        scored.fused,
        scored.total,
        scored.embedded,
        coverage=index.lexical.coverage(query, int(scored.rows[int(scored.total.argmax())]), view),
        count=view.count,
        query=task.query,
        named=bool(scored.names[best]),
    )
    likely = confidence.likelihood(signals)
    hits = tuple(page.hit(pick, likely, picks[0], task) for pick in picks)
    return Found(hits, hybrid, likely, view.searched)


class _Page:
    """Candidates as entries, best first, and the hits made of them."""

    def __init__(self, index: Index, view: View, scored: _Scored) -> None:
        self._slots = index.slots
        self._view = view
        self._scored = scored
        self.position: dict[int, int] = {}
        """Slot → position of its row among the candidates."""
        self._preference: dict[int, float] = {}

    def candidates(self, task: Task) -> Iterator[diversity.Candidate]:
        """Entry by entry; the best 4 k are put in order once more by what the caller prefers."""
        ranked = self._ranked()
        first = list(islice(ranked, 4 * task.k))
        if task.prefer is not None:
            for slot in first:
                preference = min(1.0, max(-1.0, task.prefer(self._slots.entry(slot))))
                self._preference[slot] = float(PREFERENCE) * preference
            first.sort(key=self._score, reverse=True)
        for slots in (first, ranked):
            yield from map(self._candidate, slots)

    def hit(self, pick: diversity.Pick, likely: float, first: diversity.Pick, task: Task) -> Hit:
        slot, entry = pick.position, self._slots.entry
        behind = max(0.0, self._score(first.position) - self._score(slot))
        return Hit(
            entry(slot),
            confidence.shown_score(likely, behind),
            tuple(sorted(entry(s).key for s in self._slots.replicas(slot, self._view.slots))),
            self._why(slot) if task.explain else None,
            tuple(entry(s).key for s in pick.alike),
        )

    def _score(self, slot: int) -> float:
        return float(self._scored.total[self.position[slot]]) + self._preference.get(slot, 0.0)

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
        slots = (s for s in self._slots.slots_of(int(self._scored.rows[position])) if self._view.slots[s])
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
        clauses = scored.total[at] - scored.names[at] - scored.feedback[at] - fused.total[0, at]
        return Why(
            words=float(fused.words[0, at]),
            meaning=float(fused.meaning[0, at]),
            server=float(fused.server[0, at]),
            clauses=float(clauses),
            name=float(scored.names[at]),
            feedback=float(scored.feedback[at]),
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
