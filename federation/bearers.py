"""Which processes bear one node's identity, told apart by the instance that each draws at its start. Pure.

Who restarts is followed by another instance, and is not heard again. An instance that still speaks long after another
was met lives beside it: two processes hold one identity, whatever their epochs.
"""

from __future__ import annotations

from dataclasses import dataclass

OVERLAP_MS = 12_000
"""The last words of a dead process come in for less: its stream is given up after 10 s without a frame."""

CONTEST_MS = 60_000
"""The later of two is refused for so long after the last word of the earlier: then the earlier has been stopped."""

BEARERS_MAX = 4
"""Processes remembered of one node, those that were heard last."""


@dataclass(slots=True)
class Bearer:
    """One process. `address`: where it was met, or says that it can be dialled; may be empty."""

    instance: bytes
    address: str
    first_ms: int
    last_ms: int

    def __str__(self) -> str:
        return self.address or f"an unknown address (instance {self.instance.hex()[:8]})"


class Bearers:
    """The processes that speak as one node. Instances of earlier releases are not known, and are never told apart."""

    def __init__(self, owner: str) -> None:
        self._owner = owner
        self._met: dict[bytes, Bearer] = {}
        self._contest: tuple[Bearer, Bearer] | None = None

    def heard(self, instance: bytes, address: str, now_ms: int) -> bytes:
        """A process speaks. Returns the instance that is to be refused from now on if that shows two, else b""."""
        if not instance:
            return b""
        refused = self._refused(now_ms)
        bearer = self._met.pop(instance, None) or Bearer(instance, address, now_ms, now_ms)
        bearer.last_ms, bearer.address = now_ms, address or bearer.address
        self._met[instance] = bearer
        if len(self._met) > BEARERS_MAX:
            del self._met[next(iter(self._met))]
        if len(self._met) == 1:
            return b""
        for other in self._met.values():
            if bearer.first_ms < other.first_ms <= now_ms - OVERLAP_MS:
                self._contest = (bearer, other)
                return other.instance if other.instance != refused else b""
        return b""

    def _refused(self, now_ms: int) -> bytes:
        if self._contest is None or now_ms - self._contest[0].last_ms >= CONTEST_MS:
            return b""
        return self._contest[1].instance

    def refusal(self, instance: bytes, now_ms: int) -> str:
        """Why this process is not listened to; empty if it is."""
        if self._contest is None or not instance or instance != self._refused(now_ms):
            return ""
        earlier, later = self._contest
        return (
            f"two processes bear the identity {self._owner}: one at {earlier}, and later one at {later}, which is "
            "refused; stop one of them, or issue it a certificate of its own"
        )

    def __repr__(self) -> str:
        return f"Bearers({len(self._met)} met{', contested' if self._contest else ''})"
