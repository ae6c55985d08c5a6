"""MCP 2026-07-28 over HTTP: every POST stands alone, and closing it is the cancel.

Order of checks (basic/index, streamable-http): one routing header each → `_meta` pair → headers equal body →
version → parameter headers → method. aiohttp must be run with `handler_cancellation=True`, or a disconnect goes
unnoticed and the call runs on.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, Protocol, cast

from aiohttp import web
from mcp_types import LOG_LEVEL_META_KEY, SERVER_INFO_META_KEY
from mcp_types.jsonrpc import (
    HEADER_MISMATCH,
    INVALID_PARAMS,
    INVALID_REQUEST,
    URL_ELICITATION_REQUIRED,
)
from mcp_types.version import MODERN_PROTOCOL_VERSIONS

from node.ingress import envelope
from node.ingress.changes import NOTICE, ChangeFeed, promised
from node.ingress.envelope import Shape
from node.ingress.errors import EXHAUSTED, UNAVAILABLE, refusal, status_of
from node.ingress.exchange import ModernExchange
from node.ingress.incoming import Incoming
from node.ingress.reply import Outcome, Reply
from node.ingress.settings import IngressSettings
from node.ingress.sse import EventStream
from node.ports import Caller, Endpoint, Endpoints
from node.sdk import inbound, subscriptions
from proto.calls import Answer
from proto.errors import Unknown

log = logging.getLogger("toolmesh.ingress")

CACHEABLE_METHODS = frozenset(
    {"prompts/list", "resources/list", "resources/read", "resources/templates/list", "server/discover", "tools/list"}
)
"""Equal to `mcp_types.methods.CACHEABLE_METHODS`, which takes long to import; a test compares them."""

RESOURCE_NOT_FOUND = -32002
"""Of revisions before 2026-07-28; never emitted in this one."""

_RENAMED: Mapping[Any, int] = {RESOURCE_NOT_FOUND: INVALID_PARAMS, URL_ELICITATION_REQUIRED: UNAVAILABLE}
_REMOVED = frozenset({"initialize", "ping", "logging/setLevel", "resources/subscribe", "resources/unsubscribe"})
_PARAM_HEADER = "mcp-param-"


class HeaderSchemas(Protocol):
    """What an endpoint may also offer, so that `Mcp-Param-*` headers are held against the tool's schema."""

    def header_schema(self, tool: str, caller: Caller) -> dict[str, Any] | None:
        """The tool's inputSchema if it has `x-mcp-header` annotations and the caller may see it, else None."""


class ModernEdge:
    def __init__(self, endpoints: Endpoints, settings: IngressSettings, feed: ChangeFeed) -> None:
        self._endpoints = endpoints
        self._settings = settings
        self._feed = feed
        self._listens: dict[EventStream, bytes] = {}
        self.served = 0

    @property
    def streams(self) -> int:
        return len(self._listens)

    def close(self) -> None:
        """End every listen stream gracefully, each with its result."""
        for stream, last in self._listens.items():
            stream.outbox.push(last, keep=True)
            stream.outbox.close()

    async def post(self, incoming: Incoming, message: Any, shape: Shape) -> web.StreamResponse:
        if shape is Shape.RESPONSE:
            return _error(None, INVALID_REQUEST, "responses are not posted in this revision; a request is").response()
        if shape is Shape.NOTIFICATION:
            # Nothing at this revision is said to a server by notification; old habits are acknowledged, not obeyed.
            rejection = inbound.unsupported_protocol_version_rejection(incoming.version_header)
            return web.Response(status=202) if rejection is None else _rejected(None, rejection).response()
        self.served += 1
        request_id, method = message["id"], message["method"]
        params = message.get("params") or {}
        headers = incoming.request.headers
        if (duplicated := inbound.find_duplicated_routing_header(headers.items())) is not None:
            return _error(request_id, HEADER_MISMATCH, f"the {duplicated} header appears more than once").response()
        route = inbound.classify_inbound_request(message, headers=headers)
        if isinstance(route, inbound.InboundLadderRejection):
            return _rejected(request_id, route).response()
        if not isinstance(route.client_capabilities, dict):
            return _error(request_id, INVALID_PARAMS, "clientCapabilities in params._meta must be an object").response()
        if (mismatch := _task_mismatch(method, params, headers)) is not None:
            return _error(request_id, HEADER_MISMATCH, mismatch).response()
        caller = incoming.caller(
            route.protocol_version, "\x1f".join(incoming.principal.identity), route.client_capabilities, params
        )
        if method == "subscriptions/listen":
            return await self._listen(incoming, request_id, params, caller)
        if method == "server/discover" or method in _REMOVED:
            return self._own(incoming, request_id, method, caller).response()
        return await self._call(incoming, request_id, method, params, caller)

    # ---- requests -------------------------------------------------------------------------------

    async def _call(
        self, incoming: Incoming, request_id: envelope.RequestId, method: str, params: dict[str, Any], caller: Caller
    ) -> web.StreamResponse:
        reply = Reply(incoming.request, self._settings, True)
        try:
            outcome = await self._outcome(incoming, request_id, method, params, caller, reply)
            return await reply.finish(outcome)
        finally:
            # After an answer this does nothing; after a disconnect it stops the writer.
            reply.abandon()

    async def _outcome(
        self,
        incoming: Incoming,
        request_id: envelope.RequestId,
        method: str,
        params: dict[str, Any],
        caller: Caller,
        reply: Reply,
    ) -> Outcome:
        try:
            endpoint = self._endpoints.endpoint(incoming.name)
            rejection = _param_mismatch(endpoint, method, params, caller, incoming.request.headers)
            if rejection is not None:
                return _rejected(request_id, rejection)
            exchange = ModernExchange(reply, str(params["_meta"].get(LOG_LEVEL_META_KEY, "")))
            answer = await endpoint.handle(method, params, caller, exchange)
            return self._answered(request_id, method, answer)
        except Exception as e:  # the edge where every failure becomes protocol
            return self._refused(request_id, e, method, params)

    def _answered(self, request_id: envelope.RequestId, method: str, answer: Answer) -> Outcome:
        if "error" in answer:
            error = answer["error"]
            code = error.get("code") if isinstance(error, dict) else None
            if isinstance(code, int) and code in _RENAMED:
                code = _RENAMED[code]
                error = {**error, "code": code}
            return Outcome(envelope.refused(request_id, error), status_of(code))
        return Outcome(envelope.result(request_id, self._completed(method, answer["result"])))

    def _completed(self, method: str, result: Any) -> Any:
        """What this revision demands of a result and an older server does not know to say."""
        if not isinstance(result, dict):
            return result
        added: dict[str, Any] = {}
        kind = result.get("resultType")
        if kind is None:
            added["resultType"] = kind = "complete"
        if kind == "complete" and method in CACHEABLE_METHODS:
            if result.get("ttlMs") is None:
                added["ttlMs"] = self._settings.list_ttl_ms
            if result.get("cacheScope") is None:
                # What is listed depends on who asks.
                added["cacheScope"] = "private"
        # A new object: the endpoint may keep the one it gave for the next caller.
        return {**result, **added} if added else result

    def _own(self, incoming: Incoming, request_id: envelope.RequestId, method: str, caller: Caller) -> Outcome:
        try:
            if method in _REMOVED:
                raise Unknown("removed in 2026-07-28", method=method)
            described = self._endpoints.endpoint(incoming.name).describe(caller)
        except Exception as e:  # the edge where every failure becomes protocol
            return self._refused(request_id, e, method, {})
        result = {
            "supportedVersions": list(MODERN_PROTOCOL_VERSIONS),
            "capabilities": promised(described, incoming.name)[0],
            "_meta": {SERVER_INFO_META_KEY: described.get("serverInfo")},
        }
        if described.get("instructions"):
            result["instructions"] = described["instructions"]
        return Outcome(envelope.result(request_id, self._completed(method, result)))

    def _refused(
        self, request_id: envelope.RequestId, cause: Exception, method: str, params: dict[str, Any]
    ) -> Outcome:
        refused = refusal(
            cause, method=method, params=params, resource_metadata_url=self._settings.resource_metadata_url
        )
        return Outcome(envelope.refused(request_id, refused.error), refused.status, refused.headers)

    # ---- subscriptions --------------------------------------------------------------------------

    async def _listen(
        self, incoming: Incoming, request_id: envelope.RequestId, params: dict[str, Any], caller: Caller
    ) -> web.StreamResponse:
        asked = params.get("notifications")
        if not isinstance(asked, dict):
            return _error(request_id, INVALID_PARAMS, "params.notifications must be an object").response()
        if len(self._listens) >= self._settings.listens_max:
            return _error(request_id, EXHAUSTED, "too many subscriptions are open", 429).response()
        try:
            described = self._endpoints.endpoint(incoming.name).describe(caller)
        except Exception as e:  # the edge where every failure becomes protocol
            return self._refused(request_id, e, "subscriptions/listen", params).response()
        kinds = frozenset(k for k in promised(described, incoming.name)[1] if asked.get(f"{k}ListChanged") is True)
        meta = {subscriptions.SUBSCRIPTION_ID_META_KEY: request_id}

        def tell(kind: str) -> None:
            stream.outbox.push(envelope.notification({"method": NOTICE[kind], "params": {"_meta": meta}}))

        stream = EventStream(incoming.request, self._settings)
        honoured = {f"{kind}ListChanged": True for kind in sorted(kinds)}
        acknowledged = {
            "method": "notifications/subscriptions/acknowledged",
            "params": {"_meta": meta, "notifications": honoured},
        }
        stream.outbox.push(envelope.notification(acknowledged), keep=True)
        subscription = self._feed.subscribe(incoming.name, kinds, tell, incoming.principal)
        self._listens[stream] = envelope.result(request_id, {"resultType": "complete", "_meta": meta})
        try:
            await stream.run()
        finally:
            subscription.end()
            del self._listens[stream]
        return stream.response


def _error(request_id: envelope.RequestId | None, code: int, message: str, status: int = 400) -> Outcome:
    return Outcome(envelope.error(request_id, code, message), status)


def _rejected(request_id: envelope.RequestId | None, rejection: inbound.InboundLadderRejection) -> Outcome:
    return Outcome(
        envelope.error(request_id, rejection.code, rejection.message, rejection.data), status_of(rejection.code)
    )


def _task_mismatch(method: str, params: dict[str, Any], headers: Mapping[str, str]) -> str | None:
    if not method.startswith("tasks/"):
        return None
    named = headers.get(inbound.MCP_NAME_HEADER)
    if named is None or inbound.decode_header_value(named) == params.get("taskId"):
        return None
    return f"the {inbound.MCP_NAME_HEADER} header does not match params.taskId"


def _param_mismatch(
    endpoint: Endpoint, method: str, params: dict[str, Any], caller: Caller, headers: Mapping[str, str]
) -> inbound.InboundLadderRejection | None:
    if method != "tools/call" or not hasattr(endpoint, "header_schema"):
        return None
    tool, arguments = params.get("name"), params.get("arguments")
    if not isinstance(tool, str) or not isinstance(arguments, dict | None):
        return None
    if not arguments and not any(name.lower().startswith(_PARAM_HEADER) for name in headers):
        return None
    schema = cast(HeaderSchemas, endpoint).header_schema(tool, caller)
    return None if schema is None else inbound.validate_mcp_param_headers(schema, arguments or {}, headers)
