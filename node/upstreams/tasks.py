"""Tasks of 2025-11-25: each is known only in the session that it was begun in, so that one is kept, and found again."""

from __future__ import annotations

from typing import Any

from node.upstreams.pool import Slot
from proto.calls import Answer, Call

KEEP_S = 600.0
"""After a task was last heard of; or less, if it says how long it lives."""
TASKS_MAX = 256
"""Of one session; the oldest are forgotten."""


def task_of(call: Call) -> str:
    """The id of the task that a call is about; empty for none."""
    if not call.method.startswith("tasks/"):
        return ""
    task = call.params.get("taskId")
    return task if isinstance(task, str) else ""


def note(slot: Slot, call: Call, answer: Answer, now: float) -> None:
    """Keep the session for a task that has begun in it, or is asked about; let go of one that was fetched."""
    result = answer.get("result")
    if not isinstance(result, dict):
        return
    if call.method == "tasks/result":
        slot.tasks.pop(task_of(call), None)
        return
    begun: Any = result.get("task")
    said = begun if isinstance(begun, dict) else result if task_of(call) in slot.tasks else {}
    task = said.get("taskId")
    if isinstance(task, str) and task:
        ttl_ms = said.get("ttl")
        lives_s = ttl_ms / 1000 if isinstance(ttl_ms, int | float) and ttl_ms >= 0 else KEEP_S
        slot.tasks[task] = now + min(lives_s, KEEP_S)
        if len(slot.tasks) > TASKS_MAX:
            del slot.tasks[next(iter(slot.tasks))]
