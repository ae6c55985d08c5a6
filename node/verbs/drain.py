"""`toolmesh drain`: send work elsewhere and wait until nothing runs, or take it again."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from node.verbs.remote import Remote

PATH = "/api/v1/drain"
ASK_EVERY_S = 1.0
"""The node answers earlier when it is done; meanwhile what remains is said so often, where it has changed."""


async def drain(remote: Remote, wait_s: float, say: Callable[[str], None]) -> dict[str, Any]:
    """The node's last word, after `wait_s` seconds at most. Raises `MeshError`."""
    until_s = time.monotonic() + wait_s
    before = ""
    while True:
        left_s = max(0.0, until_s - time.monotonic())
        answer = await remote.post(PATH, {"on": True, "wait_s": min(left_s, ASK_EVERY_S)})
        if answer.get("done") or left_s <= 0:
            return answer
        if (now := remaining(answer)) != before:
            say(f"draining: {now}")
            before = now


async def undo(remote: Remote) -> dict[str, Any]:
    """The node takes new work again. Raises `MeshError`."""
    return await remote.post(PATH, {"on": False})


def outcome(answer: dict[str, Any], wait_s: float) -> str:
    """The last line for a person."""
    if not answer.get("draining"):
        return "the node takes new work"
    if answer.get("done"):
        return "drained: nothing runs, and other nodes send nothing; stop it, or 'toolmesh drain --undo'"
    mends = "wait longer with --wait, take it back with --undo, or stop the node, which gives it node.drain_s seconds"
    return f"after {wait_s:g} s: {remaining(answer)}; {mends}"


def remaining(answer: dict[str, Any]) -> str:
    """What keeps the node from being drained."""
    running, for_peers, sessions = (int(answer.get(k) or 0) for k in ("in_flight", "for_peers", "sessions"))
    parts = ["nothing runs, but work may still be on its way"]
    if running:
        parts = [
            f"{running} call{'s' * (running != 1)} {'run' if running != 1 else 'runs'}, {for_peers} for other nodes"
        ]
    if sessions:
        parts.append(
            f"{sessions} session{'s' * (sessions != 1)} of agents {'stay' if sessions != 1 else 'stays'} until it stops"
        )
    return "; ".join(parts)
