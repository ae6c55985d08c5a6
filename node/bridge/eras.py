"""What differs between the two eras of MCP in what one call says. Pure.

legacy   2024-11-05 to 2025-11-25: the server asks its client in mid-call
modern   2026-07-28 on: the call ends with what the server needs to know, and is made again with the answers (MRTR)
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Any

from mcp_types.jsonrpc import INVALID_PARAMS, METHOD_NOT_FOUND, URL_ELICITATION_REQUIRED

from proto.calls import Answer, Notification

MODERN = "2026-07-28"
"""Revisions are dates: this one and later ones compare as modern, the empty era of our own calls as legacy."""

INTERACTIVE = frozenset({"tools/call", "prompts/get", "resources/read"})
"""The methods in which a modern server may ask something."""

INPUT_REQUIRED = "input_required"
RESPONSES, STATE = "inputResponses", "requestState"

RESOURCE_NOT_FOUND = -32002
"""What legacy servers say of a resource that they do not have; modern ones say -32602."""

_NEEDED = {"sampling/createMessage": "sampling", "elicitation/create": "elicitation", "roots/list": "roots"}


def asks(answer: Answer) -> dict[str, Any] | None:
    """The result by which a modern server asks something, None for every other answer."""
    result = answer.get("result")
    return result if isinstance(result, dict) and result.get("resultType") == INPUT_REQUIRED else None


def required(requests: Mapping[str, Notification], state: str) -> Answer:
    """The answer that asks a modern client. A key → `{"method", "params"?}`."""
    asked: dict[str, Any] = {"resultType": INPUT_REQUIRED}
    if requests:
        asked["inputRequests"] = dict(requests)
    return {"result": {**asked, STATE: state}}


def without_round(params: dict[str, Any]) -> dict[str, Any]:
    """The params of the call itself, whichever round it is in."""
    if RESPONSES not in params and STATE not in params:
        return params
    return {k: v for k, v in params.items() if k not in (RESPONSES, STATE)}


def can_answer(capabilities: Mapping[str, Any]) -> bool:
    """Did the client declare that it answers anything at all in mid-call?"""
    return any(isinstance(capabilities.get(name), dict) for name in _NEEDED.values())


def may_be_asked(capabilities: Mapping[str, Any], request: Notification) -> bool:
    """Did the client declare that it answers this?"""
    declared = capabilities.get(_NEEDED.get(str(request.get("method")), ""))
    if not isinstance(declared, dict):
        return False
    params = request.get("params")
    if not isinstance(params, dict):
        return True
    if request["method"] == "elicitation/create" and params.get("mode") == "url":
        return "url" in declared
    if request["method"] == "elicitation/create":
        # Before there were modes, the empty object stood for forms.
        return "form" in declared or not declared
    return request["method"] != "sampling/createMessage" or "tools" not in params or "tools" in declared


def not_declared(method: Any) -> Answer:
    """What a server hears that asks what its client did not declare."""
    why = f"the client did not declare what {method!r} needs"
    return {"error": {"code": METHOD_NOT_FOUND, "message": why}}


def modern_capabilities(declared: Mapping[str, Any]) -> dict[str, Any]:
    """Of a legacy client, as a modern server reads them: forms are named, and tasks mean something else there."""
    capabilities = {k: v for k, v in declared.items() if k != "tasks"}
    if capabilities.get("elicitation") == {}:
        capabilities["elicitation"] = {"form": {}}
    if isinstance(capabilities.get("roots"), dict):
        # A list that changes is asked for again in the next call; nobody is told.
        capabilities["roots"] = {k: v for k, v in capabilities["roots"].items() if k != "listChanged"}
    return capabilities


def legacy_question(request: Notification) -> Notification:
    """A modern server's question as legacy clients know it: one to open a URL bears an id."""
    params = request.get("params")
    if request.get("method") != "elicitation/create" or not isinstance(params, dict) or params.get("mode") != "url":
        return request
    return {**request, "params": {"elicitationId": secrets.token_hex(16), **params}}


def legacy_answer(method: str, answer: Answer) -> Answer:
    """A modern server's answer as legacy clients know it: its own code for a resource that does not exist."""
    error = answer.get("error")
    if method != "resources/read" or not isinstance(error, dict) or error.get("code") != INVALID_PARAMS:
        return answer
    return {"error": {**error, "code": RESOURCE_NOT_FOUND}}


def declined(responses: Any) -> bool:
    """Is one of a client's responses that its person will not do what was asked?"""
    answers = responses.values() if isinstance(responses, dict) else ()
    return any(isinstance(a, dict) and a.get("action") in ("decline", "cancel") for a in answers)


def urls_to_open(answer: Answer) -> list[dict[str, Any]]:
    """The params of the elicitations that a legacy server demands before it runs the call (-32042); often none."""
    error = answer.get("error")
    if not isinstance(error, dict) or error.get("code") != URL_ELICITATION_REQUIRED:
        return []
    data = error.get("data")
    elicitations = data.get("elicitations") if isinstance(data, dict) else None
    if not isinstance(elicitations, list) or not all(isinstance(e, dict) for e in elicitations):
        return []
    return [{"mode": "url", **e} for e in elicitations]
