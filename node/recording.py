"""How what a guard was told of ended: the record of it, for operators and the audit."""

from __future__ import annotations

import time

from node.catalog import Server
from node.ports import Admission, CallRecord, Ended
from proto.calls import Answer, Call
from proto.errors import MeshError
from proto.records import Decision


class Recording:
    """One call, from the first question to the guard to its end. `me` is this node's name.

    Whoever runs the call says here what comes of it, and asks for `ended` when all is over.
    """

    __slots__ = ("_me", "_started", "admission", "answer", "attempts", "outcome", "refusal")

    def __init__(self, me: str) -> None:
        self._me = me
        self._started = time.perf_counter()
        self.outcome = "fault"
        self.attempts = 0
        self.admission: Admission | None = None
        self.answer: Answer | None = None
        self.refusal: MeshError | None = None

    def failed(self, error: MeshError) -> None:
        self.outcome = error.kind
        if self.admission is None:
            self.refusal = error

    def ended(self, call: Call, name: str, tool: str, server: Server) -> Ended:
        """`name` is the route's, `server` the one that was asked last, or would have been asked first."""
        admission, who = self.admission, call.principal
        decision = admission.decision if admission is not None else self._refused()
        record = CallRecord(
            at_ms=int(time.time() * 1000),
            call_id=call.call_id,
            subject=who.subject,
            server=name,
            method=call.method,
            tool=tool,
            entry=call.via[0] if call.via else "",
            owner=server.owner.id.name,
            region=server.owner.id.region,
            outcome=self.outcome,
            took_ms=round((time.perf_counter() - self._started) * 1000, 3),
            attempts=self.attempts,
            issuer=who.issuer,
            tenant=who.tenant,
            principal_kind=who.kind,
            actors=who.actors,
            credential=who.credential,
            side="entry" if call.via and call.via[0] == self._me else "owner",
            rule=decision.rule if decision is not None else "",
        )
        return Ended(record, decision, self.answer, admission.lease if admission is not None else None)

    def _refused(self) -> Decision | None:
        refusal = self.refusal
        return Decision(allowed=False, reason=refusal.message, rule=refusal.rule) if refusal is not None else None
