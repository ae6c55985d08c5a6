"""What has disturbed whom, and when: an undisturbed peer must never be suspected, and a doubt must end."""

from __future__ import annotations

SETTLE_MS = 8_000
"""After a disturbance of either, two nodes hear each other again within this: a pause, a dial, a beat.

Whoever was frozen meanwhile has had less: what it was awake for counts.
"""


class Calm:
    """Latest disturbances by node and by pair of nodes, in the world's milliseconds; some reach into the future."""

    def __init__(self) -> None:
        self._nodes: dict[str, int] = {}
        self._pairs: dict[frozenset[str], int] = {}

    def disturb(self, name: str, until_ms: int) -> None:
        self._nodes[name] = max(self._nodes.get(name, 0), until_ms)

    def disturb_pair(self, a: str, b: str, until_ms: int) -> None:
        pair = frozenset((a, b))
        self._pairs[pair] = max(self._pairs.get(pair, 0), until_ms)

    def since_ms(self, name: str) -> int:
        return self._nodes.get(name, 0)

    def between_since_ms(self, a: str, b: str) -> int:
        return self._pairs.get(frozenset((a, b)), 0)
