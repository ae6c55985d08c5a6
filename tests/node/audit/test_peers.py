"""What becomes of other nodes is on record once, with its cause and its time."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from federation.alarms import Alarms, Raised
from federation.events import Liveness
from federation.refusals import Reason, Refusals
from federation.status import PeerStatus, Transition
from node.audit.peers import PeerWatch
from node.audit.port import NoAudit
from proto.names import NodeId

US = NodeId("mesh.test", "us", "us-1")


class Clock:
    ms = 1_000_000

    def now_ms(self) -> int:
        return self.ms

    def wall_ms(self) -> int:
        return self.ms


class Listener:
    def __init__(self) -> None:
        self.heard: list[tuple[NodeId, Liveness, bool]] = []

    def changed(self, *_: Any) -> None:
        return

    def liveness(self, owner: NodeId, state: Liveness, *, listed: bool) -> None:
        self.heard.append((owner, state, listed))


@dataclass
class Federation:
    clock: Clock
    refusals: Refusals
    kept: Alarms
    history: list[Transition] = field(default_factory=list)
    known: bool = True
    asked: int = 0

    @property
    def alarms(self) -> tuple[Raised, ...]:
        return self.kept.latest()

    def peers(self) -> tuple[PeerStatus, ...]:
        self.asked += 1
        state = self.history[-1].state if self.history else Liveness.SUSPECT
        return (PeerStatus(US, "10.0.0.2:7401", state, history=tuple(self.history)),) if self.known else ()


class Audit(NoAudit):
    def __init__(self) -> None:
        self.told: list[tuple[str, str, str, dict[str, Any]]] = []

    def peer(self, node: str, event: str, *, reason: str = "", **facts: Any) -> None:
        self.told.append((node, event, reason, facts))


def parts() -> tuple[PeerWatch, Audit, Federation, Listener]:
    clock, audit, listener = Clock(), Audit(), Listener()
    federation = Federation(clock, Refusals(clock), Alarms(clock))
    return PeerWatch(audit, listener), audit, federation, listener


def test_each_transition_is_told_once_though_states_change_between_two_looks() -> None:
    watch, audit, federation, listener = parts()
    look: Any = federation
    federation.history = [
        Transition(1_000, Liveness.ALIVE, ""),
        Transition(2_000, Liveness.SUSPECT, "its stream broke"),
    ]
    watch.liveness(US, Liveness.SUSPECT, listed=True)
    watch.look(look)
    federation.history += [Transition(3_000, Liveness.DOWN, "not heard by ap-1 either")]
    watch.liveness(US, Liveness.DOWN, listed=False)
    watch.look(look)
    watch.look(look)
    assert [(node, event, why) for node, event, why, _ in audit.told] == [
        ("us-1", "alive", ""), ("us-1", "suspect", "its stream broke"), ("us-1", "down", "not heard by ap-1 either"),
    ]  # fmt: skip
    assert audit.told[2][3] == {"id": US.uri, "since": "1970-01-01T00:00:03.000Z"}
    assert listener.heard == [(US, Liveness.SUSPECT, True), (US, Liveness.DOWN, False)]
    assert federation.asked == 2, "nothing is gathered where nothing changed"


def test_a_peer_that_has_left_the_roster_is_told_by_what_it_became() -> None:
    watch, audit, federation, _ = parts()
    federation.known = False
    watch.liveness(US, Liveness.LEFT, listed=False)
    look: Any = federation
    watch.look(look)
    assert [t[:2] for t in audit.told] == [("us-1", "left")]


def test_refusals_and_alarms_are_told_when_they_are_news_and_not_each_time_they_are_counted() -> None:
    watch, audit, federation, _ = parts()
    look: Any = federation
    for _ in range(100):
        federation.refusals.note("here", "10.0.0.9:1", Reason.CERTIFICATE, "it expired")
        federation.kept.note(US.uri, "clone", "two nodes bear one identity")
        watch.look(look)
    assert [(who, event, why) for who, event, why, _ in audit.told] == [
        ("10.0.0.9:1", "refused", "it expired"), (US.uri, "alarm", "two nodes bear one identity"),
    ]  # fmt: skip
    federation.clock.ms += 3_600_000
    federation.kept.note(US.uri, "clone", "two nodes bear one identity")
    federation.refusals.note("here", "10.0.0.9:1", Reason.CERTIFICATE, "it is of another CA")
    watch.look(look)
    assert [(event, facts["count"]) for _, event, _, facts in audit.told[2:]] == [("refused", 101), ("alarm", 101)]
