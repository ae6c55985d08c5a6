"""Batches of 2025-03-26: an array of messages, never with initialize, answered by one array."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mcp_types.jsonrpc import INVALID_REQUEST

from node.ingress import envelope
from node.ingress.envelope import Shape
from node.ingress.incoming import Incoming
from node.ingress.legacy import LegacyEdge
from node.ingress.reply import Out, Outcome
from node.ingress.sessions import Session
from proto.errors import Invalid

BATCHING_VERSION = "2025-03-26"


@dataclass(frozen=True, slots=True)
class Batch:
    """What was begun of one: answers that are there already, and calls of the session that run."""

    ready: Sequence[Outcome]
    running: Sequence[asyncio.Task[Outcome]]

    @property
    def expected(self) -> bool:
        """Was anything asked? An array of notifications alone has no answer."""
        return bool(self.ready or self.running)

    async def outcome(self) -> Outcome | None:
        """One array, once the last call has ended; None where every call was cancelled."""
        if self.running:
            await asyncio.wait(self.running)
        bodies = [outcome.body for outcome in self.ready]
        bodies += [task.result().body for task in self.running if not task.cancelled()]
        return Outcome(b"[" + b",".join(bodies) + b"]") if bodies else None


def refused(messages: list[Any], session: Session, batch_max: int) -> Outcome | None:
    """Why the array as a whole is not taken; None: it is."""
    if session.version != BATCHING_VERSION:
        why = f"MCP {session.version} has no batches; send one message"
    elif any(isinstance(m, dict) and m.get("method") == "initialize" for m in messages):
        why = "initialize must not be part of a batch"
    elif not 0 < len(messages) <= batch_max:
        why = f"a batch must hold 1 to {batch_max} messages, not {len(messages)}"
    else:
        return None
    return Outcome(envelope.error(None, INVALID_REQUEST, why), 400)


def start(edge: LegacyEdge, incoming: Incoming, session: Session, messages: list[Any], out: Out) -> Batch:
    """Run the requests of one that is not refused, and take the rest. A message that is none gets its own error."""
    ready: list[Outcome] = []
    running: list[asyncio.Task[Outcome]] = []
    for message in messages:
        try:
            shape = envelope.shape_of(message)
        except Invalid as e:
            ready.append(Outcome(envelope.error(None, INVALID_REQUEST, e.message)))
            continue
        if shape is not Shape.REQUEST:
            edge.take(session, message, shape)
            continue
        started = edge.start(incoming, session, message, out)
        if isinstance(started, Outcome):
            ready.append(started)
        else:
            running.append(started)
    return Batch(ready, running)
