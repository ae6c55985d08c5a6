"""A tool that runs as a task only, called by a client that knows nothing of tasks: the gateway polls for it.

Tasks of 2025-11-25: `tools/call` with `task` is answered at once by `{"task": {"taskId", "status", "pollInterval"?}}`,
`tasks/get` tells how it is, `tasks/result` what came of it. A task that needs its client to answer something asks by
`tasks/result`, which therefore is called as soon as it says so.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

from proto.calls import Answer, Call, Exchange
from proto.errors import Expired, MeshError

log = logging.getLogger("toolmesh.bridge")

POLL_S, POLL_MIN_S, POLL_MAX_S = 0.5, 0.02, 10.0
"""Between two looks, unless the server says how long; it is not heard beyond these bounds."""
CANCEL_S = 5.0

Run = Callable[[Call, Exchange], Awaitable[Answer]]


def only_as_task(tools: tuple[dict[str, Any], ...]) -> frozenset[str]:
    """The names of the tools that cannot be called otherwise."""
    return frozenset(t["name"] for t in tools if _support(t) == "required" and isinstance(t.get("name"), str))


def _support(tool: dict[str, Any]) -> Any:
    execution = tool.get("execution")
    return execution.get("taskSupport") if isinstance(execution, dict) else None


async def polled(run: Run, call: Call, exchange: Exchange) -> Answer:
    """The result that the call would have had without a task. Cancelling cancels the task at the server.

    Raises what `run` raises, and `Expired` once the call's budget is over.
    """
    created = await run(replace(call, params={**call.params, "task": {}}), exchange)
    task = _task(created)
    if task is None:
        return created
    about = {"taskId": task["taskId"]}
    ended = False
    try:
        refused = await _worked(run, replace(call, method="tasks/get", params=about), exchange, task)
        # In here its client may be asked something, which takes people their time: the server's own limit knows that.
        answer = refused or await run(replace(call, method="tasks/result", params=about), exchange)
        ended = True
        return answer
    finally:
        if not ended:
            await _cancel(run, replace(call, method="tasks/cancel", params=about), exchange)


async def _worked(run: Run, look: Call, exchange: Exchange, task: dict[str, Any] | None) -> Answer | None:
    """Until the server works on it no more. Returns the error, if one answers a look. Raises `Expired`."""
    try:
        async with asyncio.timeout(look.budget_ms / 1000):
            while task is not None and task.get("status") == "working":
                await asyncio.sleep(_pause_s(task))
                looked = await run(look, exchange)
                if "error" in looked:
                    return looked
                task = looked["result"] if isinstance(looked["result"], dict) else None
    except TimeoutError:
        raise Expired(f"the call did not end within {look.budget_ms / 1000:g} s; its task was cancelled") from None
    return None


def _task(created: Answer) -> dict[str, Any] | None:
    """The task, if the server made one."""
    result = created.get("result")
    task = result.get("task") if isinstance(result, dict) else None
    return task if isinstance(task, dict) and isinstance(task.get("taskId"), str) else None


def _pause_s(task: dict[str, Any]) -> float:
    told = task.get("pollInterval")
    wanted_s = told / 1000 if isinstance(told, int | float) and not isinstance(told, bool) else POLL_S
    return min(max(wanted_s, POLL_MIN_S), POLL_MAX_S)


async def _cancel(run: Run, call: Call, exchange: Exchange) -> None:
    """Best effort, and to the end even while the caller's own cancellation is under way."""

    async def cancel() -> None:
        try:
            async with asyncio.timeout(CANCEL_S):
                await run(call, exchange)
        except (MeshError, TimeoutError) as e:
            log.debug("a task at %r was not cancelled: %s", call.server, e)

    await asyncio.shield(asyncio.create_task(cancel()))
