"""Who is told of changed lists, and how often where every server counts."""

from __future__ import annotations

import asyncio

import pytest

from node.ingress import changes
from node.ingress.changes import ChangeFeed
from node.ports import EVERYTHING
from proto.records import Principal

TOOLS = frozenset({"tools"})


async def test_each_address_hears_of_its_servers_and_everything_of_all_once() -> None:
    feed = ChangeFeed()
    told: list[tuple[str | None, str]] = []
    for name in ("units", "measures", "wiki", EVERYTHING, None):
        feed.subscribe(name, TOOLS, lambda kind, name=name: told.append((name, kind)))
    feed({"units", "measures"}, frozenset({"tools", "prompts"}))
    assert sorted(told, key=str) == [("*", "tools"), ("measures", "tools"), ("units", "tools"), (None, "tools")]


async def test_only_those_are_told_who_may_see_what_changed() -> None:
    feed = ChangeFeed()
    told: list[str] = []
    for subject in ("ann", "bob"):
        feed.subscribe(EVERYTHING, TOOLS, lambda _, subject=subject: told.append(subject), Principal(subject))
    feed({"units"}, TOOLS, lambda principal: principal.subject == "bob")
    assert told == ["bob"]


async def test_a_thousand_changes_of_everything_are_told_at_once_and_once_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(changes, "REST_S", 0.01)
    feed = ChangeFeed()
    told: list[str] = []
    twice = asyncio.Event()

    def tell(kind: str) -> None:
        told.append(kind)
        if len(told) == 3:
            twice.set()

    subscription = feed.subscribe(EVERYTHING, frozenset({"tools", "prompts"}), tell)
    for _ in range(1_000):
        feed({"units"}, TOOLS)
    feed({"units"}, frozenset({"prompts"}))
    assert told == ["tools", "prompts"]
    async with asyncio.timeout(10):
        await twice.wait()
    assert told == ["tools", "prompts", "tools"]
    subscription.end()


async def test_a_subscription_that_has_ended_is_told_nothing_that_was_held_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(changes, "REST_S", 0.01)
    feed = ChangeFeed()
    told: list[str] = []
    other = asyncio.Event()
    ended = feed.subscribe(EVERYTHING, TOOLS, told.append)
    feed({"units"}, TOOLS)
    feed({"units"}, TOOLS)
    ended.end()
    count = 0

    def tell(_: str) -> None:
        nonlocal count
        count += 1
        if count == 2:
            other.set()

    later = feed.subscribe(EVERYTHING, TOOLS, tell)
    feed({"units"}, TOOLS)
    feed({"units"}, TOOLS)
    async with asyncio.timeout(10):
        await other.wait()
    later.end()
    assert told == ["tools"]
    assert repr(feed) == "ChangeFeed(0 listening)"
