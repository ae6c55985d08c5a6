from __future__ import annotations

from collections.abc import Callable

import pytest

from router.masks import MASKS_MAX, NARROWED_MAX, Masks, View
from router.ports import Filter, Narrowing, ToolEntry
from router.slots import NONE, Slots, row_key

MakeEntry = Callable[..., ToolEntry]


class Office:
    """Slots and masks that are told of each other's changes, as the index does it."""

    def __init__(self) -> None:
        self.slots = Slots()
        self.masks = Masks()

    def put(self, entry: ToolEntry) -> None:
        key = row_key(entry)
        row = self.slots.row(key)
        slot, before = self.slots.put(entry, self.slots.new_row(key) if row == NONE else row)
        self._left(before)
        self.masks.changed(slot)

    def delete(self, entry: ToolEntry) -> None:
        slot, row = self.slots.delete(entry.key)
        self._left(row)
        self.masks.changed(slot)

    def view(self, only: Filter, budget: int = 1_000) -> View | None:
        return self.masks.view(only, self.slots, budget)

    def seen(self, only: Filter) -> list[str]:
        """Keys behind the view's slots, in order; the rows must be those of the slots."""
        view = self.view(only)
        assert view is not None
        slots = [s for s in range(len(self.slots.entries)) if s < len(view.slots) and view.slots[s]]
        assert sorted({int(self.slots.row_of[s]) for s in slots}) == view.indices.tolist()
        assert view.count == view.rows.sum()
        assert view.searched == len(slots)
        assert view.everything == (len(slots) == len(self.slots))
        assert len(view.rows) == self.slots.capacity
        return sorted(f"{e.key.owner}/{e.key.tool}" for s in slots if (e := self.slots.entries[s]) is not None)

    def _left(self, row: int) -> None:
        if row != NONE and not self.slots.slots_of(row):
            self.slots.drop_row(row)


@pytest.fixture
def office() -> Office:
    return Office()


def counting(key: str, allows: Callable[[ToolEntry], bool]) -> tuple[Filter, list[str]]:
    asked: list[str] = []

    def ask(entry: ToolEntry) -> bool:
        asked.append(entry.key.tool)
        return allows(entry)

    return Filter(key, ask), asked


def test_an_equal_key_is_asked_once_for_each_entry(office: Office, entry: MakeEntry) -> None:
    office.put(entry("a"))
    office.put(entry("b"))
    only, asked = counting("x", lambda e: e.key.tool == "b")
    assert office.seen(only) == office.seen(only) == ["eu-1/b"]
    assert asked == ["a", "b"]


def test_a_change_asks_for_that_entry_only(office: Office, entry: MakeEntry) -> None:
    office.put(entry("a"))
    office.put(entry("b"))
    only, asked = counting("x", lambda e: e.key.tool != "b")
    assert office.seen(only) == ["eu-1/a"]
    asked.clear()
    office.delete(entry("a"))
    office.put(entry("c"))
    assert office.seen(only) == ["eu-1/c"]
    assert asked == ["c"]


def test_a_slot_that_changes_hands_is_judged_anew(office: Office, entry: MakeEntry) -> None:
    only, _ = counting("x", lambda e: e.key.tool == "open")
    office.put(entry("open"))
    assert office.seen(only) == ["eu-1/open"]
    office.delete(entry("open"))
    office.put(entry("secret"))
    assert office.seen(only) == []


def test_a_row_is_visible_while_one_of_its_entries_is(office: Office, entry: MakeEntry) -> None:
    only, _ = counting("x", lambda e: e.key.owner != "b")
    for owner in "abc":
        office.put(entry("now", owner=owner))
    view = office.view(only)
    assert view is not None
    assert (view.count, view.searched, view.everything) == (1, 2, False)
    office.delete(entry("now", owner="a"))
    assert office.seen(only) == ["c/now"]
    office.delete(entry("now", owner="c"))
    assert office.seen(only) == []


def test_a_view_that_takes_long_is_judged_in_slices_and_sees_changes_made_meanwhile(
    office: Office, entry: MakeEntry
) -> None:
    only, asked = counting("x", lambda e: e.digest != b"hidden")
    for i in range(10):
        office.put(entry(f"t{i}"))
    assert office.view(only, 4) is None
    assert len(asked) == 4
    # One that is judged already, and one that is not.
    office.put(entry("t0", digest=b"hidden"))
    office.put(entry("t9", digest=b"hidden"))
    assert office.view(only, 4) is None
    assert office.view(only, 2) is None
    assert office.seen(only) == [f"eu-1/t{i}" for i in range(1, 9)]


def test_what_changes_among_the_hidden_leaves_the_view_as_it_is(office: Office, entry: MakeEntry) -> None:
    only, _ = counting("x", lambda e: not e.key.tool.startswith("secret"))
    for name in ("a", "b", "secret"):
        office.put(entry(name))
    before = office.view(only)
    office.delete(entry("secret"))
    after = office.view(only)
    assert before is not None
    assert after is not None
    assert (before.version, before.everything) == (after.version, False)
    assert after.everything
    for i in range(200):
        office.put(entry(f"secret_{i}"))
    assert office.seen(only) == ["eu-1/a", "eu-1/b"]
    grown = office.view(only)
    assert grown is not None
    assert (grown.version, grown.everything) == (before.version, False)
    office.put(entry("a", "Other words."))
    changed = office.view(only)
    assert changed is not None
    assert changed.version > before.version


def test_the_number_of_classes_is_bounded(office: Office, entry: MakeEntry) -> None:
    office.put(entry("a"))
    first, asked = counting("first", lambda e: True)
    office.seen(first)
    for i in range(MASKS_MAX):
        office.seen(counting(f"other{i}", lambda e: True)[0])
    office.seen(first)
    assert asked == ["a", "a"]


def test_a_narrowed_view_is_cut_out_of_that_of_its_class_and_asks_nobody(office: Office, entry: MakeEntry) -> None:
    for owner in ("eu-1", "us-1"):
        for server in ("wiki", "books"):
            office.put(entry("read", server=server, owner=owner))
            office.put(entry(f"write_{owner}_{server}", server=server, owner=owner))
    only, asked = counting("all but reading", lambda e: e.key.tool != "read")
    office.seen(only)
    asked.clear()
    at, other = ("eu-1", "wiki"), ("us-1", "books")

    def seen(*servers: tuple[str, str], without: tuple[tuple[str, str], ...] = ()) -> list[str]:
        narrowed = Narrowing(frozenset(servers) if servers else None, frozenset(without))
        return office.seen(Filter(only.key, only.allows, narrowed))

    assert seen(at) == ["eu-1/write_eu-1_wiki"]
    assert seen(at, other) == ["eu-1/write_eu-1_wiki", "us-1/write_us-1_books"]
    assert seen(at, other, without=(at,)) == ["us-1/write_us-1_books"]
    assert seen(without=(at, other)) == ["eu-1/write_eu-1_books", "us-1/write_us-1_wiki"]
    assert seen(("eu-1", "gone")) == []
    assert asked == []


def test_a_narrowed_view_follows_changes_and_keeps_its_version_where_only_the_hidden_change(
    office: Office, entry: MakeEntry
) -> None:
    only = Filter("public", lambda e: e.key.tool != "secret", Narrowing(frozenset({("eu-1", "wiki")})))
    office.put(entry("read", server="wiki", owner="eu-1"))
    first = office.view(only)
    assert office.view(only) is first
    office.put(entry("secret", server="wiki", owner="eu-1"))
    hidden = office.view(only)
    assert first is not None
    assert hidden is not None
    assert (hidden.key, hidden.version, hidden.count) == (first.key, first.version, 1)
    for number in range(200):
        office.put(entry(f"write_{number}", server="wiki", owner="eu-1"))
        office.put(entry(f"write_{number}", server="books", owner="eu-1"))
    assert len(office.seen(only)) == 201
    office.delete(entry("read", server="wiki", owner="eu-1"))
    assert "eu-1/read" not in office.seen(only)
    later = office.view(only)
    assert later is not None
    assert later.version > first.version


def test_narrowed_views_push_no_class_out_and_are_bounded_themselves(office: Office, entry: MakeEntry) -> None:
    for number in range(3 * MASKS_MAX):
        office.put(entry("read", server=f"s{number}", owner="eu-1"))
    only, asked = counting("all", lambda _: True)
    office.seen(only)
    asked.clear()
    for number in range(3 * MASKS_MAX):
        office.seen(Filter(only.key, only.allows, Narrowing(frozenset({("eu-1", f"s{number}")}))))
    office.seen(only)
    assert asked == []
    assert f"1 classes, {NARROWED_MAX} narrowed" in repr(office.masks)
