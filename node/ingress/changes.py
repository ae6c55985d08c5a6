"""Who wants to know when a list behind an address changes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from node.ports import EVERYTHING
from proto.records import ANONYMOUS, Principal

KINDS = ("tools", "prompts", "resources")
NOTICE = {kind: f"notifications/{kind}/list_changed" for kind in KINDS}


class Subscription:
    """One stream's or session's interest, until `end`."""

    __slots__ = ("_feed", "kinds", "name", "notify", "principal")

    def __init__(
        self,
        feed: ChangeFeed,
        name: str | None,
        kinds: frozenset[str],
        notify: Callable[[str], None],
        principal: Principal,
    ) -> None:
        self._feed = feed
        self.name = name
        self.principal = principal
        self.kinds = kinds
        self.notify = notify

    def end(self) -> None:
        self._feed.remove(self)


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

    def __call__(self, server: str, kinds: frozenset[str], seen_by: Callable[[Principal], bool] | None = None) -> None:
        for name in (server, EVERYTHING, None):
            for subscription in list(self._by_name.get(name, ())):
                if seen_by is not None and not seen_by(subscription.principal):
                    continue
                for kind in KINDS:
                    if kind in kinds and kind in subscription.kinds:
                        subscription.notify(kind)


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
