"""What operators are shown of each peer."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from federation.events import Liveness
from federation.traffic import NO_TRAFFIC, NOTHING_YET, Rates, Totals
from proto.names import NodeId
from proto.records import NOTHING_KNOWN, RecordKey, Version

HISTORY_MAX = 16
"""Transitions kept of each peer, the latest."""

REJECTED_SHOWN = 100


class Transition(NamedTuple):
    """A peer became `state` at a wall time (unix ms); the cause is empty where it is alive."""

    at_ms: int
    state: Liveness
    cause: str


@dataclass(frozen=True, slots=True)
class PeerStatus:
    """One peer, or (`node` None) one address whose node is not known.

    How it fares: `since_ms` is how long the state has lasted, `heard_ms` how long ago its last frame came (None:
    never), `history` its latest `HISTORY_MAX` transitions, newest last. `rtt_ms`: from Hello to Welcome.

    What is held of it: `version`; `lag_seq`, the changes that it has spoken of and that are missing; `lag_s`, for how
    long what is held has not been known to be all: since the first missing change, or since it was last heard. So
    silence counts as lag, though no change may have been missed. `listed`: its tools are in listings.
    `hash_matches`: whether its view hash agreed when last compared (None: not yet). `rejected`: the first
    `REJECTED_SHOWN` of its `rejected_count` records that are refused here.

    What it holds of ours: `lacks`, the changes that it has not confirmed (None: it has not subscribed);
    `refused_there`, the records that it refuses.

    What it says of itself: `software`, `protocol` (0: no Welcome yet), `features` (those that both have), `load` calls
    in flight, `peer_lag_ms`, and `skew_ms`, its clock less ours, at its last beat. What its certificate says: `roles`
    and `certificate_expires` (UTC; None: not seen yet).
    """

    node: NodeId | None
    address: str
    state: Liveness
    cause: str = ""
    since_ms: int = 0
    heard_ms: int | None = None
    history: tuple[Transition, ...] = ()
    version: Version = NOTHING_KNOWN
    lag_seq: int = 0
    lag_s: float = 0.0
    records: int = 0
    tools: int = 0
    rejected: tuple[tuple[RecordKey, str], ...] = ()
    rejected_count: int = 0
    refused_there: tuple[tuple[RecordKey, str], ...] = ()
    hash_matches: bool | None = None
    last_error: str = ""
    skew_ms: int | None = None
    software: str = ""
    protocol: int = 0
    features: tuple[str, ...] = ()
    roles: tuple[str, ...] = ()
    certificate_expires: datetime | None = None
    rtt_ms: float | None = None
    listed: bool = True
    stale: bool = False
    load: float = 0.0
    peer_lag_ms: float = 0.0
    subscribed: bool = False
    rates: Rates = NO_TRAFFIC
    totals: Totals = NOTHING_YET
    lacks: int | None = None
