"""Messages of a call that are too long to travel whole: parted from their text here, put together there."""

from __future__ import annotations

from dataclasses import replace
from typing import TypeVar

from federation.chunks import CHUNKED_ABOVE_BYTES
from federation.tls import MESSAGE_BYTES_MAX
from proto import calls, jsons
from proto import mesh_pb2 as pb
from proto.errors import Exhausted

M = TypeVar("M", calls.Event, calls.Request, calls.Reply)

WHOLE_BYTES_MAX = MESSAGE_BYTES_MAX // 2
"""Of a message to a peer that takes none in chunks."""

QUESTION_BYTES_MAX = 32 * 1024 * 1024
"""Of a request to the client or its reply. Large model APIs take requests of about this size, images included."""

_TEXT_OF = {"open": "params", "reply": "answer", "event": "notification", "request": "request"}


def part(wire: pb.CallUp | pb.CallDown, *, chunked: bool = True) -> bytes:
    """Take a long text out of the frame, which then announces its length. b"": the frame travels whole.

    `chunked`: the peer takes this message in chunks; otherwise `Exhausted` beyond what travels whole.
    """
    kind = wire.WhichOneof("frame") or ""
    if kind not in _TEXT_OF:
        return b""
    body, field = getattr(wire, kind), _TEXT_OF[kind]
    text: bytes = getattr(body, field)
    if len(text) <= CHUNKED_ABOVE_BYTES:
        return b""
    if not chunked:
        if len(text) > WHOLE_BYTES_MAX:
            raise Exhausted(
                f"this {kind} is {len(text)} bytes long; the other node's version carries at most {WHOLE_BYTES_MAX}, "
                f"later ones {QUESTION_BYTES_MAX}: upgrade it, or send less"
            )
        return b""
    body.ClearField(field)
    body.chunked_bytes = len(text)
    return text


def whole(frame: M, text: bytes) -> M:
    """The message with its text. Raises `Invalid` unless that is a JSON object."""
    match frame:
        case calls.Event():
            return replace(frame, notification=jsons.loads_object(text, "the notification"), chunked_bytes=0)
        case calls.Request():
            return replace(frame, request=jsons.loads_object(text, "the server's request"), chunked_bytes=0)
        case calls.Reply():
            return replace(frame, answer=jsons.loads_object(text, "the reply"), chunked_bytes=0)
