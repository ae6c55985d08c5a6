"""What the operator's side asks of a node, and the shapes of the answers. Missing facts are null, never guessed."""

from __future__ import annotations

from typing import NotRequired, Protocol, TypedDict

from node.operator.audited import AuditStatus
from node.operator.explained import Explanation
from node.operator.governed import GovernanceStatus
from node.operator.peers import AlarmStatus, PeerDetail, PeerStatus, RefusalStatus
from proto.records import Principal
from router.arguments import Search


class NodeStatus(TypedDict):
    """`started_at` is RFC 3339 in UTC; `http` and `grpc` are host:port as bound, `grpc` empty where alone.

    `advertised` is what peers are told instead of `grpc` (empty: they are told `grpc`).
    `certificate_expires_at` is when this node's own certificate ends (null where it runs alone).
    """

    name: str
    id: str
    region: str
    zone: str
    mesh: str
    version: str
    started_at: str
    http: str
    grpc: str
    advertised: NotRequired[str]
    draining: bool
    loaded: bool
    certificate_expires_at: str | None


class ServerStatus(TypedDict):
    """`name` as it is addressed (the bare name unless it is ambiguous), `state` is starting, up, down or unknown.
    `description`, where servers are asked for: what it is for, at most 2,000 characters of it."""

    name: str
    qualified: str
    owner: str
    region: str
    state: str
    cause: str
    tools: int
    service: str
    stateless: bool
    description: NotRequired[str]


class DiscoveryStatus(TypedDict):
    """One way to find peers: `name` is static, mdns or etcd; `problem` is empty if all is well."""

    name: str
    problem: str


class FeedbackStatus(TypedDict):
    """`own` entries learned here and `foreign` ones heard from `peers`, about so many `tools`; `learned` counts the
    successful calls that taught something since the start."""

    own: int
    foreign: int
    peers: int
    tools: int
    learned: int


class FeedbackReset(TypedDict):
    """How many entries were `forgotten`, those heard from peers included."""

    forgotten: int


class VectorsStatus(TypedDict):
    """Where vectors are kept (`place`: a directory or a URL; `state`: ready, away or closed) and came from since the
    start, by text. `waiting`: to be written; `dropped`: too many waited. `not_believed`: peers that sent what cannot
    be a vector."""

    place: str
    state: str
    problem: str
    waiting: int
    dropped: int
    swept: int
    disk_bytes: int
    from_store: int
    from_peers: int
    computed: int
    lent: int
    not_believed: list[str]


class SearchStatus(TypedDict):
    """`mode` is hybrid or lexical; `problem` says why it is lexical. No `feedback`: it is off. No `vectors`: words
    only."""

    mode: str
    embedder: str
    tools: int
    embedded: int
    pending: int
    problem: str
    feedback: NotRequired[FeedbackStatus]
    vectors: NotRequired[VectorsStatus]


class Totals(TypedDict):
    """`tools` of all servers known here; calls since the start that entered here, by outcome.

    Of agents at this node, now: `sessions` of those before MCP 2026-07-28, `streams` for what is of no call, two-way
    `connections`.
    """

    servers: int
    tools: int
    calls: int
    failed: int
    in_flight: NotRequired[int]
    sessions: NotRequired[int]
    streams: NotRequired[int]
    connections: NotRequired[int]


class Status(TypedDict):
    """`refusals` and `alarms` are the latest between this node and others, newest first, 64 at most; alarms about the
    audit come first. No `audit`: none is kept. `governance` is what authorities have laid down, in force here."""

    node: NodeStatus
    peers: list[PeerStatus]
    servers: list[ServerStatus]
    search: SearchStatus
    totals: Totals
    discovery: list[DiscoveryStatus]
    refusals: list[RefusalStatus]
    alarms: list[AlarmStatus]
    audit: NotRequired[AuditStatus]
    governance: NotRequired[GovernanceStatus]


class DrainStatus(TypedDict):
    """`in_flight` calls run still, `for_peers` of them from other nodes; `sessions` are those of agents of the legacy
    era, which last until the node stops. `done`: nothing runs, and peers have ceased to send.
    """

    draining: bool
    in_flight: int
    for_peers: int
    sessions: int
    done: bool


class LeaveStatus(TypedDict):
    """`left`: the peers `told` have taken the goodbye, those `untold` could not be told, and the process ends. Else
    calls run still (as in `DrainStatus`), and the node goes on draining.
    """

    left: bool
    in_flight: int
    for_peers: int
    sessions: int
    told: list[str]
    untold: list[str]


class WhyHit(TypedDict):
    """What a hit's rank is made of, in weighted z-scores that add up to it; 0 where a part had no say.

    `words_rank` and `meaning_rank` are its places among the candidates by either, from 1; 0: not among them.
    """

    words: float
    meaning: float
    server: float
    clauses: float
    name: float
    feedback: float
    preference: float
    words_rank: int
    meaning_rank: int


class SearchHit(TypedDict):
    """`server` is the name to call it by; `signature` its compact form; `health` the owning server's state. Of
    `description` and `signature` there are at most 4,000 characters.

    `kind` is tool, prompt, resource or template. `owner` is the node shown; `replicas` names every owner of the same
    tool once, `owner` included, in order; `alike` servers with nearly the same tool. `why_not`: why it cannot be used
    now. `why` is there if it was asked for.
    """

    server: str
    tool: str
    kind: str
    title: NotRequired[str]
    description: str
    signature: str
    score: float
    owner: str
    region: str
    health: str
    replicas: list[str]
    alike: list[str]
    why_not: NotRequired[str]
    why: NotRequired[WhyHit]


class SearchAnswer(TypedDict):
    """`confidence` is high, medium, low or none (nothing seems to fit). `searched`: how many the caller may see.
    `signals`, if it was asked why, are what the label is made of (`router.confidence.Signals`), and `likely`.

    `unusable` would be among the hits if they could be used; `instead` is the prompt or resource that fits where no
    tool does.
    """

    query: str
    mode: str
    confidence: str
    took_ms: float
    searched: int
    signals: dict[str, float]
    hits: list[SearchHit]
    unusable: list[SearchHit]
    instead: SearchHit | None


class CallStatus(TypedDict):
    """One finished call, without its arguments: `node.ports.CallRecord` says what the fields are."""

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
    issuer: str
    tenant: str
    principal_kind: str
    actors: tuple[str, ...]
    credential: str
    side: str
    rule: str


class Operator(Protocol):
    """A node as its operators see it. Raises `MeshError`s."""

    def ready(self) -> str:
        """Empty when agents can be served; otherwise the reason why not yet (or no longer)."""

    def status(self) -> Status: ...

    async def search(self, asked: Search, k: int, principal: Principal, *, explain: bool = False) -> SearchAnswer:
        """What `principal` may see and use, best first, at most `k` hits."""

    def servers(self, principal: Principal) -> list[ServerStatus]:
        """The servers that `principal` may see, in the whole mesh."""

    def calls(self, most: int) -> list[CallStatus]:
        """The latest calls that passed this node, newest first, at most `most`."""

    def software(self) -> str:
        """What this node runs."""

    def peers(self) -> list[PeerStatus]:
        """By id, then addresses where no node could be made out."""

    def peer(self, name: str) -> PeerDetail:
        """One peer by name, or one address where no node could be made out. Raises `Invalid` naming those that are."""

    def explain(self, server: str, tool: str, principal: str, asker: Principal) -> Explanation:
        """Why `tool` is (not) visible to the principal of that name (empty: the asker), and where a call would go.

        Without `server`, `tool` is what a person typed: SERVER/TOOL, SERVER__TOOL, a server or a tool. Raises
        `Invalid` for a principal that nobody knows.
        """

    async def metrics(self) -> tuple[bytes, str]:
        """An exposition for Prometheus, and its content type."""

    async def drain(self, on: bool, wait_s: float) -> DrainStatus:
        """Send new work elsewhere, or take it again; returns once no call runs, after `wait_s` seconds at most."""

    async def reset_feedback(self) -> FeedbackReset:
        """Forget what use has taught. Raises `Invalid` where feedback is off."""

    async def leave(self, wait_s: float, cut: bool) -> LeaveStatus:
        """Drain for `wait_s` seconds at most, tell every peer that this node leaves for good, and end the process.

        Calls that run still keep it from leaving, unless they may be `cut`. Raises `Conflict` if it runs alone.
        """
