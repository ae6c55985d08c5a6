"""Feedback from use: a tool whose calls succeeded after such a query before gets a small bonus when it is asked again.

A search that shows a tool, then a call of it by the same principal that succeeds: that is one vote for (vector of the
query, tool). Never the words: of those nothing is kept. A later query gets, for each tool, the votes of entries nearer
than `GATE`: a principal's own in full, another's by a quarter, so that no one person moves another's ranking by more
than a quarter of the greatest bonus, and four who agree count in full. The bonus is `strength · (cosine - GATE)`, at
most `strength · SPAN`, and is added to z-scores: a tool without votes keeps its place against all that it beats by
more than that.

Votes fade by half in `half_life_days` and are dropped after `LIVES_MAX` of these. Vectors of another model are never
compared: evidence is tagged with the model's id, and begins anew with another one.
"""

from __future__ import annotations

import hashlib
import secrets
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from router.evidence import Changes, Entry, Evidence, Subject, Vector
from router.ports import ToolEntry
from router.shelf import Shelf, sound

GATE = 0.5
SPAN = 0.25
"""Beyond this above the gate a query is as good as the same."""
OTHERS = 0.25
"""What another principal's vote counts, of one's own."""
STRENGTH = 6.0
HALF_LIFE_DAYS = 30.0
LIVES_MAX = 3
WINDOW_S = 600.0
"""How long after a search a call may come that counts for it."""
SEARCHERS_MAX = 1_024
SEARCHES_EACH = 8
SHOWN_MAX = 20
LIFTS_MAX = 256
"""Tools lifted in one search, the most first: a flood of small lifts drives out no greater one."""
FOREIGN_MAX = 4_096
"""Entries of all peers together; beyond it the peer with the most gives up its oldest."""


class Lift(NamedTuple):
    """`bonus` is in z-scores, above 0 and at most `Feedback.greatest`."""

    subject: Subject
    bonus: float


@dataclass(frozen=True, slots=True)
class FeedbackStatus:
    """`own` entries learned here, `foreign` ones of `peers`; `tools` that have any; `learned` votes since the start."""

    model: str
    own: int
    foreign: int
    tools: int
    peers: int
    learned: int


class _Search(NamedTuple):
    at: float
    vector: Vector
    shown: frozenset[Subject]


class Feedback:
    """Thread-safe; nothing holds the lock for longer than a scan of the entries, a millisecond or two at the bound.

    `secret` keys the principals' hashes: where nodes of a mesh share it, one principal is one voter in all of them.
    `clock` counts seconds, `hour` hours since 1970.
    """

    def __init__(
        self,
        *,
        strength: float = STRENGTH,
        half_life_days: float = HALF_LIFE_DAYS,
        secret: bytes = b"",
        clock: Callable[[], float] = time.monotonic,
        hour: Callable[[], int] = lambda: int(time.time() // 3600),
    ) -> None:
        self._strength = strength
        self._half_life_h = half_life_days * 24
        self._secret = secret[:64]
        self._clock = clock
        self._hour = hour
        self._lock = threading.Lock()
        self._model = ""
        self._width = 0
        self._own = Evidence(secrets.token_hex(8))
        self._foreign: dict[str, dict[int, Entry]] = {}
        self._shelf = Shelf()
        self._searches: OrderedDict[str, deque[_Search]] = OrderedDict()
        self._learned = 0

    def __repr__(self) -> str:
        s = self.status()
        return f"Feedback({s.own} entries, {s.foreign} of {s.peers} peers, {s.tools} tools)"

    @property
    def greatest(self) -> float:
        """The most that a bonus can be, in z-scores: that of a query asked again, in other words even."""
        return self._strength * SPAN

    # ---- what happens on this node ---------------------------------------------------------------

    def lifts(self, query: NDArray[np.float32], caller: str, model: str) -> Sequence[Lift]:
        """What was learned for a query (unit vector of `model`), for this caller; empty for most. Best first.

        `caller` names the principal; "" is nobody, who has no votes of its own.
        """
        with self._lock:
            self._adopt(model, len(query))
            now = self._hour()
            gains = self._shelf.agreed(
                query, self._voter(caller), GATE, SPAN, OTHERS, lambda hours: self._faded(now, hours)
            )
        best = sorted(gains, key=lambda found: (-found[1], found[0]))[:LIFTS_MAX]
        return [Lift(subject, self._strength * gain) for subject, gain in best]

    def shown(self, caller: str, query: NDArray[np.float32] | None, entries: Iterable[ToolEntry]) -> None:
        """A search by `caller` has shown these. Without a vector or a caller nothing is remembered."""
        if query is None or not caller:
            return
        subjects = frozenset(Subject.of(e) for e, _ in zip(entries, range(SHOWN_MAX), strict=False))
        search = _Search(self._clock(), query.astype(np.float16), subjects)
        with self._lock:
            voter = self._voter(caller)
            self._searches.setdefault(voter, deque(maxlen=SEARCHES_EACH)).append(search)
            self._searches.move_to_end(voter)
            while len(self._searches) > SEARCHERS_MAX:
                self._searches.popitem(last=False)

    def called(self, caller: str, entry: ToolEntry, *, ok: bool) -> bool:
        """A call of a tool has ended; `ok`: neither an error nor a failing tool. Returns whether anything was learned.

        It counts for the caller's last search that showed the tool, if that was less than `WINDOW_S` ago.
        """
        if not ok or not caller:
            return False
        subject = Subject.of(entry)
        with self._lock:
            voter = self._voter(caller)
            began = self._clock() - WINDOW_S
            search = next(
                (s for s in reversed(self._searches.get(voter, ())) if subject in s.shown and s.at >= began), None
            )
            if search is None or len(search.vector) != self._width:
                return False
            put, gone = self._own.vote(subject, search.vector, voter, self._hour())
            for entry_gone in gone:
                self._shelf.remove(entry_gone)
            if put is not None:
                self._shelf.put(put)
            self._learned += 1
        return True

    def reset(self) -> int:
        """Forget everything, peers' evidence too, which comes again unless they are reset; returns how many entries."""
        with self._lock:
            return self._anew()

    def status(self) -> FeedbackStatus:
        with self._lock:
            return FeedbackStatus(
                model=self._model,
                own=len(self._own),
                foreign=self._shelf.used - len(self._own),
                tools=self._shelf.subjects(),
                peers=len(self._foreign),
                learned=self._learned,
            )

    # ---- kept, and told to peers -----------------------------------------------------------------

    def kept(self) -> tuple[str, list[Entry], int]:
        """(model, own entries, number of the last change): what is to be saved. Drops what has faded."""
        with self._lock:
            self._expire()
            return self._model, [_copy(e) for e in self._own], self._own.seq

    def restore(self, model: str, kept: Iterable[tuple[Subject, Vector, dict[str, int]]]) -> None:
        """What was saved, before anything else is done."""
        with self._lock:
            of = list(kept)
            self._adopt(model, len(of[0][1]) if of else 0)
            self._own.restore(e for e in of if len(e[1]) == self._width)
            for entry in self._own:
                self._shelf.put(entry)

    def changes(self, life: str, since: int, count: int) -> tuple[str, Changes]:
        """(model, what a peer lacks that knows `life` up to `since`), at most `count` entries."""
        with self._lock:
            self._expire()
            changes = self._own.since(life, since, count)
            return self._model, Changes(
                changes.life, changes.to, tuple(map(_copy, changes.puts)), changes.gone, changes.anew, changes.more
            )

    def take(self, peer: str, model: str, changes: Changes) -> bool:
        """A peer's evidence, which is ours from now on. False where its model is another one, and nothing is kept."""
        with self._lock:
            if not self._width or model != self._model:
                self._drop(peer)
                return False
            if changes.anew:
                self._drop(peer)
            of, now = self._foreign.setdefault(peer, {}), self._hour()
            for number in changes.gone:
                self._forget(of, number)
            for entry in changes.puts:
                self._forget(of, entry.number)
                if sound(entry.vector, self._width):
                    # Of a peer whose clock is ahead: no vote is from tomorrow.
                    entry.votes.update({v: min(hour, now) for v, hour in entry.votes.items()})
                    of[entry.number] = entry
                    self._shelf.put(entry)
            self._bound_foreign()
            return True

    def drop(self, peer: str) -> None:
        """A peer has left the mesh, and what it told goes with it."""
        with self._lock:
            self._drop(peer)

    def peers(self) -> tuple[str, ...]:
        with self._lock:
            return tuple(self._foreign)

    # ---- under the lock --------------------------------------------------------------------------

    def _voter(self, caller: str) -> str:
        return hashlib.blake2b(caller.encode(), digest_size=8, key=self._secret).hexdigest() if caller else ""

    def _faded(self, now: int, hours: NDArray[np.float32]) -> NDArray[np.float32]:
        # A clock may be set back.
        aged = np.minimum(np.float32(0), hours - np.float32(now)) / np.float32(self._half_life_h)
        return np.asarray(np.exp2(aged), dtype=np.float32)

    def _adopt(self, model: str, width: int) -> None:
        """Behind an endpoint's unchanged name there may be another model, which its width may tell."""
        if (model, width) != (self._model, self._width):
            if self._width:
                self._anew()
            self._model, self._width = model, width

    def _anew(self) -> int:
        count = self._shelf.used
        self._own = Evidence(secrets.token_hex(8))
        self._foreign.clear()
        self._shelf = Shelf()
        self._searches.clear()
        return count

    def _expire(self) -> None:
        before = self._hour() - round(LIVES_MAX * self._half_life_h)
        fewer, gone = self._own.expire(before)
        for entry in fewer:
            self._shelf.put(entry)
        for entry in gone:
            self._shelf.remove(entry)
        for of in self._foreign.values():
            for number in [n for n, e in of.items() if e.newest < before]:
                self._shelf.remove(of.pop(number))

    def _drop(self, peer: str) -> None:
        for entry in self._foreign.pop(peer, {}).values():
            self._shelf.remove(entry)

    def _forget(self, of: dict[int, Entry], number: int) -> None:
        before = of.pop(number, None)
        if before is not None:
            self._shelf.remove(before)

    def _bound_foreign(self) -> None:
        excess = sum(map(len, self._foreign.values())) - FOREIGN_MAX
        while excess > 0:
            largest = max(self._foreign.values(), key=len)
            others = max((len(of) for of in self._foreign.values() if of is not largest), default=0)
            count = min(excess, max(1, len(largest) - others))
            for entry in sorted(largest.values(), key=lambda e: (e.newest, e.number))[:count]:
                self._shelf.remove(largest.pop(entry.number))
            excess -= count


def _copy(entry: Entry) -> Entry:
    """For whoever reads it outside the lock; vectors never change."""
    return Entry(entry.number, entry.subject, entry.vector, dict(entry.votes), entry.changed)
