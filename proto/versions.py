"""Which wire contract this build speaks, and what two nodes that speak different ones have in common.

The protocol number changes where an older build would misread a newer one; two nodes without a common number refuse
each other by name. Everything smaller is a feature: a word in Hello and Welcome, used only where both said it.
"""

from __future__ import annotations

from collections.abc import Iterable

PROTOCOL_MIN = 1
PROTOCOL_MAX = 1

REFUSE = "refuse"
"""Takes `SyncUp.refuse`: why a receiver ends the stream. Builds without it end the stream themselves on that frame."""

LONG_MESSAGES = "long-messages"
"""Takes notifications, requests and replies of a call in chunks too, said in the metadata of Forward as well."""

FEATURES: frozenset[str] = frozenset({REFUSE, LONG_MESSAGES})
FEATURES_MAX = 64
"""Words of a peer that are looked at; more are ignored."""


def agreed(protocol_min: int, protocol_max: int) -> int | None:
    """The highest protocol that a peer of this range and this build share, or None."""
    highest = min(protocol_max, PROTOCOL_MAX)
    return highest if highest >= max(protocol_min, PROTOCOL_MIN) else None


def common(features: Iterable[str]) -> frozenset[str]:
    """What both sides have: the only features that may be used on the stream."""
    return FEATURES & frozenset(features)
