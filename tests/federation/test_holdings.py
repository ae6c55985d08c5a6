"""Records held of one owner: every count agrees with what is there, whatever happened."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from federation.holdings import ENTRY_BYTES, Holdings
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
    st.tuples(st.just("replace"), st.sampled_from(RECORDS)),
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
            case "replace", Record() as r:
                before = dict(held.all())
                held.replace({r.key: r}, {r.key, RECORDS[0].key})
                assert held.said == {r.key: r}
                assert held.kept == {k: v for k, v in before.items() if k not in (r.key, RECORDS[0].key)}
            case _:
                gone = set(held.kept)
                assert held.settle() == gone
        assert held.said.keys().isdisjoint(held.kept)
        assert len(held) == len(held.all())
        assert held.keys() == held.all().keys() == {r.key for r in RECORDS if held.get(r.key)}
        assert held.tools == sum(k.kind is Kind.TOOL for k in held.all())
        assert held.bytes == sum(len(r.body) for r in held.said.values())


def test_clearing_tells_what_was_held() -> None:
    held = Holdings()
    held.restore(RECORDS[:1], said=False)
    held.put(RECORDS[2])
    assert repr(held) == "1+1 kept"
    assert set(held.clear()) == {RECORDS[0].key, RECORDS[2].key}
    assert (len(held), held.tools, held.bytes) == (0, 0, 0)


def test_a_manifest_that_would_not_fit_is_empty() -> None:
    held = Holdings()
    held.restore(RECORDS[:1], said=False)
    held.put(RECORDS[2])
    listed = {r.key: r.digest for r in (RECORDS[0], RECORDS[2])}
    size = sum(ENTRY_BYTES + len(key.id) for key in listed)
    assert held.manifest(size) == listed
    assert held.manifest(size - 1) == {}
