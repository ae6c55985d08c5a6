"""Whom a node would ask for a tool that several own: checked with the real choice, by what its listener was told."""

from __future__ import annotations

from typing import TYPE_CHECKING

from federation.events import Liveness
from node import balance
from proto.records import Kind, RecordKey
from tests.simulation.checks import Violation

if TYPE_CHECKING:
    from tests.simulation.process import Process
    from tests.simulation.world import World

TOOLS = 12
ALIVE = (Liveness.ALIVE, Liveness.DRAINING)


class Offers:
    """Every node says that its tools are a service of all nodes; each process asks for one of them at each tick."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.made = 0

    def after_tick(self, process: Process) -> None:
        key = RecordKey(Kind.TOOL, f"srv/tool-{process.ticks % TOOLS}")
        candidates = self.candidates(process, key)
        if not candidates:
            return
        chosen = balance.choose(place(process.name), candidates, self._world.rng.randrange)
        self.made += 1
        alive = [c.place.node for c in candidates if process.name == c.place.node or self._alive(process, c.place.node)]
        if chosen is None:
            if alive:
                self._fail(f"{process} offers {key.id} nowhere, though {alive} are alive")
            return
        name = chosen.place.node
        if alive and name not in alive:
            self._fail(f"{process} offers {key.id} at {name}, which is {process.told[name]}, though {alive} are alive")
        if key in process.log.records and name != process.name and not process.draining:
            self._fail(f"{process} does not serve its own {key.id}, but asks {name}")
        staying = [n for n in alive if not self._drains(process, n)]
        if name not in staying and staying:
            self._fail(f"{process} offers {key.id} at {name}, which drains, though {staying} stay")

    def candidates(self, process: Process, key: RecordKey) -> list[balance.Candidate]:
        found = []
        if key in process.log.records:
            found.append(balance.Candidate(place(process.name), draining=process.draining))
        for name, held in process.heard.items():
            if key in held and process.listed[name]:
                told = process.told[name]
                found.append(balance.Candidate(place(name), told in ALIVE, told is Liveness.DRAINING))
        return found

    def _alive(self, process: Process, name: str) -> bool:
        return process.peers[name].pulse.state in ALIVE

    def _drains(self, process: Process, name: str) -> bool:
        return process.draining if name == process.name else process.told[name] is Liveness.DRAINING

    def _fail(self, message: str) -> None:
        raise Violation(message)


def place(name: str) -> balance.Place:
    return balance.Place(name, "r1" if name < "d" else "r2")
