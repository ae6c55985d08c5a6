"""Peers, refusals and alarms of the federation, in the shapes that operators are shown."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from itertools import islice

from federation.alarms import Raised
from federation.refusals import Refusal
from federation.status import PeerStatus as Peer
from node.operator.peers import AlarmStatus, PeerDetail, PeerStatus, RefusalStatus, RejectedRecord
from proto.records import RecordKey

REFUSALS_SHOWN = 64
RECORDS_SHOWN = 100


def peer_status(p: Peer) -> PeerStatus:
    known = p.node is not None
    return {
        "name": p.node.name if p.node else "",
        "region": p.node.region if p.node else "",
        "address": p.address,
        "state": str(p.state),
        "cause": p.cause,
        "since_s": round(p.since_ms / 1000, 1),
        "heard_s": None if p.heard_ms is None else round(p.heard_ms / 1000, 3),
        "epoch": p.version.epoch,
        "seq": p.version.seq,
        "lag_changes": p.lag_seq if known else None,
        "lag_s": round(p.lag_s, 3) if known else None,
        "lacks": p.lacks,
        "tools": p.tools,
        "listed": p.listed,
        "rejected": p.rejected_count,
        "refused_there": len(p.refused_there),
        "view_matches": p.hash_matches,
        "last_error": p.last_error,
        "software": p.software,
        "protocol": p.protocol,
        "skew_ms": p.skew_ms,
        "rtt_ms": p.rtt_ms,
        "certificate_expires_at": rfc3339(p.certificate_expires) if p.certificate_expires else None,
        "received_bytes_s": round(p.rates.received_bytes, 1),
        "sent_bytes_s": round(p.rates.sent_bytes, 1),
        "calls_s": round(p.rates.calls, 2),
    }


def peer_detail(p: Peer, refusals: Iterable[Refusal], alarms: Iterable[Raised]) -> PeerDetail:
    """With the refusals and alarms that are about this peer: those by its id, and by an address that it uses."""
    names = {p.node.uri, p.address} if p.node else {p.address}
    return {
        **peer_status(p),
        "id": p.node.uri if p.node else "",
        "records": p.records,
        "features": list(p.features),
        "roles": list(p.roles),
        "own_calls": p.load,
        "own_lag_ms": p.peer_lag_ms,
        "rejected_records": _records(p.rejected),
        "refused_there_records": _records(p.refused_there),
        "history": [{"at": at(t.at_ms), "state": str(t.state), "cause": t.cause} for t in p.history],
        "refusals": [refusal_status(r) for r in refusals if r.who in names],
        "alarms": [alarm_status(a) for a in alarms if a.about in names],
    }


def refusal_status(r: Refusal) -> RefusalStatus:
    return {
        "side": r.side,
        "who": r.who,
        "reason": str(r.reason),
        "message": r.message,
        "first_at": at(r.first_ms),
        "last_at": at(r.last_ms),
        "count": r.count,
    }


def alarm_status(a: Raised) -> AlarmStatus:
    return {
        "about": a.about,
        "name": a.name,
        "message": a.message,
        "first_at": at(a.first_ms),
        "last_at": at(a.last_ms),
        "count": a.count,
    }


def at(wall_ms: int) -> str:
    return rfc3339(datetime.fromtimestamp(wall_ms / 1000, UTC))


def rfc3339(time: datetime) -> str:
    """To the second, in UTC."""
    return time.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def _records(refused: Iterable[tuple[RecordKey, str]]) -> list[RejectedRecord]:
    shown = islice(refused, RECORDS_SHOWN)
    return [{"kind": str(key.kind), "id": key.id, "reason": reason} for key, reason in shown]
