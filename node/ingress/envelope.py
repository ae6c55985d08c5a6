"""JSON-RPC 2.0 envelopes as MCP narrows them: what a message is, and how ours are written. Pure."""

from __future__ import annotations

from enum import Enum
from typing import Any, TypeGuard

from proto import jsons
from proto.calls import Notification
from proto.errors import Invalid

RequestId = str | int


class Shape(Enum):
    REQUEST = 1
    NOTIFICATION = 2
    RESPONSE = 3


def shape_of(message: Any) -> Shape:
    """What one decoded message is. Raises `Invalid` for everything that is none of the three.

    The presence of `id` decides between request and notification (JSON-RPC 2.0 §4.1), so that a request with an id
    that MCP forbids (null, a fraction, a boolean) is refused, and never acknowledged as if it were a notification.
    """
    if not isinstance(message, dict):
        raise Invalid(f"a message must be a JSON object, not {jsons.type_name(message)}")
    if message.get("jsonrpc") != "2.0":
        raise Invalid('jsonrpc must be "2.0"')
    if "method" in message:
        if not isinstance(message["method"], str):
            raise Invalid(f"method must be a string, not {jsons.type_name(message['method'])}")
        params = message.get("params")
        if params is not None and not isinstance(params, dict):
            raise Invalid(f"params must be an object, not {jsons.type_name(params)}")
        if "id" not in message:
            return Shape.NOTIFICATION
        if not is_request_id(message["id"]):
            raise Invalid(f"id must be a string or an integer, not {_shown(message['id'])}")
        return Shape.REQUEST
    if "result" in message or "error" in message:
        if "id" not in message or not (message["id"] is None or is_request_id(message["id"])):
            raise Invalid("a response must carry the id of its request")
        return Shape.RESPONSE
    raise Invalid("a message must have a method, a result or an error")


def is_request_id(value: Any) -> TypeGuard[RequestId]:
    return isinstance(value, str) or (isinstance(value, int) and not isinstance(value, bool))


def _shown(value: Any) -> str:
    return repr(value) if isinstance(value, float) else jsons.type_name(value)


def result(request_id: RequestId, value: Any) -> bytes:
    return jsons.dumps({"jsonrpc": "2.0", "id": request_id, "result": value})


def error(request_id: RequestId | None, code: int, message: str, data: Any = None) -> bytes:
    """An error response; `request_id` None where the request's own could not be read."""
    detail: dict[str, Any] = {"code": code, "message": message}
    if data is not None:
        detail["data"] = data
    return jsons.dumps({"jsonrpc": "2.0", "id": request_id, "error": detail})


def refused(request_id: RequestId, detail: Any) -> bytes:
    """An error response with the error object as it is."""
    return jsons.dumps({"jsonrpc": "2.0", "id": request_id, "error": detail})


def notification(message: Notification) -> bytes:
    return jsons.dumps({"jsonrpc": "2.0", **message})


def request(request_id: RequestId, message: Notification) -> bytes:
    return jsons.dumps({"jsonrpc": "2.0", "id": request_id, **message})
