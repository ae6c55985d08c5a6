from __future__ import annotations

from collections.abc import Callable

from router.masks import JOURNAL_MAX, MASKS_MAX, Masks
from router.ports import Filter, ToolEntry


def counting(key: str, allows: Callable[[ToolEntry], bool]) -> tuple[Filter, list[str]]:
    asked: list[str] = []

    def ask(entry: ToolEntry) -> bool:
        asked.append(entry.key.tool)
        return allows(entry)

    return Filter(key, ask), asked


def test_an_equal_key_is_asked_once_for_each_entry(entry: Callable[..., ToolEntry]) -> None:
    masks, entries = Masks(), [entry("a"), None, entry("b")]
    only, asked = counting("x", lambda e: e.key.tool == "b")
    assert masks.of(only, entries).tolist() == [False, False, True]
    assert masks.of(only, entries).tolist() == [False, False, True]
    assert asked == ["a", "b"]


def test_a_change_asks_for_that_entry_only(entry: Callable[..., ToolEntry]) -> None:
    masks, entries = Masks(), [entry("a"), entry("b")]
    only, asked = counting("x", lambda e: e.key.tool != "b")
    masks.of(only, entries)
    asked.clear()
    entries[0] = None
    masks.changed(0)
    entries.append(entry("c"))
    masks.changed(2)
    assert masks.of(only, entries).tolist() == [False, False, True]
    assert asked == ["c"]


def test_a_slot_that_changes_hands_is_judged_anew(entry: Callable[..., ToolEntry]) -> None:
    masks, entries = Masks(), [entry("open")]
    only, _ = counting("x", lambda e: e.key.tool == "open")
    assert masks.of(only, entries).tolist() == [True]
    entries[0] = entry("secret")
    masks.changed(0)
    assert masks.of(only, entries).tolist() == [False]


def test_a_mask_too_far_behind_is_made_anew(entry: Callable[..., ToolEntry]) -> None:
    masks, entries = Masks(), [entry("a")]
    only, asked = counting("x", lambda e: True)
    masks.of(only, entries)
    for _ in range(JOURNAL_MAX + 1):
        masks.changed(0)
    entries[0] = entry("b")
    assert masks.of(only, entries).tolist() == [True]
    assert asked == ["a", "b"]


def test_the_number_of_masks_is_bounded(entry: Callable[..., ToolEntry]) -> None:
    masks, entries = Masks(), [entry("a")]
    first, asked = counting("first", lambda e: True)
    masks.of(first, entries)
    for i in range(MASKS_MAX):
        masks.of(counting(f"other{i}", lambda e: True)[0], entries)
    masks.of(first, entries)
    assert asked == ["a", "a"]
