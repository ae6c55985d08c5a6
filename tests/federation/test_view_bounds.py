"""What an owner may make this node keep, however much it says."""

from __future__ import annotations

import pytest

from federation import view as view_module
from federation.events import Alarm, Close, Effects, Opened, Received
from federation.view import COUNTER_MAX, Phase, View
from proto.frames import Beat, Delta, Down, Mode, Snapshot, Welcome
from proto.names import NodeId
from proto.records import Kind, Record, manifest

OWNER = NodeId.of("mesh.test", "eu", "a")


def tool(name: str, text: str = "") -> Record:
    return Record.of(Kind.TOOL, f"time/{name}", {"name": name, "description": text})


def forged(name: str) -> Record:
    return Record(Kind.TOOL, f"time/{name}", b"x" * 32, b"{}")


class Owner:
    """A view and the stream that feeds it."""

    def __init__(self) -> None:
        self.view = View(OWNER, "lab")
        self.view.handle(Opened(), 0)
        self.says(Welcome(5, b"i", 0, Mode.SNAPSHOT, True))

    def says(self, frame: Down) -> Effects:
        return self.view.handle(Received(frame), 0)

    def live(self) -> Owner:
        self.says(Snapshot(5, 1))
        assert self.view.phase is Phase.LIVE
        return self


def why(effects: Effects) -> str:
    """The alarm under which the stream is closed."""
    (close,) = [e for e in effects if isinstance(e, Close)]
    assert [e.name for e in effects if isinstance(e, Alarm)] == [close.refusal]
    return close.refusal


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(view_module, "RECORDS_MAX", 10)
    monkeypatch.setattr(view_module, "VIEW_BYTES_MAX", 10_000)


def test_bad_records_without_end_end_the_stream() -> None:
    owner = Owner().live()
    for i in range(20):
        effects = owner.says(Delta(5, 1 + i, 2 + i, (forged(str(i)),)))
        assert not any(isinstance(e, Close) for e in effects)
    assert why(owner.says(Delta(5, 21, 22, (forged("more"),)))) == "too_large"
    assert len(owner.view.rejected) == 20


def test_a_snapshot_of_too_many_bytes_ends_the_stream_before_it_is_whole() -> None:
    owner = Owner()
    parts = [tool(str(i), "x" * 5_000) for i in range(4)]
    effects: list[Effects] = []
    for i, record in enumerate(parts):
        effects.append(owner.says(Snapshot(5, 4, manifest([record]), (record,), last=i == 3)))
    assert [bool(e) for e in effects] == [False, False, False, True]
    assert why(effects[-1]) == "too_large"
    assert owner.view.size == 0


def test_numbers_that_no_store_can_hold_are_refused() -> None:
    for frame in (Delta(5, 1, COUNTER_MAX + 1), Snapshot(5, COUNTER_MAX + 1), Beat(COUNTER_MAX + 1)):
        assert why(Owner().live().says(frame)) == "welcome"


def test_one_that_says_what_is_not_known_here_is_not_held_to_its_hash() -> None:
    owner = Owner()
    owner.says(Snapshot(5, 1, foreign=("kind 99",)))
    assert owner.says(Beat(1, view_hash=b"over more than is held")) == []
    assert owner.view.hash_matches is None
    owner.says(Welcome(5, b"i", 0, Mode.SNAPSHOT, True))
    owner.says(Snapshot(5, 1))
    assert owner.says(Beat(1, view_hash=owner.view.hash())) == []
    assert owner.view.hash_matches is True
    owner.says(Delta(5, 1, 2, foreign=("kind 99",)))
    assert owner.says(Beat(2, view_hash=b"over more than is held")) == []


def test_bodies_are_judged_as_they_come_and_what_is_held_is_not_judged_again(monkeypatch: pytest.MonkeyPatch) -> None:
    judged: list[str] = []
    check = view_module.check_record

    def counting(record: Record, owner: NodeId, *, authority: bool) -> None:
        judged.append(record.id)
        check(record, owner, authority=authority)

    monkeypatch.setattr(view_module, "check_record", counting)
    owner, good, bad = Owner(), tool("good"), forged("bad")
    owner.says(Snapshot(5, 2, manifest([good]), (good, bad), last=False))
    assert judged == ["time/good", "time/bad"]
    owner.says(Snapshot(5, 2, manifest([bad]), (), last=True))
    assert set(owner.view.records) == {good.key}
    assert "digest does not match" in owner.view.rejected[bad.key][1]
    owner.says(Welcome(6, b"j", 0, Mode.SNAPSHOT, True))
    owner.says(Snapshot(6, 1, manifest([good])))
    assert (judged, set(owner.view.records)) == (["time/good", "time/bad"], {good.key})
