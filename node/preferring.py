"""Of tools that fit alike, which an agent should see first: nearer, steadier and quicker ones. Pure.

Worth a tenth of a standard deviation of the score at most: it orders what is nearly equal and moves nothing else.
"""

from __future__ import annotations

import math

from node.balance import Tier
from node.standing import Standing

NEAR = {Tier.NODE: 0.3, Tier.ZONE: 0.2, Tier.REGION: 0.1, Tier.FAR: 0.0}
AWAY = 1.0
DRAINING = 0.3
FAILING = 0.5
SLOW = 0.1
"""For every tenfold of `SLOW_MS`."""
SLOW_MS = 100.0


def preference(tier: Tier, *, up: bool, draining: bool, standing: Standing | None) -> float:
    """-1 to 1. `standing` is what this node has seen of the server's calls; None: it has called it never."""
    value = NEAR[tier]
    if not up:
        value -= AWAY
    elif draining:
        value -= DRAINING
    if standing is not None:
        value -= FAILING * standing.failing
        value -= SLOW * math.log10(max(1.0, standing.average_ms / SLOW_MS))
    return max(-1.0, min(1.0, value))
