"""The simulation finds nothing in the cores, and finds each fault that is planted in them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from federation import view as view_module
from federation.assembly import Assembly
from federation.bearers import Bearers
from federation.dedupe import Repeats
from federation.events import Effects, Event, Liveness, Opened, Received, Save
from federation.liveness import Pulse
from federation.log import Log, Subscriber
from federation.memory import MemoryViewStore
from federation.peer import Peer
from federation.ports import SavedView
from federation.view import View
from node import balance
from proto.frames import Delta, Down, Farewell, Snapshot, Welcome
from proto.names import NodeId
from proto.records import Version
from tests.simulation import batches, calling, chaos
from tests.simulation import process as process_module
from tests.simulation.chaos import Failure, run
from tests.simulation.process import Process
from tests.simulation.world import World

SEEDS = 100
MUTANT_SEEDS = 150
"""At most; each fault is found within a few, a clone that is believed after some dozens."""


@pytest.mark.parametrize("first", range(0, SEEDS, 25))
def test_no_seed_violates_an_invariant(first: int) -> None:
    for seed in range(first, first + 25):
        run(seed)


def regressions() -> list[int]:
    lines = (Path(__file__).parent / "regressions.txt").read_text("utf-8").splitlines()
    return [int(line.split()[0]) for line in lines if line and not line.startswith("#")]


@pytest.mark.parametrize("seed", regressions())
def test_what_a_seed_once_found_stays_mended(seed: int) -> None:
    run(seed)


def test_a_seed_replays_exactly() -> None:
    one, two = run(7), run(7)
    assert (one.steps, list(one.transcript)) == (two.steps, list(two.transcript))


def test_a_seed_that_fails_hides_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(seed: int) -> World:
        if seed % 2:
            raise Failure(f"seed {seed}")
        return run(seed)

    monkeypatch.setattr(batches, "run", broken)
    (outcome,) = batches.outcomes(range(1, 5), jobs=1)
    assert (outcome.seeds, outcome.failures) == (2, ("seed 1", "seed 3"))


def test_the_world_is_rich_enough_to_clone_raise_epochs_and_resync() -> None:
    alarms: set[str] = set()
    for seed in range(30):
        alarms |= run(seed).alarms.keys()
    assert {"clone", "epoch_raised", "identity_contested", "resync"} <= alarms


# ---- planted faults: each check has one that only it can be relied on to catch -------------------


def merges_snapshots(patch: pytest.MonkeyPatch) -> None:
    complete = View._complete

    def merging(self: View, assembly: Assembly, s: Snapshot, now_ms: int) -> Effects:
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


def takes_a_restart_for_a_clone(patch: pytest.MonkeyPatch) -> None:
    heard = Bearers.heard

    def hasty(self: Bearers, instance: bytes, address: str, now_ms: int) -> bytes:
        before = self._met.keys() - {instance}
        heard(self, instance, address, now_ms)
        return instance if before else b""

    patch.setattr(Bearers, "heard", hasty)
    patch.setattr(chaos, "_DEEDS", [(weight, deed) for weight, deed in chaos._DEEDS if deed is not chaos.clone])


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
            return [*effects, *self.pulse._become(Liveness.ALIVE, "", now_ms)]
        return effects

    patch.setattr(Peer, "_beat", lenient)


def suspects_others_for_its_own_lag(patch: pytest.MonkeyPatch) -> None:
    tick = Pulse._tick
    patch.setattr(Pulse, "_tick", lambda self, lag_ms, now_ms: tick(self, 0, now_ms))


def suspects_whoever_calls_fail_at(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Pulse, "_calls_failed", lambda self, cause, now_ms: self._suspect(cause, now_ms))
    patch.setattr(Process, "hears", lambda *_: False)


def never_dials_a_suspect_again(patch: pytest.MonkeyPatch) -> None:
    tick = Process.tick

    def resigned(self: Process) -> None:
        for name, peer in self.peers.items():
            if peer.pulse.state in (Liveness.DOWN, Liveness.UNREACHABLE):
                self.dial_ms[name] = self.world.now_ms + 10_000
        tick(self)

    patch.setattr(Process, "tick", resigned)


def lets_anybody_govern(patch: pytest.MonkeyPatch) -> None:
    handle = View.handle

    def lax(self: View, event: Event, now_ms: int) -> Effects:
        return handle(self, Opened(authority=True) if isinstance(event, Opened) else event, now_ms)

    patch.setattr(View, "handle", lax)


def keeps_what_governs_without_the_role(patch: pytest.MonkeyPatch) -> None:
    opened = View._opened
    patch.setattr(View, "_opened", lambda self, authority: opened(self, authority or self._governed))


def never_fetches_what_the_role_brings(patch: pytest.MonkeyPatch) -> None:
    greet = View._greet

    def content(self: View) -> Effects:
        self._afresh = False
        return greet(self)

    patch.setattr(View, "_greet", content)
    patch.setattr(process_module, "HASH_BEATS", 10**9)


def offers_what_the_suspect_own(patch: pytest.MonkeyPatch) -> None:
    eligible = balance._eligible

    def trusting(here: balance.Place, candidates: Sequence[balance.Candidate]) -> list[balance.Candidate]:
        return eligible(here, [c._replace(alive=True) for c in candidates])

    patch.setattr(balance, "_eligible", trusting)


def sends_new_work_to_those_that_drain(patch: pytest.MonkeyPatch) -> None:
    eligible = balance._eligible

    def careless(here: balance.Place, candidates: Sequence[balance.Candidate]) -> list[balance.Candidate]:
        return eligible(here, [c._replace(draining=False) for c in candidates])

    patch.setattr(balance, "_eligible", careless)


def prefers_others_to_itself(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(balance, "tier", lambda here, there: balance.Tier.FAR if here == there else balance.Tier.NODE)


def tells_nobody_how_peers_fare(patch: pytest.MonkeyPatch) -> None:
    become = Pulse._become

    def mute(self: Pulse, state: Liveness, cause: str, now_ms: int) -> Effects:
        told = become(self, state, cause, now_ms)
        return [] if state is Liveness.SUSPECT else told

    patch.setattr(Pulse, "_become", mute)


def forgets_what_it_refused(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Repeats, "refuse", lambda *_: None)


def forgets_what_it_runs(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Repeats, "running", lambda *_: None)
    patch.setattr(Repeats, "finish", lambda *_: None)


def forgets_what_it_ran(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Repeats, "past", lambda *_: None)


def does_not_admit_that_it_forgot(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Repeats, "forgetful", False)
    patch.setattr(calling, "BOOK_MAX", 1)


def restores_half_of_a_view(patch: pytest.MonkeyPatch) -> None:
    views = MemoryViewStore.views

    def half(self: MemoryViewStore) -> Sequence[SavedView]:
        return [replace(v, records=dict(list(v.records.items())[1:])) for v in views(self)]

    patch.setattr(MemoryViewStore, "views", half)


def lists_the_stale_for_good(patch: pytest.MonkeyPatch) -> None:
    tick = View._tick

    def patient(self: View, now_ms: int) -> Effects:
        since, self._grace_from_ms = self._grace_from_ms, now_ms
        effects = tick(self, now_ms)
        self._grace_from_ms = since
        return effects

    patch.setattr(View, "_tick", patient)


def keeps_the_stale_for_good(patch: pytest.MonkeyPatch) -> None:
    tick = View._tick

    def hoarding(self: View, now_ms: int) -> Effects:
        since, self.stale_since_ms = self.stale_since_ms, None if self.stale_since_ms is None else now_ms
        effects = tick(self, now_ms)
        self.stale_since_ms = since
        return effects

    patch.setattr(View, "_tick", hoarding)


def loses_a_frame(patch: pytest.MonkeyPatch) -> None:
    pull = Log.pull

    def lossy(self: Log, sub: Subscriber) -> Down | None:
        frame = pull(self, sub)
        return None if isinstance(frame, Delta) and frame.to_seq % 3 == 0 else frame

    patch.setattr(Log, "pull", lossy)


MUTANTS: list[tuple[Callable[[pytest.MonkeyPatch], None], str]] = [
    (merges_snapshots, "is not what its owner had|never made|sent no body|differs"),
    (ignores_epochs, "epoch fell|at 0.0 is not what"),
    (accepts_clones, "is not what its owner had|never was|differs"),
    (takes_a_restart_for_a_clone, "which was never cloned"),
    (saves_the_cursor_apart_from_the_view, "the disk of"),
    (skips_a_change, "is not what its owner had|differs"),
    (applies_any_delta, "is not what its owner had|differs|all was sent up to"),
    (admits_unverified_records, "never made|digest does not match|holds no authority"),
    (keeps_old_records_of_a_loaded_owner, "old records are still held"),
    (keeps_the_view_of_one_that_left, "it left, and"),
    (believes_the_silent, "counts as alive|at rest"),
    (exports_what_it_imported, "which it has from elsewhere"),
    (files_records_under_another_owner, "never made|never was|is not what"),
    (tells_the_listener_nothing_of_deletes, "the listener was told"),
    (calls_the_refused_alive, "counts as alive"),
    (suspects_others_for_its_own_lag, "suspects . falsely"),
    (suspects_whoever_calls_fail_at, "nothing has disturbed"),
    (never_dials_a_suspect_again, "nothing has disturbed|at rest"),
    (lets_anybody_govern, "holds no authority, and governs"),
    (keeps_what_governs_without_the_role, "holds no authority, and governs"),
    (never_fetches_what_the_role_brings, "is not what its owner had"),
    (offers_what_the_suspect_own, "offers .* which is (suspect|down|unreachable|left)"),
    (sends_new_work_to_those_that_drain, "which drains"),
    (prefers_others_to_itself, "does not serve its own"),
    (tells_nobody_how_peers_fare, "its listener believes"),
    (forgets_what_it_refused, "had said that it never would|after it had run"),
    (forgets_what_it_runs, "after it had run"),
    (forgets_what_it_ran, "after it had run|had said that it never would"),
    (does_not_admit_that_it_forgot, "after it had run|had said that it never would"),
    (restores_half_of_a_view, "restored view|the disk of"),
    (lists_the_stale_for_good, "still listed"),
    (keeps_the_stale_for_good, "still kept"),
    (loses_a_frame, "all was sent up to|do not follow"),
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
