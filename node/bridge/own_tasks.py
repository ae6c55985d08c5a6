"""Each caller has its own tasks: a server behind a node cannot tell its callers apart, so the node does.

Most sessions with a server are of one principal each, and some are everybody's: those of a server of 2026-07-28, of
one without state, of `sessions: shared`. There whoever knows the id of a task could read or cancel it
(CVE-2026-52870). Here, at the owner, ids are remembered with who began them, and are unknown to everybody else.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import replace
from typing import Any

from mcp_types.jsonrpc import MISSING_REQUIRED_CLIENT_CAPABILITY

from node.bridge.eras import MODERN
from node.endpoints.capabilities import TASKS
from node.relaying import LISTEN
from proto.calls import Answer, Call, Exchange, Target
from proto.errors import Invalid, Unknown

TASKS_MAX = 10_000
"""Of one server, and the oldest are forgotten: nobody can ask about those any more."""
TASKS_OF_ONE_MAX = 512
"""Of one caller at one server, likewise, so that nobody can make others' be forgotten alone."""

_OF_ONE_TASK = frozenset({"tasks/get", "tasks/update", "tasks/cancel"})
"""What the tasks extension of 2026-07-28 asks about one task (SEP-2663)."""

Identity = tuple[str, str, str]


class OwnTasks:
    """`target` runs a server's calls. What it is asked about tasks is about the caller's own.

    The table is in memory: after a restart of the node no earlier task is anybody's.
    """

    def __init__(
        self, target: Target, server: str, *, tasks_max: int = TASKS_MAX, tasks_of_one_max: int = TASKS_OF_ONE_MAX
    ) -> None:
        self._target = target
        self._server = server
        self._tasks_max = tasks_max
        self._tasks_of_one_max = tasks_of_one_max
        self._holders: OrderedDict[str, Identity] = OrderedDict()
        self._held: dict[Identity, OrderedDict[str, None]] = {}

    def __repr__(self) -> str:
        return f"OwnTasks({self._target!r}, {len(self._holders)} tasks)"

    async def call(self, call: Call, exchange: Exchange) -> Answer:
        """As `Target.call`. Raises `Invalid` for a task that is not the caller's, be there one of that id or not, and
        `Unknown` for a method about it that its era does not have."""
        about = call.method.startswith("tasks/")
        if about and call.method != "tasks/list":
            if (wrong := self._wrong(call)) is not None:
                return wrong
        elif call.method == LISTEN:
            call = self._heard(call)
        answer = await self._target.call(call, exchange)
        result = answer.get("result")
        if not isinstance(result, dict):
            return answer
        if call.method == "tasks/list":
            return self._listed(call, answer, result)
        if not about and (task := _begun(result)):
            self._hold(task, call.principal.identity)
        return answer

    def _wrong(self, call: Call) -> Answer | None:
        """What is told of a task that is not the caller's, in the order in which a server of its era would look."""
        task = call.params.get("taskId")
        # Without an id the server words its own complaint.
        if not isinstance(task, str) or self._is(task, call.principal.identity):
            return None
        if call.era >= MODERN and call.method not in _OF_ONE_TASK:
            raise Unknown(f"method {call.method!r} is not found", method=call.method)
        if call.era >= MODERN and not _declares_tasks(call):
            data: dict[str, Any] = {"requiredCapabilities": {"extensions": {TASKS: {}}}}
            message = f"{call.method} needs a client that declares the extension {TASKS}"
            return {"error": {"code": MISSING_REQUIRED_CLIENT_CAPABILITY, "message": message, "data": data}}
        raise Invalid(f"params.taskId: server {self._server!r} has no task {task[:200]!r} of yours")

    def _heard(self, call: Call) -> Call:
        asked = call.params.get("notifications")
        ids = asked.get("taskIds") if isinstance(asked, dict) else None
        if not isinstance(asked, dict) or not isinstance(ids, list):
            return call
        mine = [i for i in ids if isinstance(i, str) and self._holders.get(i) == call.principal.identity]
        return replace(call, params={**call.params, "notifications": {**asked, "taskIds": mine}})

    def _listed(self, call: Call, answer: Answer, result: dict[str, Any]) -> Answer:
        tasks = result.get("tasks")
        if not isinstance(tasks, list):
            return answer
        me = call.principal.identity
        mine = [t for t in tasks if isinstance(t, dict) and self._is(t.get("taskId"), me)]
        return answer if len(mine) == len(tasks) else {**answer, "result": {**result, "tasks": mine}}

    def _is(self, task: Any, identity: Identity) -> bool:
        return isinstance(task, str) and self._holders.get(task) == identity

    def _hold(self, task: str, identity: Identity) -> None:
        # A server that counts its tasks begins anew when it restarts: the earlier task of that id is no more.
        if task in self._holders:
            self._forget(task)
        self._holders[task] = identity
        mine = self._held.setdefault(identity, OrderedDict())
        mine[task] = None
        if len(mine) > self._tasks_of_one_max:
            self._forget(next(iter(mine)))
        elif len(self._holders) > self._tasks_max:
            self._forget(next(iter(self._holders)))

    def _forget(self, task: str) -> None:
        identity = self._holders.pop(task)
        mine = self._held[identity]
        del mine[task]
        if not mine:
            del self._held[identity]


def _declares_tasks(call: Call) -> bool:
    extensions = call.client_capabilities.get("extensions")
    return isinstance(extensions, dict) and TASKS in extensions


def _begun(result: dict[str, Any]) -> str:
    """The id of the task that an answer tells of: in `task` (2025-11-25), or in the result itself (2026-07-28)."""
    task = result.get("task")
    if isinstance(task, dict):
        found = task.get("taskId")
    else:
        found = result.get("taskId") if result.get("resultType") == "task" else None
    return found if isinstance(found, str) else ""
