"""What the operator's side asks of a node, and the shapes of the answers. Missing facts are null, never guessed."""

from __future__ import annotations

from typing import NotRequired, Protocol, TypedDict

from proto.records import Principal


class NodeStatus(TypedDict):
    """`started_at` is RFC 3339 in UTC; `http` and `grpc` are host:port as bound, `grpc` empty where alone."""

    name: str
    id: str
    region: str
    zone: str
    mesh: str
    version: str
    started_at: str
    http: str
    grpc: str
    draining: bool
    loaded: bool
    certificate_expires_at: NotRequired[str | None]


class PeerStatus(TypedDict):
    """`state` is alive, suspect, unreachable, down, draining or left; `since_s` is how long."""

    name: str
    region: str
    address: str
    state: str
    cause: str
    since_s: float
    epoch: int
    seq: int
    lag_changes: int | None
    lag_s: float | None
    tools: int
    rejected: int
    last_error: str
    software: str
    skew_ms: float | None
    rtt_ms: float | None
    certificate_expires_at: NotRequired[str | None]


class ServerStatus(TypedDict):
    """`name` as it is addressed (the bare name unless it is ambiguous), `state` is starting, up, down or unknown."""

    name: str
    qualified: str
    owner: str
    region: str
    state: str
    cause: str
    tools: int
    service: str
    stateless: bool


class SearchStatus(TypedDict):
    """`mode` is hybrid or lexical; `problem` says why it is lexical."""

    mode: str
    embedder: str
    tools: int
    embedded: int
    pending: int
    problem: str


class Totals(TypedDict):
    """`tools` of all servers known here; calls since the start that entered here, by outcome."""

    servers: int
    tools: int
    calls: int
    failed: int
    in_flight: NotRequired[int]


class Status(TypedDict):
    node: NodeStatus
    peers: list[PeerStatus]
    servers: list[ServerStatus]
    search: SearchStatus
    totals: Totals


class SearchHit(TypedDict):
    """`server` is the name to call it by; `signature` its compact form; `health` the owning server's state.

    `owner` is the node shown; `replicas` names every owner of the same tool once, `owner` included, in order.
    """

    server: str
    tool: str
    title: NotRequired[str]
    description: str
    signature: str
    score: float
    owner: str
    region: str
    health: str
    replicas: list[str]


class SearchAnswer(TypedDict):
    """`confidence` is high, medium, low or none (nothing seems to fit)."""

    query: str
    mode: str
    confidence: str
    took_ms: float
    hits: list[SearchHit]


class CallStatus(TypedDict):
    """One finished call, without its arguments. `outcome` is ok, tool_error, cancelled, or a `MeshError`'s kind."""

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


class Operator(Protocol):
    """A node as its operators see it. Raises `MeshError`s."""

    def ready(self) -> str:
        """Empty when agents can be served; otherwise the reason why not yet (or no longer)."""

    def status(self) -> Status: ...

    async def search(self, query: str, k: int, principal: Principal) -> SearchAnswer:
        """What `principal` may see, best first, at most `k` hits."""

    def servers(self, principal: Principal) -> list[ServerStatus]:
        """The servers that `principal` may see, in the whole mesh."""

    def calls(self, most: int) -> list[CallStatus]:
        """The latest calls that passed this node, newest first, at most `most`."""
