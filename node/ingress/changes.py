"""Who wants to know when a list behind an address changes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from typing import Any

from node.ports import EVERYTHING
from proto.records import ANONYMOUS, Principal

KINDS = ("tools", "prompts", "resources")
NOTICE = {kind: f"notifications/{kind}/list_changed" for kind in KINDS}
REST_S = 1.0
"""At `/mcp-all`, where every server counts, one kind of change is told once in this time: the first at once, and what
came meanwhile afterwards. Each makes a client list everything again, and a mesh that starts changes a thousand times.
"""


class Subscription:
    """One stream's or session's interest, until `end`."""

    __slots__ = ("_feed", "_resting", "kinds", "name", "notify", "principal")

    def __init__(
        self,
        feed: ChangeFeed,
        name: str | None,
        kinds: frozenset[str],
        notify: Callable[[str], None],
        principal: Principal,
    ) -> None:
        self._feed = feed
        self._resting: dict[str, _Rest] | None = {} if name == EVERYTHING else None
        self.name = name
        self.principal = principal
        self.kinds = kinds
        self.notify = notify

    def end(self) -> None:
        self._feed.remove(self)
        for rest in (self._resting or {}).values():
            rest.timer.cancel()

    def changed(self, kind: str) -> None:
        if self._resting is None:
            self.notify(kind)
        elif (rest := self._resting.get(kind)) is not None:
            rest.again = True
        else:
            self._resting[kind] = _Rest(asyncio.get_running_loop().call_later(REST_S, self._rested, kind))
            self.notify(kind)

    def _rested(self, kind: str) -> None:
        if self._resting is not None and self._resting.pop(kind).again:
            self.changed(kind)


class _Rest:
    """Time in which one kind of change is not told. `again`: there was another meanwhile."""

    __slots__ = ("again", "timer")

    def __init__(self, timer: asyncio.TimerHandle) -> None:
        self.timer = timer
        self.again = False


class ChangeFeed:
    """A `ChangeListener` that fans out by address. `/mcp-all` hears of every server, `/mcp` if it promised to tell."""

    def __init__(self) -> None:
        self._by_name: dict[str | None, dict[Subscription, None]] = {}

    def __repr__(self) -> str:
        return f"ChangeFeed({sum(map(len, self._by_name.values()))} listening)"

    def subscribe(
        self, name: str | None, kinds: frozenset[str], notify: Callable[[str], None], principal: Principal = ANONYMOUS
    ) -> Subscription:
        """`notify(kind)` on every change of one of `kinds` at `name` that `principal` may see. It must not block."""
        subscription = Subscription(self, name, kinds, notify, principal)
        self._by_name.setdefault(name, {})[subscription] = None
        return subscription

    def remove(self, subscription: Subscription) -> None:
        listening = self._by_name.get(subscription.name, {})
        listening.pop(subscription, None)
        if not listening:
            self._by_name.pop(subscription.name, None)

    def __call__(
        self, names: Collection[str] | None, kinds: frozenset[str], seen_by: Callable[[Principal], bool] | None = None
    ) -> None:
        for name in (*names, EVERYTHING, None) if names is not None else tuple(self._by_name):
            for subscription in list(self._by_name.get(name, ())):
                if seen_by is not None and not seen_by(subscription.principal):
                    continue
                for kind in KINDS:
                    if kind in kinds and kind in subscription.kinds:
                        subscription.changed(kind)


def promised(described: dict[str, Any], name: str | None) -> tuple[dict[str, Any], frozenset[str]]:
    """(capabilities as this edge keeps them, kinds of lists whose changes it tells).

    Changes of a named address are always told; those of `/mcp` where it says so itself.
    """
    capabilities = dict(described.get("capabilities") or {})
    told = set()
    for kind in KINDS:
        capability = capabilities.get(kind)
        if not isinstance(capability, dict):
            continue
        if name is not None:
            capabilities[kind] = capability = {**capability, "listChanged": True}
        if capability.get("listChanged") is True:
            told.add(kind)
    return capabilities, frozenset(told)
