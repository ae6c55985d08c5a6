"""Asking other nodes whether they hear one that fell silent here."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Sequence

from federation.events import AskWitnesses, Witnessed
from federation.known import Known
from federation.line import Line
from proto.names import NodeId


async def ask(
    about: NodeId,
    question: AskWitnesses,
    others: Sequence[Known],
    line: Callable[[Known], Line],
    now_ms: Callable[[], int],
) -> Witnessed:
    """The word of some of `others`, drawn at random, those with a line first. Ends within the patience of `Line.hears`.

    A witness is asked only if it is alive from here, and believed only if it still is when its answer is there: the
    word of one that is itself cut off, or was frozen, says nothing about a third.
    """

    def present(witness: Known) -> bool:
        return witness.core.pulse.hears(now_ms())

    able = [k for k in others if k.node != about and present(k)]
    # First those to whom there is a line: where a mesh is overloaded, further handshakes are what it can do without.
    drawn = secrets.SystemRandom().sample(able, len(able))
    chosen = sorted(drawn, key=lambda known: known.line is None)[: question.most]
    replies = await asyncio.gather(*(line(w).hears(about) for w in chosen))
    said = [(w.node.name, reply) for w, reply in zip(chosen, replies, strict=True) if reply is not None and present(w)]
    return Witnessed(tuple(name for name, _ in said), tuple(name for name, hears in said if hears), question.question)
