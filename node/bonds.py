"""Which owner holds the state of a session: kept until it is lost, and its loss told once. Pure.

A session is bound when its first call is sent. Should that owner refuse it before anything ran, the bond is let go
of, and the call may go elsewhere; from the first call on that may have run, only the owner's loss ends the bond.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass

BONDS_MAX = 50_000
"""Beyond it the session that called longest ago is forgotten: its next call may find another owner, and no state."""


@dataclass(slots=True)
class Bond:
    """`server` is a qualified name and `life` the life of it that holds the state; `proven`: a call may have run."""

    server: str
    life: Hashable
    proven: bool = False
    running: int = 0


class Bonds:
    """By (session, service)."""

    def __init__(self, bonds_max: int = BONDS_MAX) -> None:
        self._max = bonds_max
        self._held: OrderedDict[tuple[str, str], Bond] = OrderedDict()

    def __repr__(self) -> str:
        return f"Bonds({len(self._held)} sessions)"

    def find(self, session: str, service: str) -> Bond | None:
        bond = self._held.get((session, service))
        if bond is not None:
            self._held.move_to_end((session, service))
        return bond

    def tie(self, session: str, service: str, server: str, life: Hashable) -> Bond:
        bond = self._held[session, service] = Bond(server, life)
        if len(self._held) > self._max:
            self._held.popitem(last=False)
        return bond

    def untie(self, session: str, service: str) -> None:
        self._held.pop((session, service), None)

    def refused(self, session: str, service: str) -> bool:
        """The owner refused a call of the session before it ran: whether another owner may be asked instead.

        Not where an earlier call ran, nor while another one is under way and may yet run there.
        """
        bond = self._held.get((session, service))
        if bond is None:
            return True
        if bond.proven or bond.running:
            return False
        self.untie(session, service)
        return True
