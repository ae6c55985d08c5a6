"""Who stays a peer: strangers and the long gone are forgotten, and return when they are found again."""

from __future__ import annotations

from pathlib import Path

import pytest

from federation.ca import init_ca, issue
from federation.clock import SystemClock
from federation.credentials import Credentials
from federation.events import Broken, Opened, Received, Tick
from federation.known import Known
from federation.peer import Peer
from federation.refusals import Refusals
from federation.roster import STRANGER_MS, Roster
from federation.tasks import Tasks
from federation.tls import MeshTls
from federation.view import KEEP_MS, View
from proto.frames import Beat, Down, Mode, Snapshot, Welcome
from proto.names import NodeId
from proto.records import Kind, Record

ME, A, B = (NodeId.of("mesh.test", "eu", n) for n in ("me", "a", "b"))


class Stepped(SystemClock):
    now = 1_000

    def now_ms(self) -> int:
        return self.now


class User:
    """Keeps who was forgotten."""

    def __init__(self) -> None:
        self.gone: list[NodeId] = []

    def link_opened(self, peer: NodeId, credentials: Credentials | None) -> None: ...

    def link_received(self, peer: NodeId, frame: Down) -> None: ...

    def link_broken(self, peer: NodeId, cause: str) -> None: ...

    def calls_failed(self, peer: NodeId, cause: str) -> None: ...

    def forgotten(self, known: Known) -> None:
        self.gone.append(known.node)


class Room:
    """A roster that does not dial, and a clock to turn."""

    def __init__(self, tls: MeshTls) -> None:
        self.clock, self.user = Stepped(), User()

        def make(node: NodeId) -> Peer:
            return Peer(View(node, "lab"), self.clock.now)

        self.roster = Roster(ME, tls, make, self.user, Tasks(), Refusals(self.clock), self.clock)

    def say(self, node: NodeId, *events: Opened | Received | Broken) -> None:
        known = self.roster.get(node)
        assert known is not None
        for event in events:
            known.core.handle(event, self.clock.now)

    def pass_ms(self, span_ms: int, *present: NodeId) -> set[NodeId]:
        """Time passes, with ticks; who is still a peer."""
        until = self.clock.now + span_ms
        while self.clock.now < until:
            self.clock.now = min(until, self.clock.now + 5_000 if span_ms < KEEP_MS else self.clock.now + 60_000)
            for known in self.roster:
                known.core.handle(Tick(), self.clock.now)
            self.roster.forget_strangers(set(present))
        return {k.node for k in self.roster}


@pytest.fixture
def room(tmp_path: Path) -> Room:
    init_ca(tmp_path / "ca", "mesh.test")
    files = issue(tmp_path / "ca", ME, tmp_path / "me")
    return Room(MeshTls.load(files.ca, files.cert, files.key))


async def test_a_name_that_nobody_ever_proved_is_forgotten_unless_it_is_found_again(room: Room) -> None:
    room.roster.reached(A, "10.0.0.1:1")
    room.roster.reached(B, "10.0.0.2:1")
    assert room.pass_ms(STRANGER_MS // 2) == {A, B}
    room.roster.reached(B, "10.0.0.2:1")
    assert room.pass_ms(STRANGER_MS // 2 + 10_000) == {B}
    assert room.user.gone == [A]
    room.roster.reached(A, "10.0.0.1:1")
    assert room.pass_ms(5_000) == {A, B}


async def test_who_subscribes_here_is_no_stranger_though_it_cannot_be_dialled(room: Room) -> None:
    room.roster.reached(A, "10.0.0.1:1")
    assert room.pass_ms(2 * STRANGER_MS, A) == {A}


async def test_a_peer_that_is_away_is_kept_with_its_view_and_forgotten_with_it(room: Room) -> None:
    room.roster.reached(A, "10.0.0.1:1")
    record = Record.of(Kind.TOOL, "srv/x", {"name": "x"})
    welcome = Welcome(5, b"i" * 16, 1, Mode.SNAPSHOT, True)
    snapshot = Snapshot(5, 1, {record.key: record.digest}, (record,), last=True, loaded=True)
    room.say(A, Opened(), Received(welcome), Received(snapshot), Broken("gone"))
    assert room.pass_ms(KEEP_MS - 60_000) == {A}
    assert room.pass_ms(STRANGER_MS + 120_000) == set()


async def test_lag_counts_from_the_last_word_and_features_are_those_that_both_have(room: Room) -> None:
    room.roster.reached(A, "10.0.0.1:1")
    known = room.roster.get(A)
    assert known is not None
    room.say(A, Opened())
    for frame in (Welcome(5, b"i" * 16, 0, Mode.SNAPSHOT, True, features=frozenset({"refuse", "levitate"})), Beat(0)):
        known.told(frame, room.clock.now, 0)
        room.say(A, Received(frame))
    room.clock.now += 3_000
    room.say(A, Broken("silent"))
    room.clock.now += 1_000
    status = known.status(room.clock.now, 0, ())
    assert (status.lag_s, status.heard_ms, status.features) == (4.0, 4_000, ("refuse",))


async def test_a_name_leads_to_who_bears_it_until_that_is_forgotten(room: Room) -> None:
    room.roster.reached(A, "10.0.0.1:1")
    assert room.roster.named(A.name) is room.roster.get(A)
    assert room.roster.named(B.name) is None
    assert room.pass_ms(STRANGER_MS + 60_000) == set()
    assert room.roster.named(A.name) is None
