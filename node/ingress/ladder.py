"""What a 2026-07-28 request must satisfy before it is looked at as a call, rung by rung. Pure.

The order (basic/index, streamable-http): one routing header each → `_meta` pair → headers equal the body → version.
Parameter headers and the method's existence come after it, where the endpoint is known.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mcp_types import CLIENT_CAPABILITIES_META_KEY, PROTOCOL_VERSION_META_KEY
from mcp_types.jsonrpc import HEADER_MISMATCH, INVALID_PARAMS
from mcp_types.version import MODERN_PROTOCOL_VERSIONS
from multidict import istr

from node.ingress import envelope
from node.ingress.errors import status_of
from node.ingress.reply import Outcome
from node.sdk import inbound
from proto import jsons

MRTR_METHODS = frozenset({"tools/call", "prompts/get", "resources/read"})
"""What may take several rounds. Elsewhere `inputResponses` and `requestState` are members like any other."""

PARAM_HEADER = "mcp-param-"

_VERSION = istr(inbound.MCP_PROTOCOL_VERSION_HEADER)
_METHOD = istr(inbound.MCP_METHOD_HEADER)
_NAME = istr(inbound.MCP_NAME_HEADER)


def refused(message: dict[str, Any], headers: Mapping[str, str] | None) -> Outcome | None:
    """Why the request cannot be run; None: it can.

    `headers` of the HTTP request, all lines of them; None on a transport without.
    """
    request_id, params = message["id"], message.get("params") or {}
    if headers is not None and (doubled := _doubled(headers)) is not None:
        return error(request_id, HEADER_MISMATCH, f"the {doubled} header appears more than once")
    if _plain(message["method"], params, headers):
        return None
    route = inbound.classify_inbound_request(message, headers=headers)
    if isinstance(route, inbound.InboundLadderRejection):
        return rejected(request_id, route)
    if not isinstance(route.client_capabilities, dict):
        kind = jsons.type_name(route.client_capabilities)
        return error(
            request_id, INVALID_PARAMS, f"{CLIENT_CAPABILITIES_META_KEY} in params._meta is {kind}; give an object"
        )
    if headers is not None and (mismatch := _name_mismatch(message["method"], params, headers)) is not None:
        return error(request_id, HEADER_MISMATCH, mismatch)
    if message["method"] in MRTR_METHODS and (malformed := _round_malformed(params)) is not None:
        return error(request_id, INVALID_PARAMS, malformed)
    return None


def param_mismatch(
    request_id: envelope.RequestId, schema: dict[str, Any], params: dict[str, Any], headers: Mapping[str, str]
) -> Outcome | None:
    """Where `Mcp-Param-*` headers and the arguments of a tools/call disagree, by the tool's inputSchema."""
    rejection = inbound.validate_mcp_param_headers(schema, params.get("arguments") or {}, headers)
    return None if rejection is None else rejected(request_id, rejection)


def has_envelope(message: Any) -> bool:
    """Does the message say, in its `_meta`, at which revision it is made? Only those from 2026-07-28 on do."""
    params = message.get("params") if isinstance(message, dict) else None
    meta = params.get("_meta") if isinstance(params, dict) else None
    return isinstance(meta, dict) and PROTOCOL_VERSION_META_KEY in meta


def error(request_id: envelope.RequestId | None, code: int, message: str, status: int = 400) -> Outcome:
    return Outcome(envelope.error(request_id, code, message), status)


def rejected(request_id: envelope.RequestId | None, rejection: inbound.InboundLadderRejection) -> Outcome:
    body = envelope.error(request_id, rejection.code, rejection.message, rejection.data)
    return Outcome(body, status_of(rejection.code))


def _doubled(headers: Mapping[str, str]) -> str | None:
    """A routing header that is there more than once."""
    getall = getattr(headers, "getall", None)
    if getall is None:
        return inbound.find_duplicated_routing_header(headers.items())
    return next((str(name) for name in (_VERSION, _METHOD, _NAME) if len(getall(name, ())) > 1), None)


def _plain(method: str, params: dict[str, Any], headers: Mapping[str, str] | None) -> bool:
    """Is everything as nearly every call has it, to the letter? False says nothing: the rungs then tell.

    The rungs cost as much as all else that this edge does with a request.
    """
    meta = params.get("_meta")
    if not isinstance(meta, dict):
        return False
    version = meta.get(PROTOCOL_VERSION_META_KEY)
    if version not in MODERN_PROTOCOL_VERSIONS or not isinstance(meta.get(CLIENT_CAPABILITIES_META_KEY), dict):
        return False
    if method in MRTR_METHODS and ("inputResponses" in params or "requestState" in params):
        return False
    if headers is None:
        return True
    if headers.get(_VERSION) != version or headers.get(_METHOD) != method:
        return False
    member = inbound.NAME_BEARING_METHODS.get(method)
    if member is None:
        return not method.startswith("tasks/")
    name = params.get(member)
    # Such a beginning may be that of an encoded value.
    return isinstance(name, str) and headers.get(_NAME) == name and not name.startswith("=?")


def _name_mismatch(method: str, params: dict[str, Any], headers: Mapping[str, str]) -> str | None:
    """Beyond the SDK's ladder: a name that the body never carried, and the task that a tasks method is about.

    The SDK's own client sends no `Mcp-Name` with tasks methods, so there it may be absent.
    """
    member = inbound.NAME_BEARING_METHODS.get(method)
    if member is not None:
        # One that the body has was held against the header already.
        if params.get(member) is not None:
            return None
    elif method.startswith("tasks/"):
        member = "taskId"
    else:
        return None
    named = headers.get(inbound.MCP_NAME_HEADER)
    if named is None or inbound.decode_header_value(named) == params.get(member):
        return None
    return f"the {inbound.MCP_NAME_HEADER} header does not match params.{member}"


def _round_malformed(params: dict[str, Any]) -> str | None:
    responses, state = params.get("inputResponses"), params.get("requestState")
    if not isinstance(responses, dict | None):
        kind = jsons.type_name(responses)
        return f"params.inputResponses is {kind}; give an object with an answer under each key that inputRequests had"
    if not isinstance(state, str | None):
        kind = jsons.type_name(state)
        return f"params.requestState is {kind}; give back the string that came with input_required, as it was"
    return None
