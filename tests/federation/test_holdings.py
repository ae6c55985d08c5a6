"""Records held of one owner: every count agrees with what is there, whatever happened."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from federation.holdings import Holdings
from proto.records import Kind, Record

RECORDS = [
    Record.of(kind, f"srv/{n}" if kind is Kind.TOOL else n, {"text": n * size})
    for kind in (Kind.TOOL, Kind.POLICY)
    for n in "abc"
    for size in (1, 2)
]
STEPS = st.one_of(
    st.tuples(st.just("put"), st.sampled_from(RECORDS)),
    st.tuples(st.just("drop"), st.sampled_from(RECORDS)),
    st.tuples(st.just("restart"), st.sampled_from(RECORDS)),
    st.tuples(st.just("settle"), st.none()),
)


@given(st.lists(STEPS, max_size=30))
def test_counts_agree_with_what_is_held_after_every_step(steps: list[tuple[str, Record | None]]) -> None:
    held = Holdings()
    for step, record in steps:
        match step, record:
            case "put", Record() as r:
                held.put(r)
                assert held.said[r.key] is r
            case "drop", Record() as r:
                was = r.key in held.all()
                assert held.drop(r.key) is was
                assert r.key not in held.all()
            case "restart", Record() as r:
                before = held.all()
                held.restart({r.key})
                assert held.all() == {k: v for k, v in before.items() if k != r.key}
            case _:
                gone = set(held.kept)
                assert held.settle() == gone
        assert held.said.keys().isdisjoint(held.kept)
        assert len(held) == len(held.all())
        assert held.tools == sum(k.kind is Kind.TOOL for k in held.all())
        assert held.bytes == sum(len(r.body) for r in held.said.values())


def test_clearing_tells_what_was_held() -> None:
    held = Holdings()
    held.restore(RECORDS[:1], said=False)
    held.put(RECORDS[2])
    assert repr(held) == "1+1 kept"
    assert set(held.clear()) == {RECORDS[0].key, RECORDS[2].key}
    assert (len(held), held.tools, held.bytes) == (0, 0, 0)
