"""MCP 2024-11-05 to 2025-11-25: sessions and the calls in them, whatever transport brings the messages.

A disconnect is no cancel here: calls run in tasks of their session, and only `notifications/cancelled` or the
session's end stop them.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from mcp_types.jsonrpc import INVALID_PARAMS, METHOD_NOT_FOUND
from mcp_types.version import HANDSHAKE_PROTOCOL_VERSIONS, LATEST_HANDSHAKE_VERSION
from multidict import istr

from node.ingress import envelope
from node.ingress.changes import NOTICE, ChangeFeed, promised
from node.ingress.envelope import RequestId, Shape
from node.ingress.errors import refusal
from node.ingress.exchange import LOG_LEVELS, LegacyExchange
from node.ingress.incoming import Incoming
from node.ingress.reply import Out, Outcome
from node.ingress.sessions import Session, Sessions
from node.ingress.settings import IngressSettings
from node.ports import Caller, Endpoints
from proto.calls import Answer
from proto.errors import Forbidden, Invalid, MeshError, Unavailable, Unknown

log = logging.getLogger("toolmesh.ingress")

SESSION_ID = istr("Mcp-Session-Id")
RESOURCE_NOT_FOUND = -32002

_SWEEP_S_MAX = 60.0
_NOT_HERE = frozenset({"server/discover", "subscriptions/listen", "resources/subscribe", "resources/unsubscribe"})
_MODERN_MEMBERS = frozenset({"resultType", "ttlMs", "cacheScope"})


class LegacyEdge:
    def __init__(self, endpoints: Endpoints, settings: IngressSettings, feed: ChangeFeed) -> None:
        self._endpoints = endpoints
        self._settings = settings
        self._feed = feed
        self.sessions = Sessions(settings)
        self._sweep: asyncio.TimerHandle | None = None
        self.served = 0

    async def close(self) -> None:
        """End every session: cancel its calls, close its streams."""
        if self._sweep is not None:
            self._sweep.cancel()
            self._sweep = None
        tasks = self.sessions.end_all()
        if tasks:
            await asyncio.wait(tasks)

    # ---- requests and what else a session is sent ------------------------------------------------

    def initialize(self, incoming: Incoming, message: dict[str, Any]) -> tuple[Session | None, Outcome]:
        """Answer a request `initialize`; no session where it is refused."""
        self.served += 1
        request_id, params = message["id"], message.get("params") or {}
        asked, capabilities = params.get("protocolVersion"), params.get("capabilities", {})
        if not isinstance(asked, str) or not isinstance(capabilities, dict):
            why = "params.protocolVersion must be a string and params.capabilities an object"
            return None, Outcome(envelope.error(request_id, INVALID_PARAMS, why))
        version = asked if asked in HANDSHAKE_PROTOCOL_VERSIONS else LATEST_HANDSHAKE_VERSION
        session = Session(incoming.name, incoming.principal.identity, version, capabilities, self._settings)
        try:
            described = self._endpoints.endpoint(incoming.name).describe(
                incoming.caller(version, session.key, capabilities, params)
            )
        except Exception as e:  # the edge where every failure becomes protocol
            refused = self._refused(request_id, e, "initialize", params)
            # There is no session yet that a 404 could be mistaken for the end of.
            hidden = isinstance(e, Unknown | Forbidden)
            return None, Outcome(refused.body, 404, refused.headers) if hidden else refused
        offered, kinds = promised(described, incoming.name)
        try:
            self.sessions.open(session, _now_s())
        except Unavailable as e:
            refused = self._refused(request_id, e, "initialize", params)
            return None, Outcome(refused.body, 503, refused.headers)
        if kinds:
            session.changes = self._feed.subscribe(
                incoming.name,
                kinds,
                lambda kind: session.notify(envelope.notification({"method": NOTICE[kind]})),
                incoming.principal,
            )
        self._arm_sweep()
        result = {"protocolVersion": version, "capabilities": offered, "serverInfo": described.get("serverInfo")}
        if described.get("instructions"):
            result["instructions"] = described["instructions"]
        return session, Outcome(envelope.result(request_id, result), headers={SESSION_ID: session.id})

    def find(self, session_id: str, incoming: Incoming) -> Session | None:
        """The session, if it is known here, to this caller, at this address."""
        return self.sessions.find(session_id, incoming.name, incoming.principal.identity, _now_s())

    def start(
        self, incoming: Incoming, session: Session, message: dict[str, Any], out: Out
    ) -> asyncio.Task[Outcome] | Outcome:
        """Run one request; what its server says ahead of the answer goes to `out`.

        The task is the session's: whoever waits for it may go away. It is cancelled if the client cancels the
        request or the session ends, and raises nothing else.
        """
        self.served += 1
        request_id, method, params = message["id"], message["method"], message.get("params") or {}
        try:
            own = self._own(session, method, params)
            if own is not None:
                return Outcome(envelope.result(request_id, own))
            caller = incoming.caller(session.version, session.key, session.capabilities, params)
            return session.start(request_id, self._call(incoming, session, request_id, method, params, caller, out))
        except MeshError as e:
            return self._refused(request_id, e, method, params)

    def _own(self, session: Session, method: str, params: dict[str, Any]) -> dict[str, Any] | None:
        """The result of a method that is the session's own; None for all others."""
        if method == "ping":
            return {}
        if method == "logging/setLevel":
            level = params.get("level")
            if not isinstance(level, str) or level not in LOG_LEVELS:
                raise Invalid(f"params.level must be one of {', '.join(LOG_LEVELS)}")
            session.log_level = level
            return {}
        if method in _NOT_HERE or method == "initialize":
            raise Unknown(f"not a method of MCP {session.version} here", method=method)
        return None

    async def _call(
        self,
        incoming: Incoming,
        session: Session,
        request_id: RequestId,
        method: str,
        params: dict[str, Any],
        caller: Caller,
        out: Out,
    ) -> Outcome:
        try:
            endpoint = self._endpoints.endpoint(incoming.name)
            answer = await endpoint.handle(method, params, caller, LegacyExchange(out, session))
            if "error" in answer:
                return Outcome(envelope.refused(request_id, answer["error"]))
            return Outcome(envelope.result(request_id, _plain(answer["result"])))
        except Exception as e:  # the edge where every failure becomes protocol
            return self._refused(request_id, e, method, params)

    def take(self, session: Session, message: dict[str, Any], shape: Shape) -> None:
        """A notification of the client's, or its answer to a question of ours."""
        if shape is Shape.RESPONSE:
            answer: Answer = {k: message[k] for k in ("error", "result") if k in message}
            if not session.answer(message["id"], answer):
                log.debug("%r answered %r, which nobody waits for", session, message["id"])
        elif message["method"] == "notifications/cancelled":
            request_id = (message.get("params") or {}).get("requestId")
            if envelope.is_request_id(request_id):
                session.cancel(request_id)

    def _refused(self, request_id: RequestId, cause: Exception, method: str, params: dict[str, Any]) -> Outcome:
        refused = refusal(
            cause, method=method, params=params, resource_metadata_url=self._settings.resource_metadata_url
        )
        error = refused.error
        if method == "resources/read" and refused.data["kind"] == "unknown" and refused.code != METHOD_NOT_FOUND:
            error["code"] = RESOURCE_NOT_FOUND
        return Outcome(envelope.refused(request_id, error), refused.legacy_status, refused.headers)

    def end(self, session: Session) -> None:
        """Cancel its calls, close its streams, forget it."""
        self.sessions.end(session)

    # ---- sweeping -------------------------------------------------------------------------------

    def _arm_sweep(self) -> None:
        if self._sweep is None:
            every_s = min(_SWEEP_S_MAX, self._settings.session_idle_s / 2)
            self._sweep = asyncio.get_running_loop().call_later(every_s, self._swept)

    def _swept(self) -> None:
        self._sweep = None
        if ended := self.sessions.sweep(_now_s()):
            log.info("%d idle sessions forgotten, %d open", ended, len(self.sessions))
        if len(self.sessions):
            self._arm_sweep()


def _plain(result: Any) -> Any:
    """Without what only 2026-07-28 knows; a result of an older server is left as it is, whatever it holds."""
    if not isinstance(result, dict) or result.get("resultType") != "complete":
        return result
    return {k: v for k, v in result.items() if k not in _MODERN_MEMBERS}


def _now_s() -> float:
    return asyncio.get_running_loop().time()
