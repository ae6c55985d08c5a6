"""How documents are ordered: pure functions over numpy arrays, no index, no model.

Shapes: q queries (the whole task first, then its clauses), n candidate documents.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterator, Mapping
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from router.documents import HUMPS

Scores = NDArray[np.float32]
Known = NDArray[np.bool_]

# Round numbers on a plateau, chosen on eight development sets and on one index of all of them, with the adapter and
# without: moving any by a third changes the mean nDCG@10 by less than 0.3. A ranker learned on all sets but one finds
# 0.28 to 0.72 for the first two.
LEXICAL_WEIGHT = np.float32(0.25)
DENSE_WEIGHT = np.float32(0.75)
SERVER_WEIGHT = np.float32(0.2)
CLAUSE_WEIGHT = np.float32(0.4)
WISH_WEIGHT = np.float32(0.3)
CALLED_WEIGHT = 0.4
NEAR = 64
"""Documents, the highest by score, whose names are compared with the task word by word."""
# About a third of what cosines to a query spread over in any real collection.
COSINE_SPREAD_MIN = 0.03
COSINE_SPREAD_USUAL = 0.1
STEADIED_BY = 3
WORDS_SPREAD_MIN = 1e-6
NAME_BONUS_WHOLE = 10.0
NAME_BONUS_WITHIN = 3.0

_TOKEN = re.compile(r"[\w./:-]+")
_PARTS = re.compile(r"__|[./:]+")
_NOT_ALNUM = re.compile(r"[\W_]+")


class Arm(NamedTuple):
    """What one way of searching says: `scores` (q, n) of the candidates, `mean` and `spread` (q,) of *all* documents
    that the caller may see. So a score means the same whether some or all of them are candidates."""

    scores: Scores
    mean: Scores
    spread: Scores


class Fused(NamedTuple):
    """Each (q, n), in weighted z-scores; the other three add up to `total`."""

    total: Scores
    words: Scores
    meaning: Scores
    server: Scores


def arm(scores: Scores, known: Known | None = None) -> Arm:
    """Where the candidates are all there is: mean and spread are theirs, of the `known` (n,) among them."""
    told = scores if known is None else scores[:, known]
    if not told.shape[1]:
        return Arm(scores, np.zeros(len(scores), np.float32), np.zeros(len(scores), np.float32))
    return Arm(scores, told.mean(axis=1), told.std(axis=1))


def standard(values: Scores, mean: Scores, spread: Scores, *, spread_min: float = WORDS_SPREAD_MIN) -> Scores:
    """z-scores of (q, n), with `mean` and `spread` (q,).

    A spread below `spread_min` is taken for that: among a few tools that are all alike, dividing by less would blow
    noise up until it outweighs everything else.
    """
    scale = np.maximum(spread, np.float32(spread_min))[:, None]
    return np.asarray((values - mean[:, None]) / scale, dtype=np.float32)


def steady(spread: Scores, count: int) -> Scores:
    """The spread (q,) of the cosines of `count` documents, held towards a usual one as if three more had that.

    One document has no spread, and that of two or three is chance: measured by it, what is said of their server would
    outweigh all else. Of a hundred documents on it changes nothing.
    """
    usual = STEADIED_BY * COSINE_SPREAD_USUAL**2
    return np.asarray(np.sqrt((count * spread * spread + usual) / (count + STEADIED_BY)), dtype=np.float32)


def fuse(words: Arm, meaning: Arm | None, embedded: Known, server: Scores | None) -> Fused:
    """One score for each candidate.

    A document that is not `embedded` (n,) yet stands by its words alone, at full weight. `server` holds raw cosines
    to what is said of the document's server, NaN where nothing is; they are measured by the spread of `meaning`.
    """
    worded = standard(*words)
    if meaning is None:
        nothing = np.zeros_like(worded)
        return Fused(worded, worded, nothing, nothing)
    by_words = worded * np.where(embedded, LEXICAL_WEIGHT, np.float32(1))
    by_meaning = np.where(embedded, DENSE_WEIGHT * standard(*meaning, spread_min=COSINE_SPREAD_MIN), np.float32(0))
    by_server = np.zeros_like(worded)
    if server is not None:
        about = standard(server, meaning.mean, meaning.spread, spread_min=COSINE_SPREAD_MIN)
        by_server = SERVER_WEIGHT * np.nan_to_num(about)
    return Fused(by_words + by_meaning + by_server, by_words, by_meaning, by_server)


def with_clauses(total: Scores) -> Scores:
    """(q, n) to (n,). Row 0 is the whole task, the rest its clauses: the whole, and how far a document answers one
    clause better than it answers them all; so each step of a long task brings its tool up, and what is vaguely about
    everything stays behind. A single further row is no step but a wish (the key words): it adds what it is worth.
    """
    if len(total) == 1:
        return np.asarray(total[0])
    if len(total) == 2:
        return np.asarray(total[0] + WISH_WEIGHT * total[1])
    return np.asarray(total[0] + CLAUSE_WEIGHT * (total[1:].max(axis=0) - total[1:].mean(axis=0)))


def nearest(scores: Scores, count: int = NEAR) -> NDArray[np.int64]:
    """Positions of the `count` highest of (n,), in no order."""
    if count >= len(scores):
        return np.arange(len(scores))
    return np.argpartition(scores, len(scores) - count)[len(scores) - count :]


def called(name: Mapping[str, float], asked: Container[str]) -> float:
    """What a task gives a tool for having its name's words, 0 to `CALLED_WEIGHT`.

    `name` holds the words of the tool's name with their rarity, `asked` those of the task. It is the share of the
    *name* that counts: whoever stuffs a name with words of many tasks loses by it in each.
    """
    weight = sum(name.values())
    return CALLED_WEIGHT * sum(w for word, w in name.items() if word in asked) / weight if weight else 0.0


def squash(name: str) -> str:
    """A name without case and separators: `getTime`, `get_time` and `Get Time` are one."""
    return _NOT_ALNUM.sub("", name).casefold()


def identifiers(text: str) -> Iterator[tuple[str, float]]:
    """(squashed name, bonus): the whole text as a name, and each word in it that is spelled like an identifier."""
    if whole := squash(text):
        yield whole, NAME_BONUS_WHOLE
    for token in _TOKEN.findall(text):
        for part in _PARTS.split(token):
            if "_" in part.strip("_") or "-" in part.strip("-") or HUMPS.search(part):
                yield squash(part), NAME_BONUS_WITHIN


class TieOrder(Protocol):
    """What breaks ties, by position: comparable values."""

    def __getitem__(self, position: int, /) -> Any: ...


def best(scores: Scores, count: int, order: TieOrder) -> list[int]:
    """Positions of the highest scores, best first; equal scores in the order of `order`, whatever came first."""
    if count >= len(scores):
        chosen = list(range(len(scores)))
    else:
        # Everything level with the last place is kept, so that a tie there is broken by `order` too.
        last = np.partition(scores, len(scores) - count)[len(scores) - count]
        chosen = np.flatnonzero(scores >= last).tolist()
    return sorted(chosen, key=lambda i: (-float(scores[i]), order[i]))[:count]
