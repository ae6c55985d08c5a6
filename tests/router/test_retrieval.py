from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proto import jsons
from router import retrieval
from router.ports import EVERYTHING, ToolEntry, ToolKey
from tests.router.worlds import World, hiding, told

MakeEntry = Callable[..., ToolEntry]

QUERIES = ("read a file", "send_email", "convert money and then send an email to the whole team, please")
NAMES = ("read_file", "send_email", "convert", "sendEmail", "plan")
TEXTS = ("Read a file.", "Send an email to a team.", "Convert money. Any currency will do.", "", "Plan a journey.")
SECRET = "vault"
CROWD = [
    ToolEntry(ToolKey("c", SECRET, f"read_{i}"), {"description": f"Read file {i}."}, digest=bytes([i]))
    for i in range(80)
]


@st.composite
def entries(draw: st.DrawFn) -> ToolEntry:
    definition = {"name": draw(st.sampled_from(NAMES)), "description": draw(st.sampled_from(TEXTS))}
    key = ToolKey(draw(st.sampled_from("ab")), draw(st.sampled_from(("files", "mail", SECRET))), definition["name"])
    service = draw(st.sampled_from(("", "", "shared")))
    labels = draw(st.sampled_from(({}, {"team": "x"})))
    return ToolEntry(key, definition, jsons.digest(definition), service=service, labels=labels)


@settings(deadline=None, derandomize=True, max_examples=25)
@given(st.lists(st.one_of(entries(), st.tuples(entries())), max_size=30))
def test_after_any_changes_search_finds_what_a_fresh_index_finds(changes: list[ToolEntry | tuple[ToolEntry]]) -> None:
    """An entry is put; one in a tuple is deleted."""
    world, left = World(), dict[ToolKey, ToolEntry]()
    for number, change in enumerate(changes):
        if isinstance(change, tuple):
            world.index.delete(change[0].key)
            left.pop(change[0].key, None)
        else:
            world.index.put(change)
            left[change.key] = change
        if number % 4 == 0:
            world.embed()
            world.search(QUERIES[0])
    world.embed()
    fresh = World([left[key] for key in sorted(left)])
    assert len(world.index) == len(left)
    assert world.index.slots.rows == fresh.index.slots.rows
    assert world.index.pending == 0
    for mine, its in zip(world.search(*QUERIES), fresh.search(*QUERIES), strict=True):
        assert told(mine) == told(its)


@settings(deadline=None, derandomize=True, max_examples=25)
@given(st.lists(entries(), max_size=25), st.lists(entries(), max_size=25))
def test_what_is_hidden_changes_no_score_no_count_and_no_order(seen: list[ToolEntry], more: list[ToolEntry]) -> None:
    hidden = [replace(e, key=e.key._replace(server=SECRET)) for e in more]
    visible = [e for e in seen if e.key.server != SECRET]
    crowded, plain = World([*hidden, *CROWD, *visible]), World(visible)
    only = hiding(lambda e: e.key.server == SECRET)
    for mine, its in zip(crowded.search(*QUERIES, only=only), plain.search(*QUERIES), strict=True):
        assert told(mine) == told(its)


def test_several_searches_at_once_find_what_each_finds_alone(sample: list[ToolEntry]) -> None:
    world = World(sample)
    together = world.search(*QUERIES)
    assert [told(f) for f in together] == [told(world.search(q)[0]) for q in QUERIES]


def test_candidates_of_a_large_collection_score_as_if_all_were_candidates(
    entry: MakeEntry, monkeypatch: pytest.MonkeyPatch
) -> None:
    verbs, things = ("read", "write", "send", "delete", "plan"), ("file", "mail", "invoice", "tour", "song")
    many = [
        entry(f"{verb}_{thing}_{i}", f"{verb.title()} the {thing} number {i}.", server=f"{thing}-{i % 3}")
        for verb in verbs
        for thing in things
        for i in range(40)
    ]
    world = World(many)
    everything = [told(f) for f in world.search(*QUERIES)]
    monkeypatch.setattr(retrieval, "ALL_UP_TO", 100)
    assert [told(f) for f in world.search(*QUERIES)] == everything


def test_ten_thousand_equal_tools_are_one_row_and_fill_no_page_slowly(entry: MakeEntry) -> None:
    same = [entry("now", "Tell the time.", owner=f"n{i:05}", server="clock") for i in range(10_000)]
    world = World([*same, entry("today", "Tell the date.", server="calendar")])
    assert world.index.slots.rows == 2
    assert world.embedding.computed <= 6
    (found,) = world.search("tell the time", k=5)
    assert [h.entry.key.owner for h in found.hits[:4]] == ["n00000", "n00001", "n00002", "n00003"]
    assert found.hits[4].entry.key.tool == "today"
    assert found.searched == 10_001


def test_labels_region_and_owner_cost_no_document(entry: MakeEntry) -> None:
    world = World([entry("now", "Tell the time.")])
    version = world.index.version
    world.index.put(entry("now", "Tell the time.", labels={"a": "b"}, region="eu"))
    world.index.put(entry("now", "Tell the time.", owner="us-1"))
    assert (world.index.version, world.index.slots.rows, len(world.index)) == (version, 1, 2)
    world.index.put(entry("now", "Tell the time.", server_description="A clock."))
    assert world.index.slots.rows == 2


def test_without_a_digest_the_definition_tells_documents_apart(entry: MakeEntry) -> None:
    one = entry("now", "Tell the time.", digest=b"")
    world = World([one, entry("now", "Tell the time.", owner="b", digest=b"")])
    assert world.index.slots.rows == 1
    odd = replace(one, key=one.key._replace(owner="c"), definition={"name": "now", "size": float("nan")})
    world.index.put(odd)
    assert world.index.slots.rows == 2


def test_hits_name_replicas_that_may_be_seen(entry: MakeEntry) -> None:
    world = World([entry("now", "Tell it.", owner=o, server="clock", service="clock") for o in "abc"])
    (found,) = world.search("tell", only=hiding(lambda e: e.key.owner == "a"))
    assert [(h.entry.key.owner, [r.owner for r in h.replicas]) for h in found.hits] == [("b", ["c"])]
    (found,) = world.search("tell", only=EVERYTHING)
    assert [r.owner for r in found.hits[0].replicas] == ["b", "c"]
