"""How much one caller may ask: the port that the guard enters before a call is sent and leaves when it has ended.

Keyed by who calls (`Principal.identity`) and by the server alone: a new session, connection, header or key of the same
principal is no new allowance.
"""

from __future__ import annotations

from typing import Protocol

from proto.records import Principal


class Lease(Protocol):
    def leave(self) -> None:
        """The call has ended, whatever became of it. Again is nothing; never raises."""


class Limits(Protocol):
    @property
    def weighs(self) -> bool:
        """Does any limit look at `size_bytes`? Else it need not be known."""

    def enter(
        self, principal: Principal, server: str, size_bytes: int, *, entry: bool = True, owner: bool = True
    ) -> Lease:
        """Count one call, or nothing of it where any limit refuses it.

        `entry`: the caller came in at this node, whose limits for principals count. `owner`: the server is this
        node's, whose limits for servers, and for each caller of one, count: calls from all entries meet there.
        `size_bytes` is the length of the parameters as JSON.

        Raises `Exhausted`: `data["limit"]` names the setting, `data["retry_after_s"]` says when the same call would
        pass, where waiting helps.
        """


class _NoLease:
    __slots__ = ()

    def leave(self) -> None:
        return


NO_LEASE: Lease = _NoLease()


class Unlimited:
    """The twin that counts nothing."""

    weighs = False

    def enter(
        self, principal: Principal, server: str, size_bytes: int, *, entry: bool = True, owner: bool = True
    ) -> Lease:
        return NO_LEASE
