"""The receiver's half: events in, exactly these effects out."""

from __future__ import annotations

from dataclasses import replace

from federation.admission import view_hash
from federation.events import (
    Alarm,
    Broken,
    Changed,
    Close,
    Effects,
    Forget,
    Governs,
    Listed,
    Opened,
    Received,
    Save,
    Send,
    Tick,
)
from federation.view import GRACE_MS, KEEP_MS, LOADING_MS, Phase, View
from proto.frames import Ack, Beat, Bye, Delta, Down, Farewell, Hello, Mode, Reject, Snapshot, Welcome
from proto.names import NodeId
from proto.records import Kind, Record, RecordKey, Version, manifest

OWNER = NodeId.of("mesh.test", "eu", "a")
ONE, TWO = b"1" * 16, b"2" * 16


def tool(name: str, text: str = "") -> Record:
    return Record.of(Kind.TOOL, f"srv/{name}", {"name": name, "description": text})


A, B, C = tool("a"), tool("b"), tool("c")


def view() -> View:
    return View(OWNER, "lab")


def feed(v: View, *frames: Down, now_ms: int = 0) -> Effects:
    return [e for f in frames for e in v.handle(Received(f), now_ms)]


def welcome(epoch: int = 5, *, mode: Mode = Mode.SNAPSHOT, instance: bytes = ONE, seq: int = 2) -> Welcome:
    return Welcome(epoch, instance, seq, mode, loaded=True)


def snapshot(*records: Record, epoch: int = 5, seq: int = 2, loaded: bool = True) -> Snapshot:
    return Snapshot(epoch, seq, manifest(records), records, last=True, loaded=loaded)


def live(*records: Record) -> View:
    v = view()
    v.handle(Opened(), 0)
    feed(v, welcome(), snapshot(*records))
    return v


def ids(v: View) -> set[str]:
    return {k.id for k in v.records}


def test_the_first_hello_knows_nothing_and_a_snapshot_becomes_the_view_when_its_last_part_arrives() -> None:
    """Rule 1."""
    v = view()
    assert v.handle(Opened(), 0) == [Send(Hello("lab"))]
    assert feed(v, welcome(), Snapshot(5, 2, manifest([A]), (A,), last=False)) == []
    assert v.records == {}
    effects = feed(v, Snapshot(5, 2, manifest([B]), (B,), last=True))
    both = {A.key: A, B.key: B}
    assert effects == [Save(Version(5, 2), ONE, True, both), Changed((A, B), ()), Send(Ack(2))]
    assert (v.records, v.phase, v.version) == (both, Phase.LIVE, Version(5, 2))


def test_a_delta_applies_on_exactly_its_version() -> None:
    """Rule 2."""
    v = live(A, B)
    newer = tool("a", "new")
    assert feed(v, Delta(5, 2, 4, (newer,), (B.key,))) == [
        Save(Version(5, 4), ONE, True, {newer.key: newer}, frozenset({B.key})),
        Changed((newer,), (B.key,)),
        Send(Ack(4)),
    ]


def test_a_delta_that_does_not_follow_makes_it_ask_for_everything_and_ignore_what_was_under_way() -> None:
    """Rule 2."""
    v = live(A)
    alarm, hello = feed(v, Delta(5, 3, 4, (B,)))
    assert isinstance(alarm, Alarm)
    assert hello == Send(Hello("lab", Version(5, 0), manifest([A])))
    assert feed(v, Delta(5, 2, 3, (C,)), Beat(9)) == []
    assert ids(v) == {"srv/a"}


def test_a_reconnect_says_what_is_held_and_a_delta_welcome_makes_it_live_at_once() -> None:
    """Rule 1."""
    v = live(A, B)
    v.handle(Broken("reset"), 10)
    assert v.handle(Opened(), 20) == [Send(Hello("lab", Version(5, 2), manifest([A, B])))]
    assert feed(v, welcome(mode=Mode.DELTA)) == []
    assert v.phase is Phase.LIVE
    assert v.stale_since_ms is None


def test_a_snapshot_sends_no_body_for_what_is_held_and_drops_what_it_does_not_name() -> None:
    """Rule 1."""
    v = live(A, B)
    v.handle(Broken("crash"), 10)
    v.handle(Opened(), 20)
    effects = feed(v, welcome(6, instance=TWO), Snapshot(6, 3, manifest([A, C]), (C,)))
    assert Changed((C,), (B.key,)) in effects
    assert ids(v) == {"srv/a", "srv/c"}


def test_a_lower_epoch_is_refused_and_the_view_stays() -> None:
    """Rule 3."""
    v = live(A)
    v.handle(Broken("crash"), 10)
    v.handle(Opened(), 20)
    alarm, close = feed(v, welcome(4, instance=TWO))
    assert isinstance(alarm, Alarm)
    assert alarm.name == "old_epoch"
    assert isinstance(close, Close)
    assert (v.version, ids(v)) == (Version(5, 2), {"srv/a"})


def test_one_epoch_with_two_instances_is_a_clone_and_both_are_refused_until_a_higher_epoch() -> None:
    """Rule 4."""
    v = live(A)
    for instance in (TWO, ONE):
        v.handle(Broken("x"), 10)
        v.handle(Opened(), 20)
        alarm, _ = feed(v, welcome(mode=Mode.DELTA, instance=instance))
        assert isinstance(alarm, Alarm)
        assert alarm.name == "clone"
    v.handle(Opened(), 30)
    feed(v, welcome(6, instance=TWO), snapshot(B, epoch=6))
    assert ids(v) == {"srv/b"}


def test_an_owner_that_still_loads_keeps_its_old_records_until_it_is_loaded() -> None:
    """Rule 5."""
    v = live(A, B)
    v.handle(Broken("restart"), 10)
    v.handle(Opened(), 20)
    feed(v, welcome(6, instance=TWO), snapshot(A, epoch=6, seq=1, loaded=False))
    assert ids(v) == {"srv/a", "srv/b"}
    assert feed(v, Delta(6, 1, 1, loaded=True)) == [
        Save(Version(6, 1), TWO, True, {}, frozenset({B.key})),
        Changed((), (B.key,)),
        Send(Ack(1)),
    ]


def test_an_owner_that_never_says_it_is_loaded_loses_its_old_records_after_a_bound() -> None:
    """Rule 5."""
    v = live(A, B)
    v.handle(Broken("restart"), 10)
    v.handle(Opened(), 20)
    feed(v, welcome(6, instance=TWO), snapshot(A, epoch=6, seq=1, loaded=False), now_ms=20)
    assert v.handle(Tick(), 19 + LOADING_MS) == []
    assert Changed((), (B.key,)) in v.handle(Tick(), 20 + LOADING_MS)
    assert ids(v) == {"srv/a"}


def test_a_view_saved_while_its_owner_loaded_asks_for_a_snapshot_on_its_return() -> None:
    v = View.restored(
        OWNER, "lab", version=Version(6, 1), instance=TWO, loaded=False, records=[A, B], age_ms=5, now_ms=100
    )
    assert v.handle(Opened(), 100) == [Send(Hello("lab", Version(6, 0), manifest([A, B])))]
    feed(v, welcome(6, instance=TWO), Snapshot(6, 4, manifest([A]), ()))
    assert ids(v) == {"srv/a"}


def test_a_bad_record_is_rejected_alone_and_its_older_definition_goes() -> None:
    """Rule 6."""
    v = live(A, B)
    forged = Record(Kind.TOOL, A.id, b"\1" * 32, A.body)
    effects = feed(v, Delta(5, 2, 4, (forged, C)))
    assert Changed((C,), (A.key,)) in effects
    assert [e.frame.key for e in effects if isinstance(e, Send) and isinstance(e.frame, Reject)] == [A.key]
    assert "does not match" in v.rejected[A.key][1]
    feed(v, Delta(5, 4, 5, (A,)))
    assert (ids(v), v.rejected) == ({"srv/a", "srv/b", "srv/c"}, {})


def test_governance_and_facts_about_others_are_rejected_from_an_ordinary_node() -> None:
    policy = Record.of(Kind.POLICY, "p", {"deny": "all"})
    other = Record.of(Kind.NODE, "b", {"name": "b"})
    nameless = Record.of(Kind.TOOL, "Bad_Server/x", {"name": "x"})
    v = live(policy, other, nameless, A)
    assert ids(v) == {"srv/a"}
    assert len(v.rejected) == 3


def test_a_view_hash_that_differs_asks_for_everything_once_a_minute() -> None:
    """Rule 8."""
    v = live(A, B)
    assert feed(v, Beat(2, view_hash=view_hash(manifest([B, A])))) == []
    _, hello = feed(v, Beat(2, view_hash=b"x" * 16))
    assert isinstance(hello, Send)
    feed(v, welcome(), snapshot(A, B))
    alarm, close = feed(v, Beat(2, view_hash=b"x" * 16), now_ms=59_000)
    assert isinstance(alarm, Alarm)
    assert isinstance(close, Close)
    assert close.refusal == alarm.name == "resync"


def test_a_resync_that_was_cut_short_is_asked_for_again() -> None:
    """Rule 8."""
    v = live(A)
    feed(v, Beat(2, view_hash=b"x" * 16))
    v.handle(Broken("reset"), 10)
    assert v.handle(Opened(), 20) == [Send(Hello("lab", Version(5, 0), manifest([A])))]
    feed(v, welcome(), snapshot(A))
    v.handle(Broken("reset"), 30)
    assert v.handle(Opened(), 40) == [Send(Hello("lab", Version(5, 2), manifest([A])))]


def test_the_hash_counts_rejected_records_so_that_they_cause_no_resync() -> None:
    """Rules 6 and 8."""
    forged = Record(Kind.TOOL, A.id, b"\1" * 32, A.body)
    v = live(forged, B)
    assert feed(v, Beat(2, view_hash=view_hash(manifest([forged, B])))) == []


def test_a_beat_ahead_of_the_view_shows_its_lag() -> None:
    v = live(A)
    assert feed(v, Beat(7)) == []
    assert v.lag_seq == 5


def test_a_stale_view_leaves_the_listings_after_the_grace_and_is_deleted_after_a_day() -> None:
    """Rule 9."""
    v = live(A)
    assert v.handle(Broken("reset"), 1_000) == []
    assert v.handle(Tick(), 999 + GRACE_MS) == []
    assert v.handle(Tick(), 1_000 + GRACE_MS) == [Listed(False)]
    assert v.handle(Tick(), 999 + KEEP_MS) == []
    assert v.handle(Tick(), 1_000 + KEEP_MS) == [Changed((), (A.key,)), Forget()]
    assert v.version == Version(0, 0)


def test_its_return_lists_it_again_without_a_change_of_records() -> None:
    v = live(A)
    v.handle(Broken("reset"), 0)
    v.handle(Tick(), GRACE_MS)
    v.handle(Opened(), GRACE_MS + 1)
    assert feed(v, welcome(mode=Mode.DELTA)) == [Listed(True)]


def test_leaving_deletes_the_view_but_not_the_memory_of_its_epoch() -> None:
    """Rule 9."""
    v = live(A)
    assert feed(v, Bye(Farewell.LEAVE)) == [Changed((), (A.key,)), Forget(left=True)]
    v.handle(Opened(), 10)
    assert isinstance(feed(v, welcome(4))[0], Alarm)


def test_a_goodbye_for_a_restart_keeps_the_view_stale() -> None:
    """Rule 9."""
    v = live(A)
    assert feed(v, Bye(Farewell.RESTART), now_ms=7) == []
    assert (ids(v), v.stale_since_ms) == ({"srv/a"}, 7)


def test_a_record_that_is_listed_without_a_body_is_rejected_alone() -> None:
    """Rule 6."""
    v = view()
    v.handle(Opened(), 0)
    feed(v, welcome(), Snapshot(5, 2, manifest([A, B]), (A,)))
    assert ids(v) == {"srv/a"}
    assert "no body" in v.rejected[RecordKey(Kind.TOOL, "srv/b")][1]


def test_what_was_rejected_costs_one_resync_of_names_after_a_restart() -> None:
    """Rules 6 and 8: rejected records are not saved."""
    forged = Record(Kind.TOOL, A.id, b"\1" * 32, A.body)
    v = View.restored(OWNER, "lab", version=Version(5, 2), instance=ONE, loaded=True, records=[B], age_ms=5, now_ms=100)
    v.handle(Opened(), 100)
    feed(v, welcome(mode=Mode.DELTA))
    said = Beat(2, view_hash=view_hash(manifest([forged, B])))
    _, hello = feed(v, said, now_ms=200)
    assert hello == Send(Hello("lab", Version(5, 0), manifest([B])))
    assert v.hash_matches is False
    feed(v, welcome(), Snapshot(5, 2, manifest([forged, B]), (forged,)), now_ms=300)
    assert feed(v, said, now_ms=400) == []
    assert v.hash_matches is True


POLICY = Record.of(Kind.POLICY, "p", {"deny": "all"})


def governed() -> View:
    v = view()
    v.handle(Opened(authority=True), 0)
    feed(v, welcome(), snapshot(POLICY, A))
    return v


def test_governance_is_accepted_on_a_stream_whose_certificate_carries_the_role() -> None:
    v = governed()
    assert ids(v) == {"p", "srv/a"}
    v.handle(Broken("reset"), 10)
    assert ids(v) == {"p", "srv/a"}


def test_governance_leaves_the_view_with_the_role_and_is_deleted_from_disk() -> None:
    v = governed()
    v.handle(Broken("reissued"), 10)
    save, changed, hello, reject = v.handle(Opened(), 20)
    assert save == Save(Version(5, 2), ONE, True, {}, frozenset({POLICY.key}))
    assert changed == Changed((), (POLICY.key,))
    assert hello == Send(Hello("lab", Version(5, 2), manifest([A])))
    assert isinstance(reject, Send)
    assert isinstance(reject.frame, Reject)
    feed(v, welcome(mode=Mode.DELTA))
    assert feed(v, Beat(2, view_hash=view_hash(manifest([A, POLICY])))) == []


def test_governance_comes_back_with_the_role_though_nothing_has_changed() -> None:
    v = governed()
    v.handle(Opened(), 20)
    v.handle(Broken("reissued"), 30)
    v.handle(Opened(authority=True), 40)
    v.handle(Broken("before it was whole"), 50)
    (hello,) = v.handle(Opened(authority=True), 60)
    assert hello == Send(Hello("lab", Version(5, 0), manifest([A])))
    feed(v, welcome(), Snapshot(5, 2, manifest([POLICY, A]), (POLICY,)))
    assert (ids(v), v.rejected) == ({"p", "srv/a"}, {})


def test_a_restored_view_governs_as_it_was_saved_until_its_owner_is_met() -> None:
    v = View.restored(
        OWNER, "lab", version=Version(5, 2), instance=ONE, loaded=True, records=[POLICY, A], age_ms=5, now_ms=100
    )
    assert ids(v) == {"p", "srv/a"}
    v.handle(Opened(), 110)
    assert ids(v) == {"srv/a"}


def governs(effects: Effects) -> list[Governs]:
    return [e for e in effects if isinstance(e, Governs)]


def test_what_an_authority_lays_down_is_told_whole_before_it_is_acknowledged() -> None:
    v = governed()
    more = Record.of(Kind.KEY, "k", {})
    effects = feed(v, Delta(5, 2, 4, (more, B)))
    assert governs(effects) == [Governs((POLICY, more))]
    assert effects[-2:] == [Governs((POLICY, more)), Send(Ack(4))]
    assert governs(feed(v, Delta(5, 4, 5, (C,)))) == []
    assert governs(feed(v, Delta(5, 5, 6, (), (POLICY.key,)))) == [Governs((more,))]


def test_what_an_authority_lays_down_and_is_rejected_is_told_with_the_reason() -> None:
    v = governed()
    (told,) = governs(feed(v, Delta(5, 2, 3, (replace(POLICY, digest=bytes(32)),))))
    assert (told.records, list(told.refused)) == ((), [POLICY.key])
    assert "digest" in told.refused[POLICY.key]


def test_an_authority_that_still_starts_is_told_as_not_whole_and_then_as_whole() -> None:
    v = governed()
    v.handle(Opened(authority=True), 20)
    assert governs(feed(v, welcome(6, instance=TWO), snapshot(epoch=6, seq=1, loaded=False))) == [
        Governs((POLICY,), whole=False)
    ]
    assert governs(feed(v, Delta(6, 1, 1, loaded=True))) == [Governs(())]


def test_nobody_governs_by_a_view_that_is_only_let_go_or_without_the_role() -> None:
    v = governed()
    v.handle(Broken("gone"), 0)
    v.handle(Tick(), 1)
    assert governs(v.handle(Tick(), 1 + KEEP_MS)) == []
    v = governed()
    assert governs(v.handle(Opened(), 20)) == []
    assert governs(feed(governed(), Bye(Farewell.LEAVE))) == []


def test_a_peer_that_no_longer_peers_has_not_left() -> None:
    assert feed(live(A), Bye(Farewell.UNPEERED)) == [Changed((), (A.key,)), Forget()]


def test_tools_are_counted_through_every_way_in_and_out() -> None:
    v = governed()
    assert (v.tools, v.size) == (1, 2)
    feed(v, Delta(5, 2, 5, (B, C), (A.key,)))
    assert (v.tools, v.size) == (2, 3)
    v.handle(Opened(authority=True), 20)
    feed(v, welcome(6, instance=TWO), snapshot(A, epoch=6, seq=1, loaded=False))
    assert (v.tools, v.size) == (3, 4)
    feed(v, Delta(6, 1, 1, loaded=True))
    assert (v.tools, v.size) == (1, 1)
    feed(v, Bye(Farewell.LEAVE))
    assert (v.tools, v.size) == (0, 0)


def test_its_repr_is_a_summary() -> None:
    assert repr(live(A, B)) == "View(a 5.2 live 2)"
