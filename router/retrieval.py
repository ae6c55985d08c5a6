"""How the index is searched: candidates from both arms, and what they score.

Everything is scored by row, once for many equal tools; only what may make the page (`page`) is looked at entry by
entry. What a caller may not see influences nothing: candidates, word frequencies, means and spreads are those of its
view.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from router import confidence, diversity, rank
from router.dense import Dense
from router.feedback import Lift
from router.index import Index
from router.lexical import Query
from router.masks import View
from router.page import Page, Scored
from router.ports import Hit, Prefer, Vectors
from router.tokens import words as words_of

ALL_UP_TO = 4_000
"""Where a caller sees no more documents than these, all are candidates."""
BY_MEANING = 400
BY_WORDS = 200
"""Candidates that each text of a task brings in where there are more."""
NAMED_MAX = 2_000
DIGITS = 3
NAMES_CACHED = 20_000


@dataclass(frozen=True, slots=True)
class Task:
    """One search: `texts[0]` is the whole task, the rest its steps; `vectors` are in the same order (None: by words
    alone). `names` is where tools may be named outright, `query` what was asked, as it was; `lifts` is what was learned
    from use for such a query, `model` the id of what made the vectors."""

    texts: tuple[str, ...]
    names: tuple[str, ...]
    query: str
    k: int
    vectors: Vectors | None = None
    prefer: Prefer | None = None
    lifts: Sequence[Lift] = ()
    explain: bool = False
    model: str = ""


@dataclass(frozen=True, slots=True)
class Found:
    """`likely`: how likely the best hit fits, 0 to 1, and the `signals` that say so; `searched`: how many tools the
    caller may see."""

    hits: tuple[Hit, ...]
    hybrid: bool
    likely: float
    searched: int
    signals: confidence.Signals | None = None


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
        query = queries[mine.start]
        scored = _score(index, task, view, query, own, meant[number] if meant else None)
        found.append(_found(index, task, view, query, scored))
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
        if dense is None or not vectors:
            return []
        candidates = dense.candidates(np.concatenate(vectors), view, BY_MEANING)
        if not len(candidates.rows[0]):
            return []
        out: list[_Meant | None] = []
        at = 0
        for task in tasks:
            if task.vectors is None:
                out.append(None)
                continue
            mine = slice(at, at + len(task.vectors))
            at = mine.stop
            spread = rank.steady(candidates.spread[mine], view.count)
            out.append(_Meant(dense, task.vectors, candidates.rows[mine], candidates.mean[mine], spread))
        return out


def _measured(scores: rank.Scores, view: View) -> rank.Arm:
    """Scores (q, capacity) with mean and spread over the view's documents; outside the view they are zero."""
    mean = scores.sum(axis=1) / view.count
    squares = np.array([np.dot(row, row) for row in scores], dtype=np.float32) / view.count
    return rank.Arm(scores, mean, np.sqrt(np.maximum(squares - mean * mean, 0)))


def _score(index: Index, task: Task, view: View, query: Query, words: rank.Arm, meant: _Meant | None) -> Scored:
    bonuses: dict[int, float] = {}
    visible = ((row, bonus) for row, bonus in index.names.named(task.names) if view.rows[row])
    for row, bonus in islice(visible, NAMED_MAX):
        bonuses.setdefault(row, bonus)
    lifted = _lifted(index, task.lifts, view)
    lifts: dict[int, float] = {}
    for slot, bonus in lifted.items():
        row = int(index.slots.row_of[slot])
        lifts[row] = max(lifts.get(row, 0.0), bonus)
    rows = _candidates(view, words.scores, meant, [*bonuses, *lifts])
    own = rank.Arm(words.scores[:, rows], words.mean, words.spread)
    meaning = server = None
    embedded = np.zeros(len(rows), dtype=np.bool_)
    if meant is not None:
        embedded = meant.dense.known(rows)
        meaning = rank.Arm(meant.dense.scores(meant.vectors, rows), meant.mean, meant.spread)
        server = meant.dense.server_scores(meant.vectors, rows)
    fused = rank.fuse(own, meaning, embedded, server)
    names, feedback = _spread(bonuses, rows), _spread(lifts, rows)
    total = rank.with_clauses(fused.total)
    called = _called(index, view, query, rows, total)
    # What is below is noise of summation; equal documents are to be level, whatever rows they have.
    total = np.round(total + called + names + feedback, DIGITS)
    return Scored(rows, own, meaning, embedded, fused, total, called, names, feedback, lifted)


def _called(index: Index, view: View, query: Query, rows: NDArray[np.int64], total: rank.Scores) -> rank.Scores:
    """What the nearest documents are given for words of their names, by position; zero for the others."""
    out = np.zeros(len(rows), dtype=np.float32)
    rarity: dict[str, float] = {}
    given: dict[str, float] = {}
    near = rank.nearest(total)
    for position, row in zip(near.tolist(), rows[near].tolist(), strict=True):
        entry = index.slots.any_of(row)
        if entry is None:
            continue
        name = entry.key.tool
        if name not in given:
            words = _words_of(name)
            for word in words:
                if word not in rarity:
                    rarity[word] = index.lexical.rarity(word, view)
            given[name] = rank.called({word: rarity[word] for word in words}, query.counts)
        out[position] = given[name]
    return out


@lru_cache(maxsize=NAMES_CACHED)
def _words_of(name: str) -> tuple[str, ...]:
    return tuple(words_of(name))


def _lifted(index: Index, lifts: Sequence[Lift], view: View) -> dict[int, float]:
    """Bonus by slot, of what may be seen and is still defined as it was when it was learned of."""
    found: dict[int, float] = {}
    for lift in lifts:
        for slot in index.slots.meant(*lift.subject):
            if slot < len(view.slots) and view.slots[slot]:
                found[slot] = max(found.get(slot, 0.0), lift.bonus)
    return found


def _spread(by_row: dict[int, float], rows: NDArray[np.int64]) -> rank.Scores:
    """By position among `rows`, which hold all of them; zero for the others."""
    out = np.zeros(len(rows), dtype=np.float32)
    out[np.searchsorted(rows, list(by_row))] = list(by_row.values())
    return out


def _candidates(view: View, words: rank.Scores, meant: _Meant | None, named: list[int]) -> NDArray[np.int64]:
    """Rows in order. By words alone those that share none are left out: they have no claim to be near."""
    if meant is not None and view.count <= ALL_UP_TO:
        return view.indices
    chosen = np.zeros(len(view.rows), dtype=np.bool_)
    chosen[named] = True
    if meant is not None:
        chosen[np.concatenate(meant.rows)] = True
    for scores in words:
        # Scores are never below zero, and numpy is ten times as quick to look through yes and no.
        met = np.flatnonzero(scores > 0)
        most = ALL_UP_TO if meant is None else BY_WORDS
        if len(met) > most:
            met = met[np.argpartition(scores[met], -most)[-most:]]
        chosen[met] = True
    return np.flatnonzero(chosen)


def _found(index: Index, task: Task, view: View, query: Query, scored: Scored) -> Found:
    hybrid = scored.meaning is not None
    if not len(scored.rows):
        return Found((), hybrid, 0.0, view.searched)
    page = Page(index, view, scored)
    picks = diversity.pick(page.candidates(task.k, task.prefer), task.k)
    best = page.position[picks[0].position]
    signals = confidence.observe(
        scored.words,
        scored.meaning,
        scored.total,
        scored.embedded,
        coverage=index.lexical.coverage(query, int(scored.rows[int(scored.total.argmax())]), view),
        count=view.count,
        query=task.query,
        named=bool(scored.names[best]),
    )
    likely = confidence.likelihood(signals, task.model)
    hits = tuple(page.hit(pick, likely, picks[0], explain=task.explain) for pick in picks)
    return Found(hits, hybrid, likely, view.searched, signals)
