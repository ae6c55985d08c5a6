"""The one table from errors to HTTP for operators: problem details (RFC 9457)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from aiohttp import web

from node.ingress.errors import challenge
from proto import jsons
from proto.errors import MeshError

CONTENT_TYPE = "application/problem+json"


@dataclass(frozen=True, slots=True)
class Shown:
    """`kind` as callers see it; `detail` replaces the error's own message and data where those must not show."""

    status: HTTPStatus
    kind: str
    detail: str = ""


_NOT_FOUND = Shown(HTTPStatus.NOT_FOUND, "unknown", "there is no such thing, or none that you may see")

TABLE: Mapping[str, Shown] = {
    "unknown": _NOT_FOUND,
    "unauthenticated": Shown(HTTPStatus.UNAUTHORIZED, "unauthenticated"),
    "forbidden": _NOT_FOUND,
    "scope_required": Shown(HTTPStatus.FORBIDDEN, "scope_required"),
    "invalid": Shown(HTTPStatus.BAD_REQUEST, "invalid"),
    "conflict": Shown(HTTPStatus.CONFLICT, "conflict"),
    "exhausted": Shown(HTTPStatus.TOO_MANY_REQUESTS, "exhausted"),
    "unavailable": Shown(HTTPStatus.SERVICE_UNAVAILABLE, "unavailable"),
    "expired": Shown(HTTPStatus.GATEWAY_TIMEOUT, "expired"),
    "outcome_unknown": Shown(HTTPStatus.BAD_GATEWAY, "outcome_unknown"),
    "fault": Shown(HTTPStatus.INTERNAL_SERVER_ERROR, "fault", "internal error; the log has it under fault_id"),
}
"""By `MeshError.kind`; tested to hold every kind."""


def problem(error: MeshError) -> web.Response:
    """The response for one error. `type` is about:blank, so `title` is the status phrase (RFC 9457 §4.2.1)."""
    shown = TABLE[error.kind]
    data = error.data
    if shown is _NOT_FOUND:
        data = {}
    elif error.kind == "fault":
        data = {"fault_id": error.data.get("fault_id", "")}
    return web.Response(
        status=shown.status,
        body=jsons.dumps(
            {
                "type": "about:blank",
                "title": shown.status.phrase,
                "status": int(shown.status),
                "detail": shown.detail or error.message,
                "kind": shown.kind,
                **({"data": data} if data else {}),
            }
        ),
        content_type=CONTENT_TYPE,
        headers=_headers(error, data),
    )


def _headers(error: MeshError, data: Mapping[str, Any]) -> dict[str, str]:
    headers: dict[str, str] = {}
    match error.kind:
        case "unauthenticated" | "scope_required":
            headers["WWW-Authenticate"] = challenge(error)
        case "exhausted" if "retry_after_s" in data:
            headers["Retry-After"] = str(max(1, math.ceil(data["retry_after_s"])))
    return headers
