"""One call and its way back: the same words for a server next door and a server across the mesh."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from proto.records import ANONYMOUS, Principal

Answer = dict[str, Any]
"""What a server said: `{"result": …}` or `{"error": {"code", "message", "data"?}}`, exactly one of the two."""

Notification = dict[str, Any]
"""`{"method": …, "params"?: …}`"""

CHUNK_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class Call:
    """An MCP request on its way to the server that will run it.

    `server` is the bare name at its owner; `params` a JSON object, forwarded as it is. `budget_ms` is the time
    left. `tool_digest` is the definition that the caller saw (empty: any). `session_key` keeps the calls of one
    session, or of one principal, with one owner. `via` names the nodes passed through, entry node first.
    """

    call_id: str
    server: str
    method: str
    params: dict[str, Any]
    principal: Principal = ANONYMOUS
    budget_ms: int = 60_000
    era: str = ""
    tool_digest: bytes = b""
    session_key: str = ""
    client_capabilities: dict[str, Any] = field(default_factory=dict)
    via: tuple[str, ...] = ()
    trace: Mapping[str, str] = field(default_factory=dict)


class Exchange(Protocol):
    """The caller's side of a running call: where its server's messages go meanwhile."""

    def event(self, notification: Notification) -> None:
        """Pass on a notification (progress, log). Never blocks; progress tokens are the caller's own."""

    async def request(self, request: Notification) -> Answer:
        """Ask the client on the server's behalf. Raises `Unavailable` where the client cannot be asked."""


class Target(Protocol):
    """Whatever can run a call: an upstream server, or the peer that owns one."""

    async def call(self, call: Call, exchange: Exchange) -> Answer:
        """Run it. Cancelling the awaiting task cancels the call where it runs.

        Raises `Unavailable` (nothing was executed), `OutcomeUnknown` (it may have been), `Expired`,
        `Conflict` (another definition than `tool_digest`), or what a remote owner's guard raised.
        """


# ---- frames on a Forward stream ------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Open:
    """Run this. `chunked_bytes` above zero: `params` are still empty and follow in chunks, so long in all.

    `assertion` is the entry node's signed word about the caller, empty where TLS proves that node (`node.assertions`).
    """

    call: Call
    chunked_bytes: int = 0
    assertion: bytes = b""


@dataclass(frozen=True, slots=True)
class Accepted:
    """The owner has taken the call: from here on it may have run."""


@dataclass(frozen=True, slots=True)
class Event:
    """`chunked_bytes` above zero, here and below: the text is so long and travels in chunks, the field is empty."""

    notification: Notification
    chunked_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Request:
    request_id: int
    request: Notification
    chunked_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Withdrawn:
    """The server no longer wants the question answered."""

    request_id: int


@dataclass(frozen=True, slots=True)
class Reply:
    """The client's answer, or `failed`: why it could not be asked."""

    request_id: int
    answer: Answer = field(default_factory=dict)
    failed: Failed | None = None
    chunked_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Cancel:
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Query:
    """What became of this call id of this caller?"""

    principal: Principal = ANONYMOUS


@dataclass(frozen=True, slots=True)
class Chunk:
    """At most `CHUNK_BYTES` of a text too long for one frame."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Window:
    """Flow control: the sender of this frame takes so many more bytes of chunks for the call."""

    bytes: int


@dataclass(frozen=True, slots=True)
class Settled:
    """The owner ends the stream in order: what was sent on it and has no answer did not run. Of no call."""


@dataclass(frozen=True, slots=True)
class Result:
    """`text` is the answer as JSON; None: it is `chunked_bytes` long and came in chunks before this frame."""

    text: bytes | None
    chunked_bytes: int = 0
    repeated: bool = False


@dataclass(frozen=True, slots=True)
class Failed:
    """A `MeshError` raised at the owner."""

    kind: str
    message: str
    data: dict[str, Any] = field(default_factory=dict)


CallUp = Open | Reply | Cancel | Query | Window | Chunk
CallDown = Accepted | Event | Request | Withdrawn | Chunk | Result | Failed | Window | Settled
