"""Who may read the log, and that they did: a reader's question is itself an act that is recorded."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace

from node.audit.query import Query
from node.audit.recorder import Recorder
from node.audit.rows import Row
from node.guard.operating import may_operate, node_resource
from node.operator.audited import AuditStatus
from node.ports import Guard
from proto.errors import MeshError
from proto.names import NodeId
from proto.records import Principal

AGAIN_S = 600.0
"""Who goes on with a question (the next page, `tail -f`) is recorded anew after so long, not each time: otherwise each
answer to a follower would be followed by the record of it."""
QUESTIONS_MAX = 1_000

FOLLOW_S_MAX = 60.0


class AuditReader:
    """Reads the log of one node for whoever may administer that node.

    A principal of a tenant reads what principals of that tenant did, whatever it asks for.
    """

    def __init__(
        self, recorder: Recorder, guard: Guard, me: NodeId, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._recorder = recorder
        self._guard = guard
        self._node = node_resource(me)
        self._clock = clock
        self._asked: OrderedDict[tuple[object, ...], float] = OrderedDict()

    def __repr__(self) -> str:
        return f"AuditReader({len(self._asked)} questions)"

    def allowed(self, principal: Principal, query: Query, verb: str = "audit query", via: str = "") -> Query:
        """The question as this principal may ask it; recorded, also if it may not. Raises as `may_operate`."""
        try:
            may_operate(self._guard, self._node, principal, in_tenant=True)
        except MeshError as e:
            self._recorder.admin(principal, verb, "", e.kind, reason=e.message)
            raise
        if principal.tenant:
            query = replace(query, tenant=principal.tenant)
        self._record(principal, query, verb, via)
        return query

    def status(self, principal: Principal) -> AuditStatus:
        """Of the whole log: for who may read all of it. Raises as `may_operate`."""
        may_operate(self._guard, self._node, principal)
        return self._recorder.status()

    async def find(self, query: Query, wait_s: float = 0.0) -> list[Row]:
        """What an allowed question finds. With `wait_s` it waits so long at most until there is anything.

        Raises `Unavailable` for what the disk does, `Exhausted` where it takes too long.
        """
        until = self._clock() + min(wait_s, FOLLOW_S_MAX)
        while True:
            rows = await asyncio.to_thread(self._recorder.store.find, query)
            left = until - self._clock()
            if rows or left <= 0:
                return rows
            await self._recorder.written(left)

    @property
    def head(self) -> str:
        return self._recorder.head

    def _record(self, principal: Principal, query: Query, verb: str, via: str) -> None:
        asked = query.asked()
        for cursor in ("before", "after", "limit", "order"):
            asked.pop(cursor, None)
        key = (principal.identity, verb, via, *sorted(asked.items()))
        now = self._clock()
        last = self._asked.get(key)
        if last is not None and now - last < AGAIN_S:
            return
        self._asked[key] = now
        self._asked.move_to_end(key)
        while len(self._asked) > QUESTIONS_MAX:
            self._asked.popitem(last=False)
        what = " ".join(f"{name}={value}" for name, value in sorted(asked.items())) or "everything"
        self._recorder.admin(principal, verb, what, reason=f"asked through {via}" if via else "")
