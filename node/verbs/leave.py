"""`toolmesh leave`: take a node out of its mesh for good."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

from node.verbs.drain import drain, remaining
from node.verbs.remote import Remote
from node.verbs.tables import safe
from node.words import count
from proto.errors import Conflict, MeshError

PATH = "/api/v1/leave"
ENDS_WITHIN_S = 20.0
"""For the process, once it has said goodbye: its servers are given some seconds to end."""
LOOK_EVERY_S = 0.2


async def consequences(remote: Remote) -> str:
    """What goes with the node, in a few sentences. Raises `Conflict` if there is no mesh to leave, or `MeshError`."""
    status = await remote.get("/api/v1/status")
    node = status["node"]
    if not node["grpc"]:
        raise Conflict(f"{node['name']} runs alone: there is no mesh to leave; stop it with SIGTERM or Ctrl-C")
    own = [s for s in status["servers"] if s["owner"] == node["name"]]
    elsewhere = {s["service"] for s in status["servers"] if s["owner"] != node["name"] and s["state"] == "up"} - {""}
    last = sorted(s["name"] for s in own if s["service"] not in elsewhere)
    lost = (
        f"no other node has {', '.join(last)}" if last else "others have what it offers" if own else "it has no servers"
    )
    what = "peers delete what they hold of it, and its process ends"
    return safe(f"{node['name']} leaves {node['mesh']} for good: {what}; {lost}")


async def leave(remote: Remote, wait_s: float, cut: bool, say: Callable[[str], None]) -> dict[str, Any]:
    """The node's last word: its process has ended, or calls still run after `wait_s` seconds. Raises `MeshError`."""
    await drain(remote, wait_s, say)
    answer = await remote.post(PATH, {"wait_s": 0, "cut": cut})
    if answer["left"] and not await _ended(remote):
        say(f"its process still runs {ENDS_WITHIN_S:g} s after the goodbye; look at its log")
    return answer


async def _ended(remote: Remote) -> bool:
    until_s = time.monotonic() + ENDS_WITHIN_S
    while time.monotonic() < until_s:
        try:
            await remote.get("/healthz")
        except MeshError:
            return True
        await asyncio.sleep(LOOK_EVERY_S)
    return False


def outcome(answer: dict[str, Any], wait_s: float) -> str:
    """The last line for a person."""
    if not answer["left"]:
        mends = "wait longer with --wait, cut them with --cut, or let it stay with 'toolmesh drain --undo'"
        return f"it has not left: after {wait_s:g} s {remaining(answer)}; {mends}"
    told, untold = answer["told"], answer["untold"]
    said = f"it has left: {count(len(told), 'peer')} took its goodbye{_named(told)}"
    if untold:
        said += f"; not told: {', '.join(untold)}, which will hold it for down and forget it after a day"
    return safe(said)


def _named(names: list[str]) -> str:
    return f" ({', '.join(names)})" if names else ""
