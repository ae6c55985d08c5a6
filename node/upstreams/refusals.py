"""What an HTTP status other than success says about a request: an answer, a lost session, or a refusal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from node.upstreams.wire import SessionLost
from proto import jsons
from proto.calls import Answer
from proto.errors import Invalid, OutcomeUnknown, Unavailable

_NOT_EXECUTED_5XX = (501, 503)
_QUOTED_CHARS_MAX = 200

FIXED = "credentials in its 'headers' are missing, wrong or expired"
"""What may be wrong where it is signed in to with fixed headers."""


class Refused(Unavailable):
    """An HTTP `status`, without a JSON-RPC error in the body, which says that the request was not run."""

    def __init__(self, message: str, status: int, /, **data: Any) -> None:
        super().__init__(message, **data)
        self.status = status


class Answered(Protocol):
    """The head of an HTTP answer."""

    @property
    def status(self) -> int: ...
    @property
    def headers(self) -> Mapping[str, str]: ...


def judge(
    name: str, response: Answered, text: bytes, *, asked: bool, had_session: bool, login: str = FIXED
) -> Answer | None:
    """The JSON-RPC error that the body holds, if a request was `asked`; None where the status may be ignored.

    `login` says what may be wrong with the credentials. Raises `SessionLost` (404 with a session: MCP 2025-11-25,
    session management), `Refused` (before it ran) or `OutcomeUnknown` (a server error after which it may have run).
    """
    status = response.status
    error = _error_in(text)
    if had_session and (status == 404 or (status == 400 and _means_lost_session(error))):
        raise SessionLost(f"server {name!r} no longer knows the session (status {status})")
    if asked and error is not None:
        return {"error": error}
    if status in (401, 403):
        raise Refused(
            f"server {name!r} refused with status {status}: {login}",
            status,
        )
    if status < 400:
        target = response.headers.get("Location", "elsewhere")
        raise Refused(f"server {name!r} redirects to {target}; if that is the right address, use it as 'url'", status)
    if not asked:
        return None
    said = " ".join(text[: 4 * _QUOTED_CHARS_MAX].decode("utf-8", "replace").split())[:_QUOTED_CHARS_MAX]
    what = f"server {name!r} answered with HTTP status {status}{f': {said}' if said else ''}"
    if status == 429:
        wait = response.headers.get("Retry-After", "")
        raise Refused(what, status, **({"retry_after_s": int(wait)} if wait.isdigit() else {}))
    if status >= 500 and status not in _NOT_EXECUTED_5XX:
        raise OutcomeUnknown(what)
    raise Refused(what, status)


def _error_in(text: bytes) -> dict[str, Any] | None:
    try:
        value = jsons.loads(text)
    except Invalid:
        return None
    error = value.get("error") if isinstance(value, dict) and value.get("jsonrpc") == "2.0" else None
    return error if isinstance(error, dict) and isinstance(error.get("code"), int) else None


def _means_lost_session(error: dict[str, Any] | None) -> bool:
    """Servers after the TypeScript examples say 400 and -32000 where the specification asks for 404."""
    if error is None or error["code"] != -32000:
        return False
    said = str(error.get("message", "")).lower()
    return "session" in said or "not initialized" in said
