"""Many seeds, in batches that several processes may share."""

from __future__ import annotations

import multiprocessing
from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

from tests.simulation.chaos import Failure, run

BATCH = 25
"""Seeds that a worker takes at a time."""


class Outcome(NamedTuple):
    """What a batch of seeds came to. The figures are of those that violated nothing, `failures` of the others."""

    seeds: int
    steps: int
    calls: int
    offers: int
    alarms: Counter[str]
    failures: tuple[str, ...]


def batch(seeds: range) -> Outcome:
    done, steps, calls, offers, alarms = 0, 0, 0, 0, Counter[str]()
    failures: list[str] = []
    for seed in seeds:
        try:
            world = run(seed)
        except Failure as e:
            failures.append(str(e))
            continue
        done += 1
        steps += world.steps
        calls += world.calls.outcomes.total()
        offers += world.offers.made
        alarms.update(world.alarms)
    return Outcome(done, steps, calls, offers, alarms, tuple(failures))


def outcomes(seeds: range, jobs: int) -> Iterator[Outcome]:
    batches = [seeds[i : i + BATCH] for i in range(0, len(seeds), BATCH)]
    if jobs < 2:
        yield from map(batch, batches)
        return
    with multiprocessing.get_context("spawn").Pool(jobs) as pool:
        yield from pool.imap_unordered(batch, batches)
