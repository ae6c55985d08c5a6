"""MCP 2024-11-05 to 2025-11-25: sessions and the calls in them, whatever transport brings the messages.

A disconnect is no cancel here: calls run in tasks of their session, and only `notifications/cancelled` or the
session's end stop them.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from mcp_types import LOG_LEVEL_META_KEY
from mcp_types.jsonrpc import INVALID_PARAMS, METHOD_NOT_FOUND
from mcp_types.version import HANDSHAKE_PROTOCOL_VERSIONS, LATEST_HANDSHAKE_VERSION
from multidict import istr

from node.ingress import envelope
from node.ingress.changes import NOTICE, ChangeFeed, promised
from node.ingress.envelope import RequestId, Shape
from node.ingress.errors import refusal
from node.ingress.exchange import LegacyExchange
from node.ingress.incoming import Incoming
from node.ingress.levels import LOG_LEVELS
from node.ingress.reply import Out, Outcome
from node.ingress.sessions import Session, Sessions
from node.ingress.settings import IngressSettings
from node.ingress.subscribed import Listen, SessionListens
from node.ports import Caller, Endpoints
from proto import jsons
from proto.calls import Answer, Exchange
from proto.errors import Forbidden, Invalid, MeshError, Unavailable, Unknown

log = logging.getLogger("toolmesh.ingress")

SESSION_ID = istr("Mcp-Session-Id")
SET_LEVEL = "logging/setLevel"
RESOURCE_NOT_FOUND = -32002

_SWEEP_S_MAX = 60.0
_NOT_HERE = frozenset({"initialize", "server/discover", "subscriptions/listen"})
_KEPT_HERE = frozenset({"notifications/cancelled", "notifications/initialized", "notifications/progress"})
_MODERN_MEMBERS = frozenset({"resultType", "ttlMs", "cacheScope"})


class LegacyEdge:
    """Sessions at `endpoints`. `node` is what their ids begin with, so that any node can tell who holds one."""

    def __init__(self, endpoints: Endpoints, settings: IngressSettings, feed: ChangeFeed, node: str = "") -> None:
        self.node = node
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

    async def initialize(self, incoming: Incoming, message: dict[str, Any]) -> tuple[Session | None, Outcome]:
        """Answer a request `initialize`, once what it is for has come up; no session where it is refused."""
        self.served += 1
        request_id, params = message["id"], message.get("params") or {}
        asked, capabilities = params.get("protocolVersion"), params.get("capabilities", {})
        if not isinstance(asked, str) or not isinstance(capabilities, dict):
            why = "params.protocolVersion must be a string and params.capabilities an object"
            return None, Outcome(envelope.error(request_id, INVALID_PARAMS, why))
        await self._endpoints.started(incoming.name, incoming.principal)
        version = asked if asked in HANDSHAKE_PROTOCOL_VERSIONS else LATEST_HANDSHAKE_VERSION
        session = Session(
            incoming.name,
            incoming.principal,
            version,
            capabilities,
            self._settings,
            node=self.node,
            kept=self.sessions.kept,
        )
        try:
            described = self._endpoints.endpoint(incoming.name).describe(session.caller)
        except Exception as e:  # the edge where every failure becomes protocol
            refused = self._refused(request_id, e, "initialize", params)
            # There is no session yet that a 404 could be mistaken for the end of.
            hidden = isinstance(e, Unknown | Forbidden)
            return None, Outcome(refused.body, 404, refused.headers) if hidden else refused
        offered, kinds = promised(described, incoming.name)
        session.logs = "logging" in offered
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
        session = self.sessions.find(session_id, incoming.name, incoming.principal.identity, _now_s())
        if session is not None:
            session.renew(incoming.principal)
        return session

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
            if self._own(session, method, params):
                return Outcome(envelope.result(request_id, {}))
            caller = incoming.caller(session.version, session.key, session.capabilities, params)
            return session.start(request_id, self._call(session, request_id, method, params, caller, out))
        except MeshError as e:
            return self._refused(request_id, e, method, params)

    def _own(self, session: Session, method: str, params: dict[str, Any]) -> bool:
        """Do what is the session's own matter and answered `{}` at once. False: it is for the endpoint.

        Raises `Invalid`, or `Unknown` for a method that a session of this revision does not have.
        """
        if method == "ping":
            return True
        if method == SET_LEVEL:
            level = params.get("level")
            if not isinstance(level, str) or level not in LOG_LEVELS:
                raise Invalid(f"params.level must be one of {', '.join(LOG_LEVELS)}")
            session.log_level = level
            # Where the server logs, its word is waited for.
            return not session.logs
        if method == "resources/unsubscribe":
            uri = _uri_of(params)
            if session.listens is not None:
                session.listens.unsubscribe(uri)
            return True
        if method in _NOT_HERE:
            raise Unknown(f"not a method of MCP {session.version} here", method=method)
        return False

    async def _call(
        self,
        session: Session,
        request_id: RequestId,
        method: str,
        params: dict[str, Any],
        caller: Caller,
        out: Out,
    ) -> Outcome:
        try:
            if method == "resources/subscribe":
                answer = await self._listens(session).subscribe(_uri_of(params), self._listen(session))
            elif method == SET_LEVEL:
                answer = await self._listens(session).hear_logs(params["level"], self._listen(session))
            else:
                if session.log_level is not None and not method.endswith("/list"):
                    params = _at_level(session.log_level, params)
                endpoint = self._endpoints.endpoint(session.endpoint)
                answer = await endpoint.handle(method, params, caller, LegacyExchange(out, session))
            if "error" in answer:
                return Outcome(envelope.refused(request_id, answer["error"]))
            return Outcome(envelope.result(request_id, _plain(answer["result"])))
        except Exception as e:  # the edge where every failure becomes protocol
            return self._refused(request_id, e, method, params)

    def _listens(self, session: Session) -> SessionListens:
        if session.listens is None:
            session.listens = SessionListens(session, self._settings.session_subscriptions_max)
        return session.listens

    def _listen(self, session: Session) -> Listen:
        async def listen(params: dict[str, Any], exchange: Exchange) -> Answer:
            return await self._endpoints.endpoint(session.endpoint).listen(params, session.caller, exchange)

        return listen

    def take(self, session: Session, message: dict[str, Any], shape: Shape) -> None:
        """A notification of the client's, or its answer to a question of ours."""
        if shape is Shape.RESPONSE:
            answer: Answer = {k: message[k] for k in ("error", "result") if k in message}
            if not session.answer(message["id"], answer):
                log.debug("%r answered %r, which nobody waits for", session, message["id"])
            return
        method, params = message["method"], message.get("params") or {}
        if method == "notifications/cancelled":
            request_id = params.get("requestId")
            if envelope.is_request_id(request_id):
                session.cancel(request_id)
        elif method.startswith("notifications/") and method not in _KEPT_HERE:
            told = session.aside(self._tell(session, method, params))
            if not told:
                log.warning("%r: %s is dropped, too much is running", session, method)

    async def _tell(self, session: Session, method: str, params: dict[str, Any]) -> None:
        try:
            await self._endpoints.endpoint(session.endpoint).notify(method, params, session.caller)
        except MeshError as e:  # a notification has no answer that could say so
            log.debug("%r: %s reached nobody: %r", session, method, e)
        except Exception:
            log.exception("%r: %s could not be passed on", session, method)

    def _refused(self, request_id: RequestId, cause: Exception, method: str, params: dict[str, Any]) -> Outcome:
        refused = refusal(cause, method=method, params=params)
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


def _uri_of(params: dict[str, Any]) -> str:
    uri = params.get("uri")
    if not isinstance(uri, str):
        raise Invalid(f"params.uri must be a string, not {jsons.type_name(uri)}")
    return uri


def _at_level(level: str, params: dict[str, Any]) -> dict[str, Any]:
    """The parameters with the session's log level, in the words of 2026-07-28: only the owner knows its server's."""
    meta = params.get("_meta")
    return {**params, "_meta": {**(meta if isinstance(meta, dict) else {}), LOG_LEVEL_META_KEY: level}}


def _now_s() -> float:
    return asyncio.get_running_loop().time()
