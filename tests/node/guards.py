"""Guards for tests of what is behind them."""

from __future__ import annotations

from collections.abc import Sequence

from node.guard.keys import EVERY_SERVER, ApiKey
from node.guard.mesh import MeshGuard
from node.guard.reach import Reaches


class KeyGuard(MeshGuard):
    """Where keys alone decide: no governance, no policies, no limits."""

    def __init__(self, keys: Sequence[ApiKey], mesh: str, peers: Sequence[str] = EVERY_SERVER) -> None:
        super().__init__("eu-1", Reaches.of(mesh, keys, peers))
