"""Ids of tasks where one name stands for many servers: `SERVER__ID`, so that whoever asks again finds the way. Pure.

Server names hold no underscore, so the first `__` splits. An id is written where MCP has it, in both eras, and nowhere
else: what only looks like one in a result of a tool stays as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

from node.relaying import ACKNOWLEDGED
from proto.calls import Answer, Exchange, Notification
from proto.errors import Invalid
from proto.jsons import type_name

RELATED = "io.modelcontextprotocol/related-task"
"""In `_meta`, 2025-11-25: the task that a message belongs to."""

Rewrite = Callable[[str], str]


def addressed(server: str, task_id: str) -> str:
    return f"{server}__{task_id}"


def split(params: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """(server, params as it knows them) of a method about a task. Raises `Invalid` for an id that is not addressed."""
    task_id = params.get("taskId")
    if not isinstance(task_id, str):
        raise Invalid(f"params.taskId is {type_name(task_id)}; give the string that came with the task")
    server, sep, inner = task_id.partition("__")
    if not sep or not server:
        raise Invalid(f"params.taskId {task_id[:80]!r} is not one that was given here; such an id reads SERVER__ID")
    return server, _related({**params, "taskId": inner}, _stripper(server))


def by_server(task_ids: Any) -> dict[str, dict[str, Any]]:
    """Server → the filter of a listen for its tasks, from the ids that a client named. Raises `Invalid`."""
    if not isinstance(task_ids, list | None):
        raise Invalid(f"params.notifications.taskIds is {type_name(task_ids)}; give an array of ids")
    asked: dict[str, dict[str, Any]] = {}
    for task_id in task_ids or ():
        server, inner = split({"taskId": task_id})
        asked.setdefault(server, {"taskIds": []})["taskIds"].append(inner["taskId"])
    return asked


def holder(task_id: Any, servers: Collection[str]) -> str:
    """Which of these servers an id is addressed to; empty: none of them."""
    server, sep, _ = task_id.partition("__") if isinstance(task_id, str) else ("", "", "")
    return server if sep and server in servers else ""


def heard_of(notifications: dict[str, Any], servers: Collection[str]) -> tuple[str, dict[str, Any]]:
    """What one listen can hear of tasks: (the first server that an id names, the filter with the ids that it knows).

    ("", the filter as it is) where no id names one of these servers.
    """
    ids = notifications.get("taskIds")
    named = [(holder(task_id, servers), task_id) for task_id in ids] if isinstance(ids, list) else []
    server = next((server for server, _ in named if server), "")
    if not server:
        return "", notifications
    strip = _stripper(server)
    return server, {**notifications, "taskIds": [strip(task_id) for owner, task_id in named if owner == server]}


def outward(server: str, method: str, answer: Answer) -> Answer:
    """A server's answer, with the ids of its tasks addressed."""
    result = answer.get("result")
    if not isinstance(result, dict):
        return answer

    def rewrite(task_id: str) -> str:
        return addressed(server, task_id)

    changed = _related(result, rewrite)
    if method.startswith("tasks/") or result.get("resultType") == "task":
        changed = _own(changed, rewrite)
    if isinstance(task := changed.get("task"), dict) and "content" not in changed:
        changed = {**changed, "task": _own(task, rewrite)}
    if method == "tasks/list" and isinstance(tasks := changed.get("tasks"), list):
        changed = {**changed, "tasks": [_own(t, rewrite) if isinstance(t, dict) else t for t in tasks]}
    return answer if changed is result else {**answer, "result": changed}


class TaskExchange:
    """What a server says in mid-call, its tasks addressed; what the client answers, addresses taken off."""

    def __init__(self, server: str, exchange: Exchange) -> None:
        self._server = server
        self._exchange = exchange

    def event(self, notification: Notification) -> None:
        self._exchange.event(told(self._server, notification))

    async def request(self, request: Notification) -> Answer:
        answer = await self._exchange.request(_with_params(request, lambda p: _related(p, self._address)))
        result = answer.get("result")
        if not isinstance(result, dict):
            return answer
        plain = _related(result, _stripper(self._server))
        return answer if plain is result else {**answer, "result": plain}

    def _address(self, task_id: str) -> str:
        return addressed(self._server, task_id)


def told(server: str, notification: Notification) -> Notification:
    """A server's notification, with the id of the task that it is about addressed; also those that it acknowledges."""

    def rewrite(task_id: str) -> str:
        return addressed(server, task_id)

    if notification.get("method") == ACKNOWLEDGED:
        return _with_params(notification, lambda p: _honoured(p, rewrite))
    about = str(notification.get("method")).startswith("notifications/tasks")
    return _with_params(notification, lambda p: _related(_own(p, rewrite) if about else p, rewrite))


def _honoured(params: dict[str, Any], rewrite: Rewrite) -> dict[str, Any]:
    honoured = params.get("notifications")
    ids = honoured.get("taskIds") if isinstance(honoured, dict) else None
    if not isinstance(honoured, dict) or not isinstance(ids, list):
        return params
    return {**params, "notifications": {**honoured, "taskIds": [rewrite(i) for i in ids if isinstance(i, str)]}}


def _with_params(message: Notification, change: Callable[[dict[str, Any]], dict[str, Any]]) -> Notification:
    params = message.get("params")
    if not isinstance(params, dict):
        return message
    changed = change(params)
    return message if changed is params else {**message, "params": changed}


def _stripper(server: str) -> Rewrite:
    return lambda task_id: task_id.removeprefix(addressed(server, ""))


def _own(holder: dict[str, Any], rewrite: Rewrite) -> dict[str, Any]:
    task_id = holder.get("taskId")
    return {**holder, "taskId": rewrite(task_id)} if isinstance(task_id, str) else holder


def _related(holder: dict[str, Any], rewrite: Rewrite) -> dict[str, Any]:
    meta = holder.get("_meta")
    related = meta.get(RELATED) if isinstance(meta, dict) else None
    if not isinstance(meta, dict) or not isinstance(related, dict):
        return holder
    changed = _own(related, rewrite)
    return holder if changed is related else {**holder, "_meta": {**meta, RELATED: changed}}
