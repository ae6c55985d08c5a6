"""The owner's half: what each subscriber is sent, frame by frame."""

from __future__ import annotations

import pytest

from federation import log as log_module
from federation.events import Alarm, SaveEpoch
from federation.log import EPOCH_LEAD_MS, RAISES_MAX, Log, Subscriber
from federation.refusals import Reason, reason_of
from proto.errors import Conflict, Invalid
from proto.frames import Beat, Delta, Down, Hello, Mode, Snapshot, Welcome
from proto.names import NodeId
from proto.records import NOTHING_KNOWN, Kind, Record, Version, manifest
from proto.versions import FEATURES, PROTOCOL_MAX, PROTOCOL_MIN, REFUSE

ME = NodeId.of("mesh.test", "eu", "a")
PEER = NodeId.of("mesh.test", "eu", "b")
INSTANCE = bytes(16)


def tool(name: str, text: str = "") -> Record:
    return Record.of(Kind.TOOL, f"srv/{name}", {"name": name, "description": text})


A, B, C = tool("a"), tool("b"), tool("c")


def make(*records: Record, loaded: bool = True) -> Log:
    log = Log(ME, "lab", 5, INSTANCE)
    log.publish(records, ())
    if loaded:
        log.set_loaded()
    return log


def drained(log: Log, sub: Subscriber) -> list[Down]:
    frames: list[Down] = []
    while (frame := log.pull(sub)) is not None:
        frames.append(frame)
    return frames


def subscribed(log: Log, known: Version = NOTHING_KNOWN, *held: Record) -> tuple[Subscriber, list[Down]]:
    sub = Subscriber(PEER)
    log.subscribe(sub, Hello("lab", known, manifest(held)), 0)
    return sub, drained(log, sub)


def test_one_that_knows_nothing_gets_a_welcome_and_a_snapshot() -> None:
    """Rule 1."""
    _, frames = subscribed(make(A, B))
    assert frames == [
        Welcome(5, INSTANCE, 2, Mode.SNAPSHOT, True, features=FEATURES),
        Snapshot(5, 2, manifest([A, B]), (A, B)),
    ]


def test_one_that_holds_bodies_of_an_older_epoch_gets_only_those_that_differ() -> None:
    """Rule 1."""
    newer = tool("a", "new")
    _, frames = subscribed(make(newer, B), Version(4, 9), A, B)
    assert isinstance(frames[1], Snapshot)
    assert (frames[1].all, frames[1].bodies) == (manifest([newer, B]), (newer,))


def test_one_that_is_behind_within_the_log_gets_each_changed_key_once_as_it_is_now() -> None:
    """Rule 1."""
    log = make(A, B)
    log.publish([tool("a", "1")], ())
    log.publish([tool("a", "2"), C], [B.key])
    _, frames = subscribed(log, Version(5, 2))
    assert frames[0] == Welcome(5, INSTANCE, 6, Mode.DELTA, True, features=FEATURES)
    assert frames[1:] == [Delta(5, 2, 6, (tool("a", "2"), C), (B.key,))]


def test_what_a_hello_says_is_held_counts_as_confirmed_until_a_snapshot_starts_anew() -> None:
    log = make(A, B)
    assert subscribed(log)[0].acked == 0
    sub, _ = subscribed(log, Version(log.epoch, 1))
    assert sub.acked == 1
    log.acknowledged(sub, 2)
    assert sub.acked == 2
    log.subscribe(sub, Hello("lab", Version(log.epoch - 1, 2)), 0)
    assert sub.acked == 0


def test_only_what_both_sides_have_is_used_on_a_stream() -> None:
    log = make(A)
    sub = Subscriber(ME)
    log.subscribe(sub, Hello("lab", features=frozenset({REFUSE, "of a newer build"}), protocol_max=9), 0)
    welcome = log.pull(sub)
    assert isinstance(welcome, Welcome)
    assert (welcome.features, welcome.protocol) == ({REFUSE}, PROTOCOL_MAX)
    log.subscribe(sub, Hello("lab", features=frozenset()), 0)
    assert sub.features == set()


@pytest.mark.parametrize(("low", "high"), [(PROTOCOL_MAX + 1, 99), (0, PROTOCOL_MIN - 1), (5, 1)])
def test_one_without_a_common_protocol_is_refused_with_both_ranges(low: int, high: int) -> None:
    with pytest.raises(Conflict, match=f"speaks {low} to {high}") as caught:
        make(A).subscribe(Subscriber(ME), Hello("lab", protocol_min=low, protocol_max=high), 0)
    assert reason_of(caught.value) is Reason.PROTOCOL


def test_equal_digests_are_no_change() -> None:
    log = make(A)
    assert log.publish([tool("a")], [B.key]) is False
    assert log.seq == 1


def test_changes_made_while_nobody_pulls_coalesce() -> None:
    log = make(A)
    sub, _ = subscribed(log)
    for i in range(100):
        log.publish([tool("a", str(i))], ())
    assert drained(log, sub) == [Delta(5, 1, 101, (tool("a", "99"),))]


def test_the_log_is_bounded_and_one_that_fell_behind_starts_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rule 7."""
    monkeypatch.setattr(log_module, "LOG_MIN", 3)
    log = make(A)
    sub, _ = subscribed(log)
    log.publish([tool(str(i)) for i in range(10)], ())
    log.publish((), [tool(str(i)).key for i in range(10)])
    assert len(log._changes) == 3
    welcome, snapshot = drained(log, sub)
    assert isinstance(welcome, Welcome)
    assert welcome.mode is Mode.SNAPSHOT
    assert snapshot == Snapshot(5, 21, manifest([A]), (A,))


def test_twice_the_tools_are_kept_where_that_is_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rule 7."""
    monkeypatch.setattr(log_module, "LOG_MIN", 3)
    log = make(*(tool(str(i)) for i in range(5)))
    assert log.depth_max == 10


def test_frames_are_bounded_in_records_names_and_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_module, "PART_RECORDS", 2)
    monkeypatch.setattr(log_module, "PART_NAMES", 2)
    log = make(*(tool(str(i)) for i in range(5)))
    sub, (_, *parts) = subscribed(log)
    assert [(len(p.all), len(p.bodies), p.last) for p in parts if isinstance(p, Snapshot)] == [
        (2, 2, False),
        (2, 2, False),
        (1, 1, True),
    ]
    log.publish([tool(str(i), "new") for i in range(5)], ())
    deltas = [d for d in drained(log, sub) if isinstance(d, Delta)]
    assert [(d.from_seq, d.to_seq, len(d.puts)) for d in deltas] == [(5, 7, 2), (7, 9, 2), (9, 10, 1)]
    monkeypatch.setattr(log_module, "PART_BYTES", 100)
    log.publish([tool(str(i), "x" * 90) for i in range(3)], ())
    assert len(drained(log, sub)) == 3


def test_a_change_during_a_snapshot_follows_as_a_delta(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_module, "PART_RECORDS", 1)
    log = make(A, B)
    sub = Subscriber(PEER)
    log.subscribe(sub, Hello("lab"), 0)
    assert isinstance(log.pull(sub), Welcome)
    assert log.pull(sub) == Snapshot(5, 2, manifest([A, B]), (A,), last=False)
    log.publish([tool("b", "new")], ())
    assert drained(log, sub) == [Snapshot(5, 2, {}, (B,), last=True), Delta(5, 2, 3, (tool("b", "new"),))]


def test_being_loaded_is_told_though_nothing_changed() -> None:
    log = make(A, loaded=False)
    sub, frames = subscribed(log)
    assert isinstance(frames[1], Snapshot)
    assert frames[1].loaded is False
    log.set_loaded()
    assert drained(log, sub) == [Delta(5, 1, 1, loaded=True)]
    assert drained(log, sub) == []


def test_a_peer_that_remembers_a_higher_epoch_makes_it_raise_its_own_and_everyone_start_again() -> None:
    """Rule 3."""
    log = make(A)
    early, _ = subscribed(log)
    late = Subscriber(PEER)
    save, alarm = log.subscribe(late, Hello("lab", Version(900, 3)), 1_000)
    assert save == SaveEpoch(log.epoch)
    assert isinstance(alarm, Alarm)
    assert log.epoch > 900
    for sub in (early, late):
        welcome, _ = drained(log, sub)
        assert isinstance(welcome, Welcome)
        assert (welcome.epoch, welcome.mode) == (log.epoch, Mode.SNAPSHOT)


def test_two_lives_that_lost_their_disks_do_not_raise_to_the_same_epoch() -> None:
    """Rules 3 and 4."""
    epochs = set()
    for instance in (b"abc" * 6, b"xyz" * 6):
        log = Log(ME, "lab", 5, instance)
        log.subscribe(Subscriber(PEER), Hello("lab", Version(900, 3)), 1_000)
        epochs.add(log.epoch)
    assert len(epochs) == 2


def test_its_epoch_is_raised_neither_far_beyond_its_clock_nor_again_and_again() -> None:
    """Rule 3, its bound."""
    log = make(A)
    (alarm,) = log.subscribe(Subscriber(PEER), Hello("lab", Version(EPOCH_LEAD_MS + 1_001, 1)), 1_000)
    assert isinstance(alarm, Alarm)
    assert (alarm.name, log.epoch) == ("epoch_lead", 5)
    for _ in range(RAISES_MAX):
        log.subscribe(Subscriber(PEER), Hello("lab", Version(log.epoch + 1, 1)), 1_000)
    (alarm,) = log.subscribe(Subscriber(PEER), Hello("lab", Version(log.epoch + 1, 1)), 1_000)
    assert isinstance(alarm, Alarm)
    assert alarm.name == "identity_contested"
    assert len(log.subscribe(Subscriber(PEER), Hello("lab", Version(log.epoch + 1, 1)), 3_700_000)) == 2


def test_another_mesh_or_protocol_is_refused_by_name() -> None:
    with pytest.raises(Conflict, match="belongs to mesh 'lab', not to 'prod'"):
        make().subscribe(Subscriber(PEER), Hello("prod"), 0)
    with pytest.raises(Conflict, match="speaks 7 to 9"):
        make().subscribe(Subscriber(PEER), Hello("lab", protocol_min=7, protocol_max=9), 0)


def test_a_record_that_cannot_be_ours_is_refused_before_anything_changes() -> None:
    log = make()
    with pytest.raises(Invalid, match="server name"):
        log.publish([A, Record.of(Kind.SERVER, "Bad_Name", {})], ())
    assert (log.seq, log.records) == (0, {})


def test_a_beat_that_waited_is_brought_up_to_what_was_sent_before_it() -> None:
    log = make(A)
    beat = log.beat(load=1, lag_ms=2, draining=True, wall_ms=3, hashed=True)
    assert (beat.seq, len(beat.view_hash)) == (1, 16)
    log.publish([B], ())
    assert log.current(beat) == Beat(2, 1, 2, True, b"", True, 3)


def test_subscribers_at_one_place_are_given_one_and_the_same_frame() -> None:
    log = make(A)
    subs = [Subscriber(PEER) for _ in range(3)]
    for sub in subs:
        log.subscribe(sub, Hello("lab"), 0)
        while log.pull(sub) is not None:
            pass
    log.publish([B], ())
    first, second = log.pull(subs[0]), log.pull(subs[1])
    assert first is second
    log.publish([], [B.key])
    behind = log.pull(subs[2])
    assert isinstance(behind, Delta)
    assert (behind.from_seq, behind.to_seq, behind.deletes) == (1, 3, (B.key,))
