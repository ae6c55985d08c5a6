"""The seams of a node: who is calling, what they may do, and what stands behind an address that agents dial."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Hashable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, NamedTuple, Protocol

from proto.calls import Answer, Call, Exchange
from proto.errors import Unauthenticated
from proto.names import NodeId
from proto.records import ANONYMOUS, Decision, Principal

EVERYTHING = "*"
"""The address `/mcp-all`: all that the caller may see. No server can be named so."""


class Action(StrEnum):
    SEARCH = "search"
    LIST = "list"
    CALL = "call"
    READ = "read"
    ADD = "add"
    ADMINISTER = "administer"


@dataclass(frozen=True, slots=True, eq=False)
class Resource:
    """What an action is about: something that a server offers, a server as a whole, or a node.

    Itself and no other: what was decided of it is remembered by the object, which lives as long as its definition.

    `kind` is one of `tool`, `prompt`, `resource`, `template`, `server`, `node`; `tool` is the name of what is offered
    (of a resource its URI, of a template the template), empty for a server and a node. `tenant` is whose the server
    is (empty: everybody's), `teams` the groups of that tenant that it is there for (none: all of it). `annotations`
    are the hints of a tool, as its server gives them (MCP `ToolAnnotations`): `readOnly`, `destructive`, `idempotent`,
    `openWorld`. `scopes` are all those that using it takes. `template` is what a URI that is not listed was made by, if
    the server lists such a template. What is not `listed` is a caller's word, of any length: it is remembered nowhere.
    """

    server: str
    owner: str
    region: str = ""
    tool: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    kind: str = "server"
    tenant: str = ""
    teams: tuple[str, ...] = ()
    service: str = ""
    annotations: Mapping[str, bool] = field(default_factory=dict)
    scopes: tuple[str, ...] = ()
    template: Resource | None = None
    listed: bool = True


class Visibility(Protocol):
    """A filter over the registry for one principal and one action.

    `key` is equal for filters that let the same things through (policy class and version), so that what was
    computed for one caller may be kept for the next of the same class.
    """

    @property
    def key(self) -> Hashable: ...

    def allows(self, resource: Resource) -> bool: ...


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a caller presented, transport-neutral.

    `basic` is `USER:PASSWORD`, `certificate` the DER that the TLS handshake has verified, `peer` the remote address,
    `resource` the path of the URL asked for, which a token may be bound to (RFC 8707).
    """

    bearer: str = field(default="", repr=False)
    basic: str = field(default="", repr=False)
    api_key: str = field(default="", repr=False)
    certificate: bytes = field(default=b"", repr=False)
    peer: str = ""
    resource: str = ""


class ProofEnded(Unauthenticated):
    """What was shown is genuine, and its time is over: its holder comes back with a newer one, and guesses nothing."""


class Authenticator(Protocol):
    async def authenticate(self, credentials: Credentials) -> Principal:
        """Who this is; never guesses.

        Raises `Unauthenticated`, `ScopeRequired` where the issuer of a token is only taken with certain scopes, and
        `Exhausted` or `Unavailable` where it cannot be found out now.
        """

    def valid(self, principal: Principal) -> bool:
        """Is what proved this principal, here or at another node, neither revoked nor past its end? Takes ~1 µs."""

    def principals(self) -> Mapping[str, Principal]:
        """Everyone who can be named beforehand, by name: for operators' questions."""


class Lease(Protocol):
    """A place among what runs at once."""

    def leave(self) -> None:
        """Give it back; a second time it does nothing. Never raises."""


@dataclass(frozen=True, slots=True)
class Admission:
    """A call may run: `call` is what was decided on and what is to be sent, `allowed` at which of the resources."""

    call: Call
    decision: Decision
    allowed: tuple[Resource, ...]
    lease: Lease | None = None


class CallRecord(NamedTuple):
    """One finished call: who asked what of whom, where it ran, how it went. No arguments.

    `subject`, `issuer`, `tenant`, `principal_kind`, `actors` and `credential` are the principal's. `tool` is what was
    named (a tool, a prompt, a URI), or empty. `entry` is the node that the call came in at; `side` is `entry` where
    that is this node, otherwise `owner`. `outcome` is `ok`, `tool_error`, `cancelled`, or a `MeshError`'s kind; `rule`
    is the guard's. `took_ms` counts from the guard's first question to the end.
    """

    at_ms: int
    call_id: str
    subject: str
    server: str
    method: str
    tool: str
    entry: str
    owner: str
    region: str
    outcome: str
    took_ms: float
    attempts: int
    issuer: str = ""
    tenant: str = ""
    principal_kind: str = ""
    actors: tuple[str, ...] = ()
    credential: str = ""
    side: str = "entry"
    rule: str = ""


@dataclass(frozen=True, slots=True)
class Ended:
    """What became of a call. `decision` is None where nothing was decided, `answer` where there was none.

    A call that was refused has a decision that does not allow it; its `reason` is for operators, whatever the caller
    was told.
    """

    record: CallRecord
    decision: Decision | None = None
    answer: Answer | None = None
    lease: Lease | None = None


class Guard(Protocol):
    """Asked at every place where something could leak or run. Fails closed."""

    def visible(self, principal: Principal, action: Action) -> Visibility:
        """The filter for lists, search and lookup alike.

        It lets through what the action is permitted for and what using it (`call`, or `read` where nothing is called)
        is not surely refused: arguments or a scope may still be missing.
        """

    def explain(self, principal: Principal, action: Action, resource: Resource) -> Decision:
        """What `visible` decides of this resource, and by which rule; `reason` says why not. For operators only."""

    def may(self, principal: Principal, action: Action, resource: Resource) -> Decision:
        """Whether the principal may do this now, scopes included; for acts without arguments. Never raises."""

    async def admit(self, call: Call, *resources: Resource) -> Admission:
        """Before anything is sent: may this call run, and at which of the resources that could run it?

        `call` is the inner call, already unwrapped. Changes to its arguments are made here, and what is decided on is
        what they leave. Raises `Forbidden` (shown as unknown), `ScopeRequired` naming every missing scope, `Invalid`
        for arguments that are not permitted at what the caller may see, `Exhausted` or `Unavailable`; the `rule` of
        the error is the guard's.
        """

    async def result(self, call: Call, answer: Answer) -> Answer:
        """The answer as this caller may see it."""

    def settle(self, call: Call, ended: Ended) -> None:
        """After the end, whatever it was, once for each `admit`: leases, records. Never raises, never blocks."""


@dataclass(frozen=True, slots=True)
class Caller:
    """What an ingress knows of the agent behind one request.

    `session_key` is stable for the caller's session, or, without sessions, for its principal. `era` is the MCP
    revision it speaks, `trace` its W3C trace context.
    """

    principal: Principal = ANONYMOUS
    era: str = ""
    session_key: str = ""
    client_capabilities: dict[str, Any] = field(default_factory=dict)
    trace: Mapping[str, str] = field(default_factory=dict)


class Endpoint(Protocol):
    """What an agent reaches at one path: the meta-tools, one server passed through, or all of them.

    The ingress has done the protocol (envelopes, sessions, headers); an endpoint answers methods.
    """

    def describe(self, caller: Caller) -> dict[str, Any]:
        """`{"serverInfo", "capabilities", "instructions"?}` for initialize and server/discover.

        The capabilities are those that can be kept towards a client of the caller's era.
        Raises `Unknown` where the caller may not see what stands here.
        """

    async def handle(self, method: str, params: dict[str, Any], caller: Caller, exchange: Exchange) -> Answer:
        """Answer one request (not initialize, ping, discover, subscriptions: those are the ingress's own).

        Raises any `MeshError`; `Unknown` with `data["method"]` set for a method that does not exist here.
        """

    async def listen(self, params: dict[str, Any], caller: Caller, exchange: Exchange) -> Answer:
        """A long-lived `subscriptions/listen`, in the one form that it has between edge and server.

        `params` is `{"notifications": {"resourceSubscriptions"?: [uri], …}, "_meta"?: {…/logLevel}}`, without list
        changes, which `Endpoints.subscribe_changes` tells. The first event is
        `notifications/subscriptions/acknowledged` with what is honoured in `params.notifications`; what the server
        says comes after it, without a subscription's id. Ends with an answer when the server ends it, or by
        cancellation. Raises any `MeshError`.
        """

    async def notify(self, method: str, params: dict[str, Any], caller: Caller) -> None:
        """Pass on a client's notification (`notifications/…`) to where the caller's calls have been; else to nobody.

        Not for cancelled, initialized and what else concerns the client's connection. Raises any `MeshError`.
        """


class Endpoints(Protocol):
    def endpoint(self, name: str | None) -> Endpoint:
        """By path: None is `/mcp`, `EVERYTHING` is `/mcp-all`, otherwise `/mcp/{name}`.

        Raises `Unknown`, `Conflict` or `Invalid`.
        """

    async def started(self, name: str | None, principal: Principal) -> None:
        """Until what stands there can be described to this caller, should it be coming up; for a bounded time.

        Never raises: `describe` says what there is, or why not.
        """

    def subscribe_changes(self, listener: ChangeListener) -> None: ...

    def unsubscribe_changes(self, listener: ChangeListener) -> None: ...


class ChangeListener(Protocol):
    def __call__(
        self, names: Collection[str] | None, kinds: frozenset[str], seen_by: Callable[[Principal], bool] | None = None
    ) -> None:
        """The lists of the server that bears all these `names` changed; None: of any server. Must not block.

        `kinds` holds `tools`, `prompts`, `resources`. Other servers may bear one of the names too; `seen_by` says who
        may see the one that changed (None: everyone).
        """


class Carrier(Protocol):
    """How nodes ask each other; `me` is this node's name."""

    @property
    def me(self) -> str: ...

    def handle(self, method: str, handler: Callable[[Call, Exchange, NodeId], Awaitable[Answer]]) -> None:
        """`handler` answers what nodes `carry` here with `method`."""

    async def carry(
        self,
        node: str,
        method: str,
        params: dict[str, Any],
        caller: Caller,
        exchange: Exchange,
        *,
        budget_ms: int = ...,
    ) -> Answer:
        """Raises `Unavailable` where the node cannot be reached now, `Unknown` where there is none, any `MeshError`."""
