"""The one table from the kinds of `MeshError` to what an agent is told: JSON-RPC code, HTTP status, message.

    kind              code     HTTP   why
    unknown           -32602   400    "unknown tool" is an invalid parameter to MCP; -32601 and 404 for a method
    forbidden         -32602   400    byte for byte as unknown, or its existence would leak
    invalid           -32602   400
    unauthenticated   -32050   401    WWW-Authenticate: Bearer (RFC 6750, RFC 9728)
    scope_required    -32051   403    WWW-Authenticate with every missing scope in one challenge
    conflict          -32052   200
    exhausted         -32053   429    Retry-After where known
    unavailable       -32054   503    nothing was executed, so that trying again is safe; Retry-After where known
    expired           -32055   200
    outcome_unknown   -32056   200    it may have run: no status that makes a proxy repeat it
    fault             -32603   200    message hidden, `data.fault_id` shown, cause in the log alone

The codes of ours lie in -32000..-32099, which JSON-RPC leaves to implementations, outside those that MCP or its
SDKs use (-32000..-32002, -32020..-32022, -32042). `data.kind` says which row it was. The statuses hold for
2026-07-28; earlier revisions answer 200 except for 401 and 403, since their clients read 404 as a lost session and
some drop the connection on any other failure status.
"""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from mcp_types.jsonrpc import INTERNAL_ERROR, INVALID_PARAMS, METHOD_NOT_FOUND

from node.sdk import inbound
from proto import jsons
from proto.errors import Fault, Forbidden, Invalid, MeshError, ScopeRequired, Unauthenticated, Unknown

log = logging.getLogger("toolmesh.ingress")

UNAUTHENTICATED = -32050
SCOPE_REQUIRED = -32051
CONFLICT = -32052
EXHAUSTED = -32053
UNAVAILABLE = -32054
EXPIRED = -32055
OUTCOME_UNKNOWN = -32056


class Row(NamedTuple):
    code: int
    status: int


TABLE: Mapping[str, Row] = {
    "unknown": Row(INVALID_PARAMS, 400),
    "forbidden": Row(INVALID_PARAMS, 400),
    "invalid": Row(INVALID_PARAMS, 400),
    "unauthenticated": Row(UNAUTHENTICATED, 401),
    "scope_required": Row(SCOPE_REQUIRED, 403),
    "conflict": Row(CONFLICT, 200),
    "exhausted": Row(EXHAUSTED, 429),
    "unavailable": Row(UNAVAILABLE, 503),
    "expired": Row(EXPIRED, 200),
    "outcome_unknown": Row(OUTCOME_UNKNOWN, 200),
    "fault": Row(INTERNAL_ERROR, 200),
}

_SUBJECTS = {"tools/call": ("tool", "name"), "prompts/get": ("prompt", "name"), "resources/read": ("resource", "uri")}
# RFC 6750 §3: scope-token = 1*( %x21 / %x23-5B / %x5D-7E ); anything else would break out of the quoted string.
_SCOPE_TOKEN = re.compile(r"[\x21\x23-\x5B\x5D-\x7E]+")


@dataclass(frozen=True, slots=True)
class Refusal:
    """One error as the caller sees it. `status` is the HTTP status of a 2026-07-28 response."""

    code: int
    message: str
    data: dict[str, Any]
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def error(self) -> dict[str, Any]:
        return {"code": self.code, "message": self.message, "data": self.data}

    @property
    def legacy_status(self) -> int:
        return self.status if self.status in (401, 403) else 200


def refusal(cause: Exception, *, method: str = "", params: Mapping[str, Any] | None = None) -> Refusal:
    """What the caller is told of `cause`. Logs, once, what the caller must not see."""
    error = cause if isinstance(cause, MeshError) and cause.kind in TABLE else _fault(cause)
    if isinstance(error, Unknown | Forbidden):
        log.debug("%s answered as unknown (%s): %s", method or "request", error.kind, error.message)
        return _unknown(error, method, params or {})
    row = TABLE[error.kind]
    if isinstance(error, Fault):
        log.error("fault %s in %s: %s", error.data["fault_id"], method or "request", error.message, exc_info=cause)
        return Refusal(row.code, "internal error", {"kind": "fault", "fault_id": error.data["fault_id"]}, row.status)
    headers: dict[str, str] = {}
    if isinstance(error, Unauthenticated | ScopeRequired):
        headers["WWW-Authenticate"] = challenge(error)
    retry_after_s = error.data.get("retry_after_s")
    if row.status in (429, 503) and isinstance(retry_after_s, int | float) and math.isfinite(retry_after_s):
        headers["Retry-After"] = str(max(0, math.ceil(retry_after_s)))
    return Refusal(row.code, error.message, {**_sendable(error), "kind": error.kind}, row.status, headers)


def _unknown(error: MeshError, method: str, params: Mapping[str, Any]) -> Refusal:
    # Written from the request alone: whatever the two errors say of themselves, the caller cannot tell them apart.
    if error.data.get("method"):
        return Refusal(METHOD_NOT_FOUND, f"method {method!r} is not found", {"kind": "unknown"}, 404)
    what, member = _SUBJECTS.get(method, ("target", ""))
    name = params.get(member)
    named = f" {name!r}" if isinstance(name, str) else ""
    message = f"unknown {what}{named}: there is none, or none that you may use"
    return Refusal(INVALID_PARAMS, message, {"kind": "unknown"}, TABLE["unknown"].status)


def _sendable(error: MeshError) -> dict[str, Any]:
    try:
        jsons.dumps(error.data)
    except Invalid as e:
        log.error("the data of %r is withheld: %s", error, e.message)
        return {}
    return error.data


def _fault(cause: Exception) -> Fault:
    return Fault(f"{type(cause).__name__} reached the ingress")


def challenge(error: MeshError) -> str:
    """The WWW-Authenticate value of a 401 or 403 (RFC 6750 §3); what every challenge names is added at the end."""
    parts: list[str] = []
    if isinstance(error, ScopeRequired):
        parts.append('error="insufficient_scope"')
    elif error.data.get("presented"):
        parts.append('error="invalid_token"')
    scopes = [s for s in error.data.get("scopes") or () if isinstance(s, str) and _SCOPE_TOKEN.fullmatch(s)]
    if scopes:
        parts.append(f'scope="{" ".join(scopes)}"')
    return f"Bearer {', '.join(parts)}" if parts else "Bearer"


def status_of(code: Any) -> int:
    """The HTTP status of an error answer that a server gave (2026-07-28): the SDK's table, 200 for all others."""
    return inbound.ERROR_CODE_HTTP_STATUS.get(code, 200) if isinstance(code, int) else 200
