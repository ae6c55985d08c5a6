"""Every way in which toolmesh says no.

    MeshError
     ├─ Unknown            no such server, tool, method or resource (or none that you may see)
     ├─ Unauthenticated    who are you?
     ├─ Forbidden          known, visible to nobody like you; shown to callers as Unknown
     ├─ ScopeRequired      visible, but a scope is missing; `data["scopes"]` names every missing one
     ├─ Invalid            the request itself is wrong; the message names the field and the mend
     ├─ Conflict           the name or the definition is ambiguous or has changed; refresh and choose
     ├─ Exhausted          a limit was reached; `data["retry_after_s"]` where known
     ├─ Unavailable        the server, the peer or this node cannot answer now
     ├─ Expired            the deadline passed before anything was sent, or the work was cancelled in time
     ├─ OutcomeUnknown     it was sent, and nobody can say what became of it; `data["call_id"]`
     └─ Fault              our own bug; the message is hidden from callers, `data["fault_id"]` is shown

A tool that fails is a *result* (`isError`), and a JSON-RPC error that an upstream server returns is an
*answer*: both pass through unchanged and neither is in this tree. The tree becomes protocol in three tables
only: `node.ingress.errors` (JSON-RPC), `federation.statuses` (gRPC) and `node.operator.errors` (HTTP).
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Any, ClassVar


class MeshError(Exception):
    """Root of the tree.

    `message` is one sentence for a person; `data` is a JSON object for a program. `rule` names what decided a
    refusal, for operators and the audit: it is neither shown to callers nor sent to other nodes.
    """

    kind: ClassVar[str] = "mesh_error"
    rule: str = ""

    def __init__(self, message: str, /, **data: Any) -> None:
        super().__init__(message)
        self.message = message
        self.data: dict[str, Any] = data

    def __repr__(self) -> str:
        extra = f", {self.data!r}" if self.data else ""
        return f"{type(self).__name__}({self.message!r}{extra})"


class Unknown(MeshError):
    kind = "unknown"


class Unauthenticated(MeshError):
    kind = "unauthenticated"


class Forbidden(MeshError):
    kind = "forbidden"


class ScopeRequired(MeshError):
    kind = "scope_required"


class Invalid(MeshError):
    kind = "invalid"


class Conflict(MeshError):
    kind = "conflict"


class Exhausted(MeshError):
    kind = "exhausted"


class Unavailable(MeshError):
    kind = "unavailable"


class Expired(MeshError):
    kind = "expired"


class OutcomeUnknown(MeshError):
    kind = "outcome_unknown"


class Fault(MeshError):
    """A bug of ours. Log the cause under `fault_id`; callers see nothing else of it."""

    kind = "fault"

    def __init__(self, message: str = "internal error", /, **data: Any) -> None:
        data.setdefault("fault_id", secrets.token_hex(6))
        super().__init__(message, **data)


ERRORS: Mapping[str, type[MeshError]] = {
    e.kind: e
    for e in (
        Unknown,
        Unauthenticated,
        Forbidden,
        ScopeRequired,
        Invalid,
        Conflict,
        Exhausted,
        Unavailable,
        Expired,
        OutcomeUnknown,
        Fault,
    )
}
"""Every kind, by its name on the wire. The tables are tested against this one."""
