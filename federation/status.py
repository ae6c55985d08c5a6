"""What operators are shown of each peer."""

from __future__ import annotations

from dataclasses import dataclass

from federation.events import Liveness
from proto.names import NodeId
from proto.records import NOTHING_KNOWN, RecordKey, Version


@dataclass(frozen=True, slots=True)
class PeerStatus:
    """One peer, or (`node` None) one address whose node is not known.

    `since_ms` is how long the state has lasted. `version` is what is held here, `lag_seq` the changes known to be
    missing, `lag_s` for how long some have been. `skew_ms`: its clock less ours, at its last beat. `rtt_ms`: from
    Hello to Welcome. `rejected`: its records that are refused here. `refused_there`: ours that it refuses.
    `listed`: its tools are in listings. Times of the peer's own: `load` calls in flight, `peer_lag_ms`.
    """

    node: NodeId | None
    address: str
    state: Liveness
    cause: str = ""
    since_ms: int = 0
    version: Version = NOTHING_KNOWN
    lag_seq: int = 0
    lag_s: float = 0.0
    records: int = 0
    tools: int = 0
    rejected: tuple[tuple[RecordKey, str], ...] = ()
    refused_there: tuple[tuple[RecordKey, str], ...] = ()
    last_error: str = ""
    skew_ms: int | None = None
    software: str = ""
    rtt_ms: float | None = None
    listed: bool = True
    stale: bool = False
    load: float = 0.0
    peer_lag_ms: float = 0.0
    subscribed: bool = False
