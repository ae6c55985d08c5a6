"""The invariants of the federation, checked after every step of a simulated world."""

from __future__ import annotations

from typing import TYPE_CHECKING

from federation import view as view_module
from federation.events import Alarm, Effect, Liveness
from federation.liveness import SILENCE_MS
from federation.peer import CONTESTED
from federation.view import Phase
from proto.errors import Invalid
from proto.records import GOVERNANCE, NOTHING_KNOWN, Record, RecordKey, Version, manifest
from tests.simulation.calm import SETTLE_MS

if TYPE_CHECKING:
    from tests.simulation.process import Process
    from tests.simulation.world import World

SLACK_MS = 1_000
Manifest = dict[RecordKey, bytes]


class Violation(AssertionError):
    """An invariant does not hold."""


class Checks:
    """What was ever true, and whether what is held agrees with it."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.bad: set[tuple[RecordKey, bytes]] = set()
        self.governed = False
        """Whether anybody has published what only an authority may."""
        self.whole = True
        """Whether every frame brings a view to a version of its owner (false where one delta takes several)."""
        self._history: dict[tuple[str, bytes, int], Manifest] = {}
        self._minted: dict[str, set[tuple[RecordKey, bytes]]] = {}
        self._versions: dict[tuple[str, bytes, str], Version] = {}
        self._authentics: dict[str, dict[int, Record]] = {}

    # ---- what happens ---------------------------------------------------------------------------

    def published(self, owner: Process) -> None:
        """Called after every change of an owner's log: what it exports at this version."""
        good = {k: d for k, d in manifest(owner.log.records.values()).items() if (k, d) not in self.bad}
        self._history[owner.name, owner.log.instance, owner.log.seq] = good
        minted = self._minted.setdefault(owner.name, set())
        minted.update(good.items())
        for record in owner.log.records.values():
            if (record.key, record.digest) not in self.bad and record.data().get("owner") != owner.name:
                self._fail(f"{owner} exports {record!r}, which it has from elsewhere")

    def forgot(self, receiver: Process, owner: str) -> None:
        self._versions.pop((receiver.name, receiver.log.instance, owner), None)

    def crashed(self, process: Process) -> None:
        """What the disk holds at this moment is all that a successor will know."""
        for saved in process.disk.views():
            if saved.loaded and self.whole:
                expected = self._history.get((saved.owner.name, saved.instance, saved.version.seq))
                held = manifest(saved.records.values())
                self._same(f"the disk of {process} about {saved.owner}", held, _like(held, expected), saved.version)

    def restored(self, process: Process) -> None:
        """What a process begins with is what it, or its disk's former holder, once held: cursor and records agree."""
        for name, peer in process.peers.items():
            view = peer.view
            if view.loaded and self.whole:
                held = manifest(view.exact.values())
                expected = self._history.get((name, view.instance, view.version.seq))
                self._same(f"{process}'s restored view of {name}", held, _like(held, expected), view.version)

    def resynced(self, process: Process, message: str) -> None:
        """Only what was rejected, and forgotten in a restart, may make a view differ from what its owner says it is."""
        if not self.bad and not self.governed:
            self._fail(f"{process}: {message}")

    def became(self, process: Process, name: str, state: Liveness, cause: str) -> None:
        """Silence is the word of a node about another: its own freeze or lag must never be taken for it."""
        if state is Liveness.SUSPECT and "silent" in cause and self._quiet(process, name):
            self._fail(f"{process} suspects {name} falsely: {cause}")

    def raised(self, process: Process, name: str, effect: Effect) -> None:
        """Who restarts, moves, or loses its disk is no clone of itself."""
        contested = isinstance(effect, Alarm) and effect.name == CONTESTED
        if contested and name not in self._world.cloned:
            self._fail(f"{process} takes {name}, which was never cloned, for two")

    # ---- after each step ------------------------------------------------------------------------

    def after_step(self, process: Process, name: str) -> None:
        """What `process` holds of `name`, to which something has just happened."""
        if not process.alive:
            return
        view, pulse = process.peers[name].view, process.peers[name].pulse
        where = f"{process}'s view of {name}"
        self._epoch(process, name, view.version, where)
        held, exact = view.records, view.exact
        self._authentic(name, held, where)
        if process.heard[name] != held:
            self._fail(f"{where}: the listener was told {process.heard[name]}, it holds {held}")
        if view.loaded and held != exact:
            self._fail(f"{where}: its owner is loaded, and old records are still held")
        governing = [key for key in held if key.kind in GOVERNANCE] if self.governed else []
        if governing and process.authority.get(name) is False:
            self._fail(f"{where}: {name} holds no authority, and governs by {governing}")
        if view.loaded and self.whole:
            expected, said = self._history.get((name, view.instance, view.version.seq)), manifest(exact.values())
            authority = process.authority.get(name)
            if authority is False or (authority and view.phase is Phase.LIVE):
                expected = _ruled(expected, authority=authority)
            else:
                # Restored, or the role has come and what goes with it is on its way.
                expected = _like(said, expected)
            self._same(where, said, expected, view.version)
        self._drained(process, name, where)
        if (process.told[name], process.listed[name]) != (pulse.state, view.listed):
            self._fail(f"{where}: its listener believes {process.told[name]}, it is {pulse.state}")
        if pulse.state is Liveness.LEFT and held:
            self._fail(f"{where}: it left, and {len(held)} records stayed")
        self._fortune(process, name)

    def _drained(self, process: Process, name: str, where: str) -> None:
        """Nothing is on its way and nothing left to send: then it stands where its owner stands."""
        stream, view = process.streams.get(name), process.peers[name].view
        if stream is None or not stream.open or view.phase is not Phase.LIVE or stream.in_flight:
            return
        log, sub = stream.owner.log, stream.sub
        if sub.cursor == log.seq and sub.epoch == log.epoch and sub._welcome is None and sub._parts is None:
            if stream.held[False] or stream.held[True]:
                return
            if view.version != (log.epoch, log.seq):
                self._fail(f"{where} stands at {view.version}, all was sent up to {log.epoch}.{log.seq}")

    def _quiet(self, process: Process, name: str) -> bool:
        """Nothing has disturbed `name`, or come between the two, for so long that `process` must have heard it."""
        world = self._world
        since_ms = world.calm.between_since_ms(process.name, name)
        linked = world.network.sound(process.name, name) and process.awake_ms(since_ms) >= SETTLE_MS
        return linked and self._sound(name, process)

    def _sound(self, name: str, seen_by: Process) -> bool:
        """One process, never cloned, and undisturbed for long enough while `seen_by` was awake."""
        world = self._world
        alone = len(world.processes[name]) == 1 and name not in world.cloned
        return alone and seen_by.awake_ms(world.calm.since_ms(name)) >= SETTLE_MS

    def _epoch(self, process: Process, name: str, version: Version, where: str) -> None:
        key = (process.name, process.log.instance, name)
        before = self._versions.get(key, NOTHING_KNOWN)
        if version.epoch < before.epoch and version != NOTHING_KNOWN:
            self._fail(f"{where}: its epoch fell from {before.epoch} to {version.epoch}")
        self._versions[key] = version

    def _authentic(self, owner: str, held: dict[RecordKey, Record], where: str) -> None:
        # By the object itself: what was authentic once stays so, and most of what is held was seen before.
        seen = self._authentics.setdefault(owner, {})
        for key, record in held.items():
            if seen.get(id(record)) is record:
                continue
            if record.key != key or (key, record.digest) not in self._minted.get(owner, ()):
                self._fail(f"{where} holds {record!r}, which {owner} never made")
            try:
                record.verify()
            except Invalid as e:
                self._fail(f"{where}: {e.message}")
            seen[id(record)] = record

    def after_tick(self, process: Process, name: str) -> None:
        """What time alone may have made wrong, and a tick must have set right."""
        view, now = process.peers[name].view, self._world.now_ms
        if view.stale_since_ms is not None:
            stale, where = now - view.stale_since_ms, f"{process}'s view of {name}"
            if view.listed and now - view._grace_from_ms > view_module.GRACE_MS + SLACK_MS:
                self._fail(f"{where} has been stale for {stale} ms and is still listed")
            if stale > view_module.KEEP_MS + SLACK_MS and view.phase is Phase.IDLE and view.size:
                self._fail(f"{where} has been stale for {stale} ms and is still kept")
        self._fortune(process, name)

    def _fortune(self, process: Process, name: str) -> None:
        peer, now = process.peers[name], self._world.now_ms
        view, pulse = peer.view, peer.pulse
        where = f"{process}'s view of {name}"
        # Before its next tick a process that was late could not know.
        on_time = process.ticks > 0 and process.rhythm.planned_ms + SLACK_MS >= now
        alive = pulse.state in (Liveness.ALIVE, Liveness.DRAINING)
        if view.stale_since_ms is None:
            if not view.listed:
                self._fail(f"{where} is fresh and not listed")
        elif view.phase is Phase.IDLE and alive:
            self._fail(f"{where}: it counts as alive without a stream")
        if not alive and self._quiet(process, name) and self._sound(process.name, process):
            self._fail(f"{where}: nothing has disturbed either, and it is {pulse!r}")
        if alive and on_time and pulse.silence_ms(now) > SILENCE_MS + SLACK_MS:
            self._fail(f"{where}: it counts as alive after {pulse.silence_ms(now)} ms of silence")

    def _same(self, where: str, held: Manifest, expected: Manifest | None, version: Version) -> None:
        if expected is None:
            self._fail(f"{where} stands at {version.epoch}.{version.seq}, where its owner never was")
        elif held != expected:
            missing, extra = expected.keys() - held.keys(), held.keys() - expected.keys()
            other = [k.id for k in held.keys() & expected.keys() if held[k] != expected[k]]
            self._fail(
                f"{where} at {version.epoch}.{version.seq} is not what its owner had: "
                f"missing {sorted(k.id for k in missing)}, extra {sorted(k.id for k in extra)}, other {sorted(other)}"
            )

    # ---- at rest --------------------------------------------------------------------------------

    def at_rest(self) -> None:
        """Healed and left alone for a while: everybody holds everybody exactly, and counts them alive."""
        world = self._world
        for process in world.running():
            for owner in world.running():
                if owner is process:
                    continue
                peer = process.peers[owner.name]
                where = f"{process}'s view of {owner.name}, at rest,"
                exported = {k: d for k, d in manifest(owner.log.records.values()).items() if (k, d) not in self.bad}
                ruled = _ruled(exported, authority=owner.name in world.roles)
                self._same(where, manifest(peer.view.records.values()), ruled, peer.view.version)
                if peer.pulse.state is not Liveness.ALIVE:
                    self._fail(f"{where} is {peer.pulse!r}")
                if not peer.view.loaded or not peer.view.listed:
                    self._fail(f"{where} is not loaded or not listed: {peer.view!r}")

    def _fail(self, message: str) -> None:
        raise Violation(message)


def _ruled(expected: Manifest | None, *, authority: bool) -> Manifest | None:
    """What is to be held of an owner with, or without, the role."""
    if expected is None or authority:
        return expected
    return {key: digest for key, digest in expected.items() if key.kind not in GOVERNANCE}


def _like(held: Manifest, expected: Manifest | None) -> Manifest | None:
    """What is to be held by whoever may or may not have seen the role: all that governs, or nothing of it."""
    return _ruled(expected, authority=any(key.kind in GOVERNANCE for key in held))
