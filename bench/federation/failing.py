"""A node that dies, one that freezes, a region that is cut off; and those to whom nothing happened."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from bench.federation.figures import half, ms, rounded
from bench.federation.fleet import Fleet, Node

DECIDED = frozenset({"down", "unreachable"})
NOTICED_WITHIN_S = 15.0
Fate = tuple[int, str, str]


async def killed(fleet: Fleet, times: int) -> dict[str, Any]:
    """SIGKILL: its kernel still says that the connections are gone."""
    rounds = []
    for i in range(times):
        victim = fleet.nodes[-1 - i % len(fleet.nodes)]
        with _disturbing(fleet, victim):
            at = await victim.kill()
            rounds.append(await _noticed(fleet.others(victim), [victim], at))
            await back(fleet, victim)
    return _summary(rounds, len(fleet.nodes))


async def frozen(fleet: Fleet, times: int, frozen_s: float = 6.0) -> dict[str, Any]:
    """SIGSTOP: its connections stand, and nothing comes. `woken_*`: what it thinks of the others on waking."""
    rounds, doubts = [], 0
    for i in range(times):
        victim = fleet.nodes[-1 - i % len(fleet.nodes)]
        with _disturbing(fleet, victim):
            at = victim.signal(signal.SIGSTOP)
            try:
                noticed = asyncio.create_task(_noticed(fleet.others(victim), [victim], at))
                await asyncio.sleep(frozen_s)
                rounds.append(await noticed)
            finally:
                woken = victim.signal(signal.SIGCONT)
            await fleet.whole()
        doubts += sum(t > woken and state in DECIDED for t, _, state in await fates(victim))
    return _summary(rounds, len(fleet.nodes)) | {"woken_declared_dead": doubts}


async def cut_off(fleet: Fleet, region: Sequence[Node], at: int) -> dict[str, Any]:
    """Both sides of a cut that was made `at`: how long until each has decided on every node of the other."""
    others = fleet.others(*region)
    there, here = await asyncio.gather(_noticed(others, region, at), _noticed(region, others, at))
    return _summary([there, here], len(fleet.nodes))


async def back(fleet: Fleet, node: Node) -> None:
    """The same node again, with its disk; whole means that everybody hears everybody."""
    await node.start()
    await node.ask("load", tools=5, body_bytes=1000)
    await node.ask("peers", found=[n.hint for n in fleet.others(node)])
    await fleet.whole()


async def fates(node: Node) -> list[Fate]:
    return [(t, owner, state) for t, owner, state in (await node.ask("fates"))["fates"]]


Excuse = Callable[[int, str, str], bool]
"""(when, observer, the node that it suspects): whether there was a reason."""


def disturbances(fleet: Fleet) -> Excuse:
    """Whatever is done to a node, by `killed` or `frozen`, excuses what it and others think meanwhile."""

    def excused(at: int, *nodes: str) -> bool:
        return any(name in nodes and begun <= at <= over for begun, over, name in fleet.disturbed)

    return excused


async def false_alarms(fleet: Fleet, excused: Excuse) -> int:
    """How often a node suspected another one without a reason, since the fleet was whole for the first time."""
    count = 0
    for node in fleet.nodes:
        for at, owner, state in await fates(node):
            bad = at > fleet.whole_at and (state == "suspect" or state in DECIDED)
            count += bad and not excused(at, node.name, owner)
    return count


@contextmanager
def _disturbing(fleet: Fleet, node: Node) -> Iterator[None]:
    begun = time.monotonic_ns()
    yield
    fleet.disturbed.append((begun, time.monotonic_ns(), node.name))


async def _noticed(by: Sequence[Node], of: Sequence[Node], at: int) -> list[tuple[float, float]]:
    """For each pair: milliseconds from `at` to the first suspicion and to the decision."""
    wanted = {n.name for n in of}
    found: list[tuple[float, float]] = []
    async with asyncio.timeout(NOTICED_WITHIN_S):
        for node in by:
            while True:
                since = [f for f in await fates(node) if f[0] > at and f[1] in wanted]
                suspected = first_seen(since, DECIDED | {"suspect"})
                decided = first_seen(since, DECIDED)
                if decided.keys() == wanted:
                    break
                await asyncio.sleep(0.2)
            found += [(ms(suspected[name] - at), ms(decided[name] - at)) for name in wanted]
    return found


def first_seen(fates: Iterable[Fate], states: frozenset[str]) -> dict[str, int]:
    first: dict[str, int] = {}
    for at, owner, state in fates:
        if state in states:
            first.setdefault(owner, at)
    return first


def _summary(rounds: Sequence[Sequence[tuple[float, float]]], nodes: int) -> dict[str, Any]:
    """Medians over all observers, and the slowest of them."""
    seen = [pair for one in rounds for pair in one]
    suspected, decided = [s for s, _ in seen], [d for _, d in seen]
    return rounded(
        {
            "nodes": nodes,
            "rounds": len(rounds),
            "suspected_p50_ms": half(suspected),
            "suspected_max_ms": max(suspected),
            "decided_p50_ms": half(decided),
            "decided_max_ms": max(decided),
        }
    )
