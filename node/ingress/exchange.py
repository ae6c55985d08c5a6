"""The caller's side of a running call, in each era: which of a server's messages reach the agent, and how."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from node.ingress import envelope
from node.ingress.levels import LOG_LEVELS, loud_enough
from node.ingress.reply import Out
from node.ingress.sessions import Session
from node.sdk import subscriptions
from proto.calls import Answer, Notification
from proto.errors import Unavailable

__all__ = ["LOG_LEVELS", "LegacyExchange", "ModernExchange", "loud_enough", "may_be_asked"]

_CAPABILITY = {"sampling/createMessage": "sampling", "elicitation/create": "elicitation", "roots/list": "roots"}


class ModernExchange:
    """2026-07-28: progress, and logs if asked for, on the request's own stream; the client is never asked."""

    def __init__(self, out: Out, log_level: str) -> None:
        self._out = out
        self._log_level = log_level

    def event(self, notification: Notification) -> None:
        method = notification.get("method")
        if method == "notifications/message":
            if self._log_level not in LOG_LEVELS or not loud_enough(notification, self._log_level):
                return
        elif method in subscriptions.LISTEN_STREAM_METHODS:
            # List changes belong on `subscriptions/listen` streams alone.
            return
        self._out.send(envelope.notification(notification))

    async def request(self, request: Notification) -> Answer:
        raise Unavailable(
            f"the server asked the client for {request.get('method')!r} in mid-call, which MCP 2026-07-28 forbids"
        )


class LegacyExchange:
    """Sessions: a server's notifications and requests go out ahead of the answer; the client's answers are messages.

    Where `out` takes nothing more, the client is asked on a stream of its session instead.
    """

    def __init__(self, out: Out, session: Session) -> None:
        self._out = out
        self._session = session

    def event(self, notification: Notification) -> None:
        if not self._session.quiet(notification):
            self._out.send(envelope.notification(notification))

    async def request(self, request: Notification) -> Answer:
        method, params = str(request.get("method")), request.get("params")
        if not may_be_asked(self._session.capabilities, method, params):
            raise Unavailable(f"the client did not declare what {method!r} needs")
        request_id, answer = self._session.ask()
        try:
            if not self._send(envelope.request(request_id, request)):
                raise Unavailable(f"the client cannot be asked for {method!r}: it has no stream open")
            return await answer
        except asyncio.CancelledError:
            self._send(
                envelope.notification({"method": "notifications/cancelled", "params": {"requestId": request_id}})
            )
            raise
        finally:
            self._session.forget(request_id)

    def _send(self, message: bytes) -> bool:
        return self._out.send(message, keep=True) or self._session.send(message, keep=True)


def may_be_asked(capabilities: Mapping[str, Any], method: str, params: Any) -> bool:
    """Did the client declare, at initialize, that it answers this? What MCP has no capability for may always be asked:
    the client says itself whether it knows the method."""
    name = "tasks" if method.startswith("tasks/") else _CAPABILITY.get(method)
    if name is None:
        return True
    declared = capabilities.get(name)
    if not isinstance(declared, dict):
        return False
    # Form mode is the default and needs no mention; url mode (2025-11-25) does.
    return not (method == "elicitation/create" and isinstance(params, dict) and params.get("mode") == "url") or (
        "url" in declared
    )
