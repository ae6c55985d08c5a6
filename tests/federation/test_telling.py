"""A listener is told everything, in order, and never too much at once."""

from __future__ import annotations

from collections.abc import Sequence

from federation.events import Liveness
from federation.telling import SLICE, Teller
from proto.names import NodeId
from proto.records import Kind, Record, RecordKey

A = NodeId.of("mesh.test", "eu", "a")


class Listener:
    def __init__(self) -> None:
        self.told: list[str] = []
        self.view: dict[RecordKey, Record] = {}
        self.most = 0

    def changed(self, owner: NodeId, puts: Sequence[Record], deletes: Sequence[RecordKey]) -> None:
        self.told.append("changed")
        self.most = max(self.most, len(puts) + len(deletes))
        for key in deletes:
            del self.view[key]
        self.view.update((r.key, r) for r in puts)

    def liveness(self, owner: NodeId, state: Liveness, *, listed: bool) -> None:
        self.told.append(state)


def records(count: int) -> tuple[Record, ...]:
    return tuple(Record(Kind.TOOL, f"srv/{i}", b"d", b"{}") for i in range(count))


async def test_what_is_small_is_told_at_once() -> None:
    listener = Listener()
    teller = Teller(listener)
    teller.changed(A, records(SLICE), ())
    teller.liveness(A, Liveness.ALIVE, listed=True)
    assert listener.told == ["changed", "alive"]
    await teller.told()


async def test_what_is_large_is_told_in_slices_and_what_follows_waits_its_turn() -> None:
    listener = Listener()
    teller = Teller(listener)
    many = records(3 * SLICE + 1)
    teller.changed(A, many, ())
    teller.liveness(A, Liveness.ALIVE, listed=True)
    teller.changed(A, (), [r.key for r in many[:-1]])
    teller.liveness(A, Liveness.LEFT, listed=False)
    assert listener.told == []
    await teller.told()
    assert [t for t in listener.told if t != "changed"] == ["alive", "left"]
    assert listener.told.index("alive") == 4
    assert listener.most == SLICE
    assert set(listener.view) == {many[-1].key}
    teller.changed(A, (), [many[-1].key])
    assert listener.view == {}
