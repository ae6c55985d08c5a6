"""The simulation finds nothing in the cores, and finds each fault that is planted in them."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from federation import view as view_module
from federation.events import Effects, Liveness, Received, Save
from federation.liveness import Pulse
from federation.log import Log, Subscriber
from federation.peer import Peer
from federation.view import View
from proto.frames import Delta, Down, Farewell, Snapshot, Welcome
from proto.names import NodeId
from proto.records import Version
from tests.simulation.chaos import Failure, run
from tests.simulation.process import Process

SEEDS = 100
MUTANT_SEEDS = 40


@pytest.mark.parametrize("first", range(0, SEEDS, 25))
def test_no_seed_violates_an_invariant(first: int) -> None:
    for seed in range(first, first + 25):
        run(seed)


def test_a_seed_replays_exactly() -> None:
    one, two = run(7), run(7)
    assert (one.steps, list(one.transcript)) == (two.steps, list(two.transcript))


def test_the_world_is_rich_enough_to_clone_raise_epochs_and_resync() -> None:
    alarms: set[str] = set()
    for seed in range(30):
        alarms |= run(seed).alarms.keys()
    assert {"clone", "epoch_raised", "resync"} <= alarms


# ---- planted faults: each check has one that only it can be relied on to catch -------------------


def merges_snapshots(patch: pytest.MonkeyPatch) -> None:
    complete = View._complete

    def merging(self: View, assembly: view_module._Assembly, s: Snapshot, now_ms: int) -> Effects:
        for key, record in self.records.items():
            assembly.all.setdefault(key, record.digest)
        return complete(self, assembly, s, now_ms)

    patch.setattr(View, "_complete", merging)


def ignores_epochs(patch: pytest.MonkeyPatch) -> None:
    welcome = View._welcome

    def forgetful(self: View, w: Welcome, now_ms: int) -> Effects:
        if w.epoch < self.version.epoch:
            self.version = Version(0, 0)
        return welcome(self, w, now_ms)

    patch.setattr(View, "_welcome", forgetful)
    patch.setattr(Log, "_catch_up", lambda *_: [])


def accepts_clones(patch: pytest.MonkeyPatch) -> None:
    welcome = View._welcome

    def trusting(self: View, w: Welcome, now_ms: int) -> Effects:
        if w.epoch == self.version.epoch:
            self.instance = w.instance
        return welcome(self, w, now_ms)

    patch.setattr(View, "_welcome", trusting)


def saves_the_cursor_apart_from_the_view(patch: pytest.MonkeyPatch) -> None:
    save = Process.save

    def torn(self: Process, owner: NodeId, change: Save) -> None:
        self.disk.save({owner: Save(change.version, change.instance, change.loaded)}, 0)
        save(self, owner, change)

    patch.setattr(Process, "save", torn)


def skips_a_change(patch: pytest.MonkeyPatch) -> None:
    delta = Log._delta

    def careless(self: Log, sub: Subscriber) -> Delta:
        made = delta(self, sub)
        return Delta(made.epoch, made.from_seq, made.to_seq, made.puts[1:], made.deletes, loaded=made.loaded)

    patch.setattr(Log, "_delta", careless)


def applies_any_delta(patch: pytest.MonkeyPatch) -> None:
    delta = View._delta

    def eager(self: View, d: Delta, now_ms: int) -> Effects:
        from_seq = self.version.seq
        return delta(self, Delta(self.version.epoch, from_seq, d.to_seq, d.puts, d.deletes, d.loaded), now_ms)

    patch.setattr(View, "_delta", eager)
    pull = Log.pull

    def forgets_some(self: Log, sub: Subscriber) -> Down | None:
        frame = pull(self, sub)
        if isinstance(frame, Delta) and frame.to_seq % 5 == 0:
            frame = pull(self, sub)
        return frame

    patch.setattr(Log, "pull", forgets_some)


def admits_unverified_records(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(view_module, "check_record", lambda *_, **__: None)


def keeps_old_records_of_a_loaded_owner(patch: pytest.MonkeyPatch) -> None:
    def unsettled(self: View) -> set[object]:
        self.loaded = True
        return set()

    patch.setattr(View, "_settle", unsettled)


def keeps_the_view_of_one_that_left(patch: pytest.MonkeyPatch) -> None:
    bye = View._bye

    def sentimental(self: View, reason: Farewell, now_ms: int) -> Effects:
        return bye(self, Farewell.RESTART, now_ms)

    patch.setattr(View, "_bye", sentimental)


def believes_the_silent(patch: pytest.MonkeyPatch) -> None:
    tick = Pulse._tick
    patch.setattr(Pulse, "_tick", lambda self, lag_ms, now_ms: tick(self, lag_ms, self.heard_ms))


def exports_what_it_imported(patch: pytest.MonkeyPatch) -> None:
    received = Process.received

    def relays(self: Process, stream: object, frame: Down) -> None:
        received(self, stream, frame)  # type: ignore[arg-type]
        if isinstance(frame, Delta) and frame.puts:
            self.publish([r for r in frame.puts if r.id.endswith("1")], [])

    patch.setattr(Process, "received", relays)


def files_records_under_another_owner(patch: pytest.MonkeyPatch) -> None:
    def astray(self: Process, stream: object, frame: Down) -> None:
        name = stream.owner.name  # type: ignore[attr-defined]
        if self.streams.get(name) is stream:
            self.handle(min(self.streams), Received(frame))

    patch.setattr(Process, "received", astray)


def tells_the_listener_nothing_of_deletes(patch: pytest.MonkeyPatch) -> None:
    changed = View._changed

    def silent(self: View, puts: dict[object, object], gone: set[object]) -> Effects:
        return changed(self, puts, set())  # type: ignore[arg-type]

    patch.setattr(View, "_changed", silent)


def calls_the_refused_alive(patch: pytest.MonkeyPatch) -> None:
    beat = Peer._beat

    def lenient(self: Peer, event: object, now_ms: int) -> Effects:
        effects = beat(self, event, now_ms)  # type: ignore[arg-type]
        if not isinstance(event, Received) and self.view.phase is view_module.Phase.IDLE:
            self.pulse.state = Liveness.ALIVE
        return effects

    patch.setattr(Peer, "_beat", lenient)


MUTANTS: list[tuple[Callable[[pytest.MonkeyPatch], None], str]] = [
    (merges_snapshots, "is not what its owner had|never made|sent no body"),
    (ignores_epochs, "epoch fell"),
    (accepts_clones, "is not what its owner had|never was|differs"),
    (saves_the_cursor_apart_from_the_view, "the disk of"),
    (skips_a_change, "is not what its owner had|differs"),
    (applies_any_delta, "is not what its owner had|differs"),
    (admits_unverified_records, "never made|digest does not match"),
    (keeps_old_records_of_a_loaded_owner, "old records are still held"),
    (keeps_the_view_of_one_that_left, "it left, and"),
    (believes_the_silent, "counts as alive|at rest"),
    (exports_what_it_imported, "which it has from elsewhere"),
    (files_records_under_another_owner, "never made|never was|is not what"),
    (tells_the_listener_nothing_of_deletes, "the listener was told"),
    (calls_the_refused_alive, "counts as alive"),
]


@pytest.mark.parametrize(("mutant", "message"), MUTANTS, ids=lambda m: getattr(m, "__name__", ""))
def test_a_planted_fault_is_caught(
    mutant: Callable[[pytest.MonkeyPatch], None], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    mutant(monkeypatch)
    with pytest.raises(Failure, match=rf"^seed .*({message})"):
        _run_all(MUTANT_SEEDS)


def _run_all(seeds: int) -> None:
    for seed in range(seeds):
        run(seed)
