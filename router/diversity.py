"""Which of the ranked tools make the page: one hit for near-identical ones, and no page for a single server."""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field

from router.rank import squash

LOOK_MAX = 400
"""Candidates read for one page; beyond that whatever was left aside fills it."""
ALIKE_MAX = 20
ALIKE_SHARE = 0.8

_WORD = re.compile(r"\w+")


@dataclass(frozen=True, slots=True)
class Candidate:
    """`position` is the caller's own number for it. `group` is equal for declared replicas, None where none are.
    `server` is whatever tells servers apart."""

    position: int
    server: Hashable
    group: Hashable | None
    name: str
    description: str
    parameters: frozenset[str] = frozenset()


@dataclass(slots=True)
class Pick:
    """`alike`: positions of near-identical tools on other servers, best first, that gave up their places to this."""

    position: int
    alike: tuple[int, ...] = ()


@dataclass(slots=True)
class _Shown:
    pick: Pick
    words: frozenset[str]
    parameters: frozenset[str]
    servers: set[Hashable] = field(default_factory=set)


def quota(k: int) -> int:
    """Places on a page of `k` that one server may take while others have something to offer."""
    return max(1, k - max(1, k // 5)) if k > 1 else 1


def pick(ranked: Iterable[Candidate], k: int) -> list[Pick]:
    """The page: at most `k` of `ranked` (best first), in their order.

    Of a group the first stands for all. A tool that is named, described and called like one shown already, but lives
    on another server, is folded into it. Beyond its quota a server's tools wait; they fill what is left in the end.
    """
    shown: list[_Shown] = []
    waiting: list[_Shown] = []
    by_name: dict[str, list[_Shown]] = {}
    groups: set[Hashable] = set()
    taken: dict[Hashable, int] = {}
    for number, candidate in enumerate(ranked):
        if len(shown) >= k or number >= LOOK_MAX:
            break
        if candidate.group is not None:
            if candidate.group in groups:
                continue
            groups.add(candidate.group)
        entry = _Shown(
            Pick(candidate.position),
            frozenset(_WORD.findall(candidate.description.casefold())),
            candidate.parameters,
            {candidate.server},
        )
        namesakes = by_name.setdefault(squash(candidate.name), [])
        twin = next((n for n in namesakes if candidate.server not in n.servers and _alike(n, entry)), None)
        if twin is not None:
            twin.servers.add(candidate.server)
            if len(twin.pick.alike) < ALIKE_MAX:
                twin.pick.alike += (candidate.position,)
            continue
        namesakes.append(entry)
        if taken.get(candidate.server, 0) >= quota(k):
            waiting.append(entry)
        else:
            taken[candidate.server] = taken.get(candidate.server, 0) + 1
            shown.append(entry)
    return [entry.pick for entry in (*shown, *waiting)][:k]


def _alike(one: _Shown, other: _Shown) -> bool:
    return _share(one.words, other.words) >= ALIKE_SHARE and _share(one.parameters, other.parameters) >= ALIKE_SHARE


def _share(one: frozenset[str], other: frozenset[str]) -> float:
    """Of all that either has, how much both have; 1 where neither has any."""
    return len(one & other) / len(one | other) if one or other else 1.0
