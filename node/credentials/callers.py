"""The tokens with which callers came in at this very node, for servers that want them exchanged (`subject: token`).

In memory only, bounded, and known by the principal that they proved: never sent to a server or to another node.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable

from proto.records import Principal

TOKENS_MAX = 10_000
"""Of more callers the ones who came longest ago are forgotten; they come in again with their next request."""


class CallerTokens:
    """`clock` gives unix seconds."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._kept: OrderedDict[tuple[str, ...], tuple[Principal, str]] = OrderedDict()

    def __repr__(self) -> str:
        return f"CallerTokens({len(self._kept)})"

    def keep(self, principal: Principal, token: str) -> None:
        """`principal` has just proved itself with this token. The newest one of a caller counts."""
        key = caller_of(principal)
        self._kept[key] = (principal, token)
        self._kept.move_to_end(key)
        while len(self._kept) > TOKENS_MAX:
            self._kept.popitem(last=False)

    def token(self, principal: Principal) -> str:
        """The newest that is good; empty: none. Equal rights alone do not do: it is the same caller's."""
        kept = self._kept.get(caller_of(principal))
        if kept is None:
            return ""
        proved, token = kept
        if proved.expires_s and proved.expires_s <= self._clock():
            del self._kept[caller_of(principal)]
            return ""
        return token


def caller_of(principal: Principal) -> tuple[str, ...]:
    """Equal for those who may stand for each other at an authorization server: who it is, by whom, with what rights.

    Two tokens of one person may differ in scopes: what was got for the one is none of the other's.
    """
    rights = ("\n".join(sorted(principal.scopes)), "\n".join(sorted(principal.groups)), "\n".join(principal.actors))
    return (*principal.identity, principal.kind, *rights)
