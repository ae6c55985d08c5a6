"""All nine nodes are restarted, one after the other, under load: nobody who calls notices."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter

import pytest

from tests.lab.waiting import until
from tests.lab.world import SERVICE, World, told

pytestmark = [pytest.mark.lab, pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(600)]

CALLERS = 6
PAUSE_S = 0.05
"""Between two calls of one caller: the load is meant to be there all the time, not to fill two cores."""


class Load:
    """Callers that enter where a load balancer would send them: at any node but those taken out of rotation."""

    def __init__(self, world: World) -> None:
        self.out: set[str] = set()
        self.failed: list[str] = []
        self.marks: list[str] = []
        self._world = world
        self._random = random.Random(5)
        self._over = False
        self._callers = [asyncio.create_task(self._call(i)) for i in range(CALLERS)]

    async def _call(self, caller: int) -> None:
        nodes, api = self._world.lab.nodes, self._world.fleet.api
        while not self._over:
            entry = self._random.choice([node for node in nodes if node not in self.out])
            mark = f"roll-{caller}-{len(self.marks)}"
            self.marks.append(mark)
            began = time.time()
            outcome = await api[entry].call(SERVICE, "stamp", mark=mark)
            if outcome.failed:
                self.failed.append(f"{began:.3f} {mark} at {entry}: {outcome.text}")
            await asyncio.sleep(PAUSE_S)

    async def stop(self) -> None:
        """Waits for the calls that run."""
        self._over = True
        await asyncio.gather(*self._callers)


async def test_all_nodes_are_restarted_in_turn_without_one_failed_call(world: World) -> None:
    fleet, load, began = world.fleet, Load(world), time.monotonic()
    for node in world.lab.nodes:
        load.out.add(node)
        await fleet.stop(node)
        await fleet.start(node)

        async def loaded(node: str = node) -> bool:
            status = await fleet.api[node].status()
            return status is not None and bool(status["node"]["loaded"])

        await until(loaded, f"{node} has started its servers", every_s=0.1)
        load.out.discard(node)
    took = time.monotonic() - began
    await load.stop()
    await world.whole()
    runs = Counter(line.split()[0] for line in world.stamps.read_text().splitlines() if line.startswith("roll-"))
    twice = [mark for mark, count in runs.items() if count > 1]
    never = set(load.marks) - runs.keys()
    told(f"nine nodes were restarted in turn in {took:.0f} s under load")
    told(f"of {len(load.marks)} calls {len(load.failed)} failed, {len(twice)} ran twice, {len(never)} never")
    assert load.failed == []
    assert twice == []
    assert never == set()
    assert fleet.complaints(world.since) == []
