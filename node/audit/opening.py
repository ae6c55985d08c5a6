"""Where a log goes on when its node starts: after what, and what is known of how the life before ended."""

from __future__ import annotations

import logging
import sqlite3
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from node.audit.chain import Head, genesis
from node.audit.entries import now_ms
from node.audit.rows import AuditStore, Row
from proto import jsons
from proto.errors import Invalid
from proto.names import NodeId

log = logging.getLogger("toolmesh.audit")


@dataclass(slots=True)
class Opened:
    """`head` is what the next record follows, `at_ms` and `epoch` what its own must not be below.

    `follows` is told in it: SEQ and HASH, and after what it comes: `nothing` (the log begins), `stop` (in order),
    `crash` (or a kill: what had not reached the disk is lost), or `missing` (there was more, and it is gone). What an
    operator has to know of is in `problems`, by part.
    """

    head: Head
    at_ms: int
    epoch: int
    follows: dict[str, Any]
    problems: dict[str, str] = field(default_factory=dict)


def open_log(store: AuditStore, me: NodeId) -> Opened:
    """Open it, a damaged one set aside. Raises `Unavailable` if it cannot be used, `Invalid` if it is too new."""
    problems = {}
    try:
        store.open()
    except sqlite3.DatabaseError as e:
        problems["damaged"] = _set_aside(store, e)
        store.open()
    kept = store.kept()
    last = store.row(kept.last)
    held = Head(last.seq, last.hash) if last else None
    epoch = max(now_ms(), _epoch(last) + 1)
    at_ms = last.at_ms if last else 0
    if kept.head is not None and kept.head != held:
        holds = f"none after {last.seq}" if last else "none"
        why = f"it had come to record {kept.head.seq}, and holds {holds}: it was cut, or is damaged"
        log.error("the audit's log: %s", why)
        problems["missing"] = f"the log of this node is not whole: {why}; see 'toolmesh audit verify --from-store'"
        follows = {**_told(kept.head), "after": "missing", "held": last.seq if last else 0}
        # From where it was: so the gap stays to be seen by everyone who checks.
        return Opened(kept.head, at_ms, epoch, follows, problems)
    if held is None:
        return Opened(genesis(me.trust_domain, me.name), 0, epoch, {"after": "nothing"}, problems)
    return Opened(held, at_ms, epoch, {**_told(held), "after": "stop" if _stopped(store) else "crash"}, problems)


def _told(head: Head) -> dict[str, Any]:
    return {"seq": head.seq, "hash": head.hash.hex()}


def _epoch(last: Row | None) -> int:
    epoch = _record(last).get("epoch")
    return epoch if isinstance(epoch, int) else 0


def _stopped(store: AuditStore) -> bool:
    """Is a stop the last record, but for the checkpoint that seals it?"""
    seq = store.kept().last
    while (record := _record(store.row(seq))).get("action") == "checkpoint":
        seq -= 1
    return record.get("action") == "stop"


def _record(row: Row | None) -> dict[str, Any]:
    try:
        return jsons.loads_object(row.line, "the record") if row else {}
    except Invalid:
        # Somebody has written there; who checks the log is told where.
        return {}


def _set_aside(store: AuditStore, error: sqlite3.DatabaseError) -> str:
    file: Path | None = getattr(store, "file", None)
    if file is None:
        raise error
    aside = file.with_name(f"{file.name}.damaged-{now_ms()}")
    for suffix in ("", "-wal", "-shm"):
        beside = file.with_name(file.name + suffix)
        if beside.exists():
            beside.replace(aside.with_name(aside.name + suffix))
    why = f"{file.name} is damaged ({error}): it was set aside as {aside.name}, and a new log begins"
    log.error("the audit's %s", why)
    return why
