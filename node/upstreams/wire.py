"""The seam between JSON-RPC and what carries it: a process's pipes, or HTTP."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Protocol

from proto.errors import Unavailable

logger = logging.getLogger("toolmesh.upstreams")

Message = dict[str, Any]
"""A JSON-RPC 2.0 object: request, notification or response."""

TURN_MESSAGES = 64
"""Of those that come in one read so many are handed over in one turn of the loop. Whoever writes them on to a client
has room for a few hundred, and a server may well say thousands of things in one breath."""


class SessionLost(Unavailable):
    """The server no longer knows our session, so it has run nothing: shake hands again and repeat."""


class Sink(Protocol):
    """Where a wire puts what it hears."""

    def received(self, message: Any, related: int | None = None) -> None:
        """One parsed JSON value. `related` is our request on whose own stream it came, where the wire can tell."""

    def unreadable(self, request_id: int | None, why: str) -> None:
        """Something came that cannot be taken; it would have answered `request_id`, if that is known."""

    def lost(self, cause: str) -> None:
        """The connection is gone. Only the first call counts."""


class Wire(Protocol):
    """One connection to a server. Built closed, opened once, closed once."""

    async def open(self, sink: Sink) -> None:
        """Raises `Unavailable` with a cause that a person can act on."""

    async def carry(self, message: Message, sent: Callable[[], None]) -> None:
        """Hand over one message. `sent` is called just before its first byte leaves.

        Returns once it was written or, where answers come with the request (HTTP), once the answer has gone to
        the sink. Raises `Unavailable` (nothing left), `SessionLost`, or `OutcomeUnknown`.
        """

    async def agreed(self, protocol_version: str) -> None:
        """The handshake is done; this version is spoken from here on."""

    def renew(self) -> None:
        """Forget the session: the next message is `initialize` again."""

    def last_words(self) -> str:
        """What the server said last outside the protocol (a line of stderr), for causes. May be empty."""

    async def close(self) -> None:
        """Let go of everything, within bounded time. Never raises."""
