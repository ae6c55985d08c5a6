"""Which doubts the mesh has to answer for: all but those that a measured standstill explains. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from federation.liveness import PROOF_MS
from federation.tls import KEEPALIVE_MS, KEEPALIVE_TIMEOUT_MS

GOOD = ("alive", "draining")

RELAY = "relay"
"""Stands between any two nodes: while it waits for a processor, all are silent to all."""

_SILENT = re.compile(r"^silent for (\d+) ms")
_TRANSIT_S = 0.2

HeldS = Callable[[Iterable[str], float, float], float]
"""For how much of a time (unix seconds) any of these were kept from running."""


class Became(NamedTuple):
    """What a node's log says of a peer: from `at` (unix seconds) on it held `peer` for `state`."""

    at: float
    by: str
    peer: str
    state: str
    cause: str


class Judged(NamedTuple):
    """A doubt, for how much of the time before it the machine kept its nodes from running, and whether that is why."""

    doubt: Became
    held_s: float
    before_s: float
    excused: bool

    def told(self, since: float) -> str:
        d = self.doubt
        held = f"they were kept from running for {self.held_s:.1f} s of the {self.before_s:.1f} s before"
        return f"{d.at - since:+.2f} s: {d.by} held {d.peer} for {d.state}: {d.cause} ({held})"


def judged(became: Sequence[Became], held_s: HeldS) -> list[Judged]:
    """Every doubt among what nodes have held each other for, which comes in the order of time.

    What follows from a doubt, as the word of witnesses does, is judged as the doubt is that it began with.
    """
    first: dict[tuple[str, str], Judged] = {}
    found = []
    for b in became:
        if b.state in GOOD:
            first.pop((b.by, b.peer), None)
            continue
        began = first.setdefault((b.by, b.peer), _judge(b, held_s))
        found.append(began._replace(doubt=b))
    return found


def _judge(doubt: Became, held_s: HeldS) -> Judged:
    who: tuple[str, ...]
    if silent := _SILENT.match(doubt.cause):
        # Without the standstill there would have been no more than the silence between two beats. Its own is none that
        # a node may take for another's.
        who = (doubt.peer, RELAY)
        before_s = int(silent[1]) / 1000 + _TRANSIT_S
        enough_s = before_s - PROOF_MS / 1000
    else:
        # A stream is given up when nobody has answered a ping on it for so long.
        who = (doubt.by, doubt.peer, RELAY)
        before_s, enough_s = (KEEPALIVE_MS + KEEPALIVE_TIMEOUT_MS) / 1000, KEEPALIVE_TIMEOUT_MS / 1000
    held = held_s(who, doubt.at - before_s, doubt.at)
    return Judged(doubt, held, before_s, excused=held >= enough_s)
