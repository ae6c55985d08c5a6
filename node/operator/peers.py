"""The shapes in which operators are shown peers, refusals and alarms. Times of day are RFC 3339 in UTC."""

from __future__ import annotations

from typing import TypedDict


class PeerStatus(TypedDict):
    """One peer, or (`name` empty) an address where no node could be made out.

    `state` is alive, suspect, unreachable, down, draining or left; `since_s` is how long. `heard_s` is how long ago
    its last word came. `lag_changes` are changes that it has spoken of and that are missing here, `lag_s` for how
    long what is held has not been known to be all; `lacks` are changes of this node that it has not confirmed (null:
    it has not subscribed). `rejected` counts its records that are refused here, `refused_there` ours that it refuses.
    `listed`: its tools are in lists and search. `view_matches`: its hash over its records agreed with ours when last
    compared. Rates are per second over the last ten to twenty; the totals they come from count from the start.
    """

    name: str
    region: str
    address: str
    state: str
    cause: str
    since_s: float
    heard_s: float | None
    epoch: int
    seq: int
    lag_changes: int | None
    lag_s: float | None
    lacks: int | None
    tools: int
    listed: bool
    rejected: int
    refused_there: int
    view_matches: bool | None
    last_error: str
    software: str
    protocol: int
    skew_ms: float | None
    rtt_ms: float | None
    certificate_expires_at: str | None
    received_bytes_s: float
    sent_bytes_s: float
    calls_s: float


class RejectedRecord(TypedDict):
    kind: str
    id: str
    reason: str


class PeerChange(TypedDict):
    """The peer became `state` at that time; `cause` is empty where it is alive."""

    at: str
    state: str
    cause: str


class RefusalStatus(TypedDict):
    """`side` is who refused, here or there; `who` a node's URI where it is proved, else an address.

    `reason` is one word of `federation.refusals.Reason`, `count` how often in the time from `first_at` to `last_at`.
    """

    side: str
    who: str
    reason: str
    message: str
    first_at: str
    last_at: str
    count: int


class AlarmStatus(TypedDict):
    """Something that an operator has to know of; `name` is stable, `message` tells the mend."""

    about: str
    name: str
    message: str
    first_at: str
    last_at: str
    count: int


class PeerDetail(PeerStatus):
    """Everything known of one peer. The lists are the latest, or the first, 100 at most; the counts are whole.

    `own_calls` and `own_lag_ms` are the peer's own word: calls it runs, and how late its loop is.
    """

    id: str
    records: int
    features: list[str]
    roles: list[str]
    own_calls: float
    own_lag_ms: float
    rejected_records: list[RejectedRecord]
    refused_there_records: list[RejectedRecord]
    history: list[PeerChange]
    refusals: list[RefusalStatus]
    alarms: list[AlarmStatus]
