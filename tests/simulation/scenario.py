"""Scripted stories: a text of commands, each followed by `----` and what is then to be seen."""

from __future__ import annotations

from pathlib import Path

from federation.events import CallsFailed
from federation.memory import MemoryViewStore
from node import balance
from proto.frames import Farewell
from proto.records import Kind, Record, RecordKey
from tests.simulation.offers import place
from tests.simulation.process import Process
from tests.simulation.world import World


class Scenario:
    """One world, driven by commands:

    start NODE… [loading]   crash NODE   restart NODE   leave NODE   lose-disk NODE
    clone NODE [anew]       crash-last NODE             archive NODE     old-disk NODE
    publish NODE TOOL…      delete NODE TOOL…           loaded NODE  freeze NODE MS
    rule NODE NAME…         grant NODE   revoke NODE    slow NODE MS_LATE MS
    jump NODE MS            calls-fail NODE OWNER       drain NODE   stay NODE
    cut A B   part A B   heal   run MS   show NODE OWNER   ask NODE TOOL
    """

    def __init__(self) -> None:
        self.world = World(1, ["a", "b", "c"])

    def play(self, text: str) -> str:
        """The text again, with what is seen now in the place of what was expected."""
        played = []
        for block in text.strip().split("\n\n"):
            commands = block.split("\n----")[0]
            self.world.transcript.clear()
            shown = [line for command in commands.splitlines() for line in self._do(command)]
            seen = [*(line.split(" ", 1)[1] for line in map(str.lstrip, self.world.transcript)), *shown]
            played.append("\n".join([commands, "----", *seen]))
        return "\n\n".join(played) + "\n"

    def _node(self, name: str) -> Process:
        return self.world.processes[name][0]

    def _do(self, command: str) -> list[str]:
        world = self.world
        match command.split():
            case ["#", *_]:
                pass
            case ["start", *names]:
                for name in names:
                    if name != "loading":
                        world.start(name, loaded_after_ms=10**9 if "loading" in names else 0)
            case ["crash", name]:
                world.crash(self._node(name))
            case ["crash-last", name]:
                world.crash(world.processes[name][-1])
            case ["restart", name]:
                world.stop(self._node(name), Farewell.RESTART)
            case ["leave", name]:
                world.stop(self._node(name), Farewell.LEAVE)
            case ["lose-disk", name]:
                world.disks[name] = MemoryViewStore()
                world.skew_ms[name] = -3_600_000
            case ["archive", name]:
                world.archive_disk(name)
            case ["old-disk", name]:
                world.disks[name] = world.archive.pop(name)
            case ["clone", name, *how]:
                world.start(name, clone_of=self._node(name), anew="anew" in how)
            case ["loaded", name]:
                self._node(name).log.set_loaded()
            case ["publish", name, *tools]:
                self._node(name).publish([self._record(name, t) for t in tools], [])
            case ["delete", name, *tools]:
                self._node(name).publish([], [RecordKey(Kind.TOOL, f"srv/{t}") for t in tools])
            case ["rule", name, *rules]:
                world.checks.governed = True
                self._node(name).publish([Record.of(Kind.POLICY, r, {"owner": name}) for r in rules], [])
            case ["grant", name]:
                world.regard(name, authority=True)
            case ["revoke", name]:
                world.regard(name, authority=False)
            case ["freeze", name, ms]:
                world.freeze(self._node(name), int(ms))
            case ["slow", name, late_ms, ms]:
                world.slow(self._node(name), int(late_ms), int(ms))
            case ["jump", name, ms]:
                world.jump(name, int(ms))
            case ["calls-fail", name, owner]:
                self._node(name).handle(owner, CallsFailed("the stream was reset"))
            case ["drain", name]:
                self._node(name).draining = True
            case ["stay", name]:
                self._node(name).draining = False
            case ["ask", name, tool]:
                process = self._node(name)
                found = world.offers.candidates(process, RecordKey(Kind.TOOL, f"srv/{tool}"))
                chosen = balance.choose(place(name), found, lambda below: 0)
                return [f"{name} asks for {tool} at {chosen.place.node if chosen else 'nobody'}"]
            case ["cut", a, b]:
                world.network.cut(a, b, world.now_ms)
            case ["part", a, b]:
                world.network.cut(a, b, world.now_ms)
                world.network.cut(b, a, world.now_ms)
            case ["heal"]:
                world.heal()
            case ["run", ms]:
                world.run_until(world.now_ms + int(ms))
            case ["show", name, owner]:
                view, pulse = self._node(name).peers[owner].view, self._node(name).peers[owner].pulse
                stale = "fresh" if view.stale_since_ms is None else "stale"
                listed = "listed" if view.listed else "not listed"
                tools = " ".join(sorted(k.id.split("/")[-1] for k in view.records)) or "nothing"
                return [f"{name} holds of {owner}: {tools} ({pulse.state}, {stale}, {listed})"]
            case _:
                raise ValueError(f"unknown command {command!r}")
        return []

    def _record(self, owner: str, tool: str) -> Record:
        name, _, text = tool.partition("=")
        return Record.of(Kind.TOOL, f"srv/{name}", {"owner": owner, "text": text})


def texts() -> list[Path]:
    return sorted((Path(__file__).parent / "scenarios").glob("*.txt"))
