"""MCP 2026-07-28 for agents: every request stands alone, and what ends its connection ends it.

`run` and `listen` know no transport; over HTTP (`post`) closing the POST is the cancel. aiohttp must be run with
`handler_cancellation=True`, or a disconnect goes unnoticed and the call runs on.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Any, Protocol, cast

from aiohttp import web
from mcp_types import CLIENT_CAPABILITIES_META_KEY, PROTOCOL_VERSION_META_KEY, SERVER_INFO_META_KEY
from mcp_types.jsonrpc import INVALID_PARAMS, INVALID_REQUEST, URL_ELICITATION_REQUIRED
from mcp_types.version import MODERN_PROTOCOL_VERSIONS

from node.ingress import envelope, ladder, listening
from node.ingress.changes import ChangeFeed, promised
from node.ingress.envelope import RequestId, Shape
from node.ingress.errors import UNAVAILABLE, refusal, status_of
from node.ingress.exchange import ModernExchange
from node.ingress.incoming import Incoming
from node.ingress.reply import Out, Outcome, Reply
from node.ingress.settings import IngressSettings
from node.ports import Caller, Endpoint, Endpoints
from node.sdk import inbound
from proto.calls import Answer
from proto.errors import Exhausted, Unknown
from proto.records import Principal

log = logging.getLogger("toolmesh.ingress")

LISTEN = "subscriptions/listen"
CACHEABLE_METHODS = frozenset(
    {"prompts/list", "resources/list", "resources/read", "resources/templates/list", "server/discover", "tools/list"}
)
"""Equal to `mcp_types.methods.CACHEABLE_METHODS`, which takes long to import; a test compares them."""

RESOURCE_NOT_FOUND = -32002
"""Of revisions before 2026-07-28; never emitted in this one."""

_RENAMED: Mapping[Any, int] = {RESOURCE_NOT_FOUND: INVALID_PARAMS, URL_ELICITATION_REQUIRED: UNAVAILABLE}
_REMOVED = frozenset({"initialize", "ping", "logging/setLevel", "resources/subscribe", "resources/unsubscribe"})


class HeaderSchemas(Protocol):
    """What an endpoint may also offer, so that `Mcp-Param-*` headers are held against the tool's schema."""

    def header_schema(self, tool: str, caller: Caller) -> dict[str, Any] | None:
        """The tool's inputSchema if it has `x-mcp-header` annotations and the caller may see it, else None."""


class ModernEdge:
    def __init__(self, endpoints: Endpoints, settings: IngressSettings, feed: ChangeFeed) -> None:
        self._endpoints = endpoints
        self._settings = settings
        self._feed = feed
        self._listens: dict[asyncio.Event, Principal] = {}
        self.served = 0

    @property
    def streams(self) -> int:
        return len(self._listens)

    def close(self) -> None:
        """End every listen gracefully, each with its result."""
        for closed in self._listens:
            closed.set()

    def recheck(self, valid: Callable[[Principal], bool]) -> None:
        """End the listens of callers that are not `valid` any more, each with its result."""
        for closed, principal in self._listens.items():
            if not valid(principal):
                closed.set()

    # ---- over HTTP ------------------------------------------------------------------------------

    async def post(self, request: web.Request, incoming: Incoming, message: Any, shape: Shape) -> web.StreamResponse:
        if shape is Shape.RESPONSE:
            why = "responses are not posted in this revision; a request is"
            return ladder.error(None, INVALID_REQUEST, why).response()
        if shape is Shape.NOTIFICATION:
            # Nothing at this revision is said to a server by notification; old habits are acknowledged, not obeyed.
            rejection = inbound.unsupported_protocol_version_rejection(incoming.version_header)
            return web.Response(status=202) if rejection is None else ladder.rejected(None, rejection).response()
        if (refused := self.refused(message, incoming.headers)) is not None:
            return refused.response()
        reply = Reply(request, self._settings, True)
        try:
            if message["method"] == LISTEN:
                outcome = await self.listen(incoming, message, reply, asyncio.Event())
            else:
                outcome = await self._run(incoming, message, reply, incoming.headers)
            return await reply.finish(outcome)
        finally:
            # After an answer this does nothing; after a disconnect it stops the writer.
            reply.abandon()

    # ---- on any transport -----------------------------------------------------------------------

    def refused(self, message: dict[str, Any], headers: Mapping[str, str] | None = None) -> Outcome | None:
        """Why a request cannot be given to `run` or `listen`; None: it can. `headers`: None on a transport without."""
        self.served += 1
        return ladder.refused(message, headers)

    async def run(self, incoming: Incoming, message: dict[str, Any], out: Out) -> Outcome:
        """Answer one request that is not refused and not a listen. What comes before the answer goes to `out`.

        Cancelling the awaiting task cancels the call. Never raises otherwise: every failure is an outcome.
        """
        return await self._run(incoming, message, out, None)

    async def listen(self, incoming: Incoming, message: dict[str, Any], out: Out, closed: asyncio.Event) -> Outcome:
        """A `subscriptions/listen` that is not refused: acknowledged and told through `out` until `closed` is set,
        here or by the caller, or the server ends it. Cancelling the awaiting task ends it without a result.
        """
        request_id, params = message["id"], message["params"]
        try:
            asked = listening.Filter(params)
            if len(self._listens) >= self._settings.listens_max:
                raise Exhausted(f"{len(self._listens)} subscriptions are open; close one, or try again later")
            endpoint = self._endpoints.endpoint(incoming.name)
            caller = _caller(incoming, params)
            kinds = promised(endpoint.describe(caller), incoming.name)[1] & asked.kinds
            hearing = listening.Listening(request_id, kinds, out, listening.log_level(params), closed.set)
            self._listens[closed] = incoming.principal
            subscription = self._feed.subscribe(incoming.name, kinds, hearing.changed, incoming.principal)
            try:
                answer = await listening.hear(endpoint, asked, params, caller, hearing, closed)
            finally:
                subscription.end()
                self._listens.pop(closed, None)
            if "error" in answer:
                return self._answered(request_id, LISTEN, answer)
            return Outcome(envelope.result(request_id, {"resultType": "complete", "_meta": hearing.meta}))
        except Exception as e:  # the edge where every failure becomes protocol
            return self._refused(request_id, e, LISTEN, params)

    async def _run(
        self, incoming: Incoming, message: dict[str, Any], out: Out, headers: Mapping[str, str] | None
    ) -> Outcome:
        request_id, method, params = message["id"], message["method"], message["params"]
        try:
            if method in _REMOVED or method == LISTEN:
                raise Unknown("not a method of 2026-07-28 here", method=method)
            endpoint = self._endpoints.endpoint(incoming.name)
            caller = _caller(incoming, params)
            if method == "server/discover":
                await self._endpoints.started(incoming.name, incoming.principal)
                return self._discovered(request_id, incoming.name, endpoint.describe(caller))
            if (
                headers is not None
                and (schema := _header_schema(endpoint, method, params, caller, headers)) is not None
            ):
                mismatch = ladder.param_mismatch(request_id, schema, params, headers)
                if mismatch is not None:
                    return mismatch
            exchange = ModernExchange(out, listening.log_level(params))
            return self._answered(request_id, method, await endpoint.handle(method, params, caller, exchange))
        except Exception as e:  # the edge where every failure becomes protocol
            return self._refused(request_id, e, method, params)

    def _answered(self, request_id: RequestId, method: str, answer: Answer) -> Outcome:
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

    def _discovered(self, request_id: RequestId, name: str | None, described: dict[str, Any]) -> Outcome:
        result = {
            "supportedVersions": list(MODERN_PROTOCOL_VERSIONS),
            "capabilities": promised(described, name)[0],
            "_meta": {SERVER_INFO_META_KEY: described.get("serverInfo")},
        }
        if described.get("instructions"):
            result["instructions"] = described["instructions"]
        return Outcome(envelope.result(request_id, self._completed("server/discover", result)))

    def _refused(self, request_id: RequestId, cause: Exception, method: str, params: dict[str, Any]) -> Outcome:
        refused = refusal(cause, method=method, params=params)
        return Outcome(envelope.refused(request_id, refused.error), refused.status, refused.headers)


def _caller(incoming: Incoming, params: dict[str, Any]) -> Caller:
    meta = params["_meta"]
    session_key = "\x1f".join(incoming.principal.identity)
    return incoming.caller(meta[PROTOCOL_VERSION_META_KEY], session_key, meta[CLIENT_CAPABILITIES_META_KEY], params)


def _header_schema(
    endpoint: Endpoint, method: str, params: dict[str, Any], caller: Caller, headers: Mapping[str, str]
) -> dict[str, Any] | None:
    """The schema that parameter headers are to be held against; None where none is needed, or malformed params are
    the endpoint's to refuse."""
    if method != "tools/call" or not hasattr(endpoint, "header_schema"):
        return None
    tool, arguments = params.get("name"), params.get("arguments")
    if not isinstance(tool, str) or not isinstance(arguments, dict | None):
        return None
    if not arguments and not any(name.lower().startswith(ladder.PARAM_HEADER) for name in headers):
        return None
    return cast(HeaderSchemas, endpoint).header_schema(tool, caller)
