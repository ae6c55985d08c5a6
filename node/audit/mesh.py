"""One question to the logs of all nodes: each answers under its own policy, and who did not answer is said."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection
from typing import Any, NamedTuple

from node.audit.query import Query, query_of
from node.audit.reading import AuditReader
from node.ports import Caller, Carrier
from proto import jsons
from proto.calls import Answer, Call, Exchange, Notification
from proto.errors import Invalid, MeshError, Unavailable, Unknown
from proto.names import NodeId
from proto.records import Principal

METHOD = "toolmesh/audit"
ASK_MS = 10_000
AT_ONCE = 16
ANSWER_BYTES_MAX = 4 * 1024 * 1024
"""Of one node's lines in one answer; the rest is left out, and said to be."""


class Unanswered(NamedTuple):
    """A node whose records are not among those found, and why; also one that had more than it could send."""

    node: str
    reason: str


class MeshAudit:
    """`nodes` names the other nodes of the mesh as of now."""

    def __init__(
        self, reader: AuditReader, me: NodeId, carrier: Carrier, nodes: Callable[[], Collection[NodeId]]
    ) -> None:
        self._reader = reader
        self._me = me
        self._carrier = carrier
        self._nodes = nodes
        carrier.handle(METHOD, self.answer)

    async def find(self, principal: Principal, query: Query) -> tuple[list[bytes], list[Unanswered]]:
        """Lines of all nodes, merged by time in the order of the question, `query.limit` at most.

        Times are those of each node's own clock.
        """
        own = await self._reader.find(query)
        found = [[row.line for row in own]]
        unanswered: list[Unanswered] = []
        gate = asyncio.Semaphore(AT_ONCE)

        async def ask(node: str) -> None:
            async with gate:
                try:
                    lines, cut = await self._ask(node, principal, query)
                except MeshError as e:
                    unanswered.append(Unanswered(node, f"{e.kind}: {e.message}"))
                    return
            own_lines = [line for line in lines if _is_of(node, line)]
            found.append(own_lines)
            if len(own_lines) < len(lines):
                # What a node has recorded, it alone can tell.
                unanswered.append(Unanswered(node, "it sent what are no records of its own; they are left out"))
            if cut:
                unanswered.append(Unanswered(node, "it has more than one answer can hold; ask for less"))

        others = {n.name for n in self._nodes() if n != self._me}
        await asyncio.gather(*(ask(node) for node in sorted(others)))
        merged = sorted((timed for lines in found for timed in _timed(lines)), reverse=not query.oldest_first)
        return [line for _, line in merged[: query.limit]], sorted(unanswered)

    async def _ask(self, node: str, principal: Principal, query: Query) -> tuple[list[bytes], bool]:
        answer = await self._carrier.carry(
            node, METHOD, {"asked": query.asked()}, Caller(principal=principal), _Nobody(), budget_ms=ASK_MS
        )
        told: dict[str, Any] = result if isinstance(result := answer.get("result"), dict) else {}
        lines = told.get("lines")
        if not isinstance(lines, list) or not all(isinstance(line, str) for line in lines):
            raise Unavailable(f"node {node!r} gave an answer that is none")
        return [line.encode() for line in lines[: query.limit]], bool(told.get("cut"))

    async def answer(self, call: Call, exchange: Exchange, peer: NodeId) -> Answer:
        """What another node asks for one of its callers. Raises any `MeshError`."""
        if peer.trust_domain != self._me.trust_domain:
            raise Unknown(f"node {self._me.name!r} is asked nothing by {call.method!r}", method=call.method)
        asked = call.params.get("asked")
        if not isinstance(asked, dict) or not all(isinstance(v, str) for v in asked.values()):
            raise Invalid("params.asked must be an object of texts")
        query = query_of(asked, time.time_ns() // 1_000_000)
        query = self._reader.allowed(call.principal, query, "audit query --mesh", via=peer.name)
        lines: list[str] = []
        left, cut = ANSWER_BYTES_MAX, False
        for row in await self._reader.find(query):
            left -= len(row.line)
            if left < 0:
                cut = True
                break
            lines.append(row.line.decode())
        result: dict[str, Any] = {"lines": lines, "cut": cut}
        return {"result": result}


def _is_of(node: str, line: bytes) -> bool:
    try:
        return jsons.loads_object(line, "the record").get("node") == node
    except Invalid:
        return False


def _timed(lines: list[bytes]) -> list[tuple[tuple[str, str, int], bytes]]:
    """By time, node and number."""
    timed = []
    for line in lines:
        record = jsons.loads_object(line, "the record")
        seq = record.get("seq")
        key = (str(record.get("at")), str(record.get("node")), seq if isinstance(seq, int) else 0)
        timed.append((key, jsons.dumps(record)))
    return timed


class _Nobody:
    """Behind a question of a node nobody waits for what a server might say."""

    def event(self, notification: Notification) -> None:
        return

    async def request(self, request: Notification) -> Answer:
        raise Unavailable("nobody can be asked")
