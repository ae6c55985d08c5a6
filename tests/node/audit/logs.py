"""Logs to be checked: of a node that tells its audit what a test says, and stops."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from node.audit.bounds import AuditSettings
from node.audit.query import Query
from node.audit.recorder import Recorder
from node.audit.rows import AuditStore
from node.audit.signing import own_key
from node.audit.verifying import Line
from node.ports import CallRecord, Ended
from proto import jsons
from proto.calls import Answer, Call
from proto.names import NodeId
from proto.records import Decision, Principal

ME = NodeId("mesh.test", "eu", "eu-1")
ANA = Principal("ana", "mesh.test", "acme", ("staff",), ("use",), "key", (), "key/ana")
BOB = Principal("bob", "mesh.test", "", (), ("operator",), "key", (), "key/bob")
ANSWER: Answer = {"result": {"content": [{"type": "text", "text": "8.05"}], "isError": False}}


def recorder(store: AuditStore, keys: Path, settings: AuditSettings | None = None, **timing: Any) -> Recorder:
    keys.mkdir(parents=True, exist_ok=True)
    return Recorder(ME, store, lambda: own_key(keys), settings or AuditSettings(), **({"linger_s": 0.001} | timing))


def call_of(n: int = 1, principal: Principal = ANA, **params: Any) -> Call:
    given = params or {"name": "convert_unit", "arguments": {"value": n}}
    return Call(f"call-{n}", "units", "tools/call", given, principal, tool_digest=b"\x07" * 32, via=("eu-1",))


def ended(
    call: Call,
    outcome: str = "ok",
    *,
    answer: Answer | None = ANSWER,
    decision: Decision | None = None,
    side: str = "entry",
) -> Ended:
    who = call.principal
    record = CallRecord(
        time.time_ns() // 1_000_000, call.call_id, who.subject, call.server, call.method, "convert_unit",
        call.via[0], "eu-1", "eu", outcome, 1.5, 1, who.issuer, who.tenant, who.kind, who.actors, who.credential, side,
    )  # fmt: skip
    return Ended(record, decision or Decision(True, "", "open"), answer)


async def until(holds: Callable[[], bool], timeout_s: float = 10.0) -> None:
    """For what a thread does, which tells nobody."""
    async with asyncio.timeout(timeout_s):
        while not holds():  # noqa: ASYNC110 - a thread sets no event of this loop
            await asyncio.sleep(0.002)


async def stopped(audit: Recorder) -> None:
    await asyncio.to_thread(audit.stop)


async def written(audit: Recorder, records: int) -> None:
    """Until so many are on the disk."""
    await until(lambda: audit.counts[0] >= records)


def records_of(store: AuditStore, **query: Any) -> list[dict[str, Any]]:
    """Oldest first."""
    rows = store.find(Query(oldest_first=True, limit=1_000, **query))
    return [jsons.loads_object(row.line, "a record") for row in rows]


def lines_of(store: AuditStore) -> list[bytes]:
    return [row.line + b"\n" for row in store.find(Query(oldest_first=True, limit=100_000))]


def numbered(lines: list[bytes]) -> list[Line]:
    return [Line(f"line {i}", line) for i, line in enumerate(lines, 1)]
