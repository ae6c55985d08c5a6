"""Witnesses of the simulation: questions and answers take their time, are lost in cuts, and may come late."""

from __future__ import annotations

from typing import TYPE_CHECKING

from federation.events import AskWitnesses, Witnessed

if TYPE_CHECKING:
    from tests.simulation.process import Process
    from tests.simulation.world import World

WITNESS_MS = 1_500


class Poll:
    """One question about one node, asked of some others. Ends with the last answer, or after `WITNESS_MS`."""

    def __init__(self, world: World, asker: Process, about: str, question: AskWitnesses) -> None:
        self._world = world
        self._asker = asker
        self._about = about
        self._question = question
        self._said: list[tuple[str, bool]] = []
        self._ended = False
        able = [p for p in world.running() if p.name not in (asker.name, about) and asker.hears(p.name)]
        chosen = world.rng.sample(able, min(question.most, len(able)))
        self._owed = len(chosen)
        for witness in chosen:
            self._ask(witness)
        world.at(WITNESS_MS if chosen else 1, self._end, asker)

    def _ask(self, witness: Process) -> None:
        world, there, here = self._world, witness.name, self._asker.name

        def answer() -> None:
            peer = witness.peers.get(self._about)
            if peer is not None and world.network.passes(there, here):
                heard = peer.pulse.hears(world.now_ms)
                world.at(world.delay_ms(there, here), lambda: self._take(there, heard), self._asker)

        if world.network.passes(here, there):
            world.at(world.delay_ms(here, there), answer, witness)

    def _take(self, witness: str, heard: bool) -> None:
        if self._ended:
            return
        if self._asker.hears(witness):
            self._said.append((witness, heard))
        self._owed -= 1
        if self._owed == 0:
            self._end()

    def _end(self) -> None:
        if self._ended:
            return
        self._ended = True
        said = sorted(self._said)
        hearing = tuple(name for name, heard in said if heard)
        word = Witnessed(tuple(name for name, _ in said), hearing, self._question.question)
        self._asker.handle(self._about, word)
