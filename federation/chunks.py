"""Texts too long for one frame: cut, sent in turn with other calls, put together again.

Pure: no socket, clock or await. The sender of a text holds a credit per call, `WINDOW_BYTES` at first; the
receiver's `Window` frames add to it as it takes the chunks. So a stalled or huge text never holds up another
call's frames for longer than one chunk.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

from proto.calls import CHUNK_BYTES
from proto.errors import Exhausted, Invalid

F = TypeVar("F")

CHUNKED_ABOVE_BYTES = 256 * 1024
"""A text up to this long travels in one frame."""

WINDOW_BYTES = 1024 * 1024
"""What may be on the way of one text, unclaimed. Lower: slower far away (window ÷ round trip); higher: more held."""

_GRANT_BYTES = WINDOW_BYTES // 4
LANE_EVENTS_MAX = 16_384
"""Droppable frames waiting for one call; further ones are dropped and counted. A server may say thousands of things in
one breath, before any of them can be written: that alone is no sign of a peer which does not keep up."""
LANE_EVENT_BYTES_MAX = 4 * 1024 * 1024
EVENTS_BYTES_MAX = 64 * 1024 * 1024
"""Of droppable frames that wait for all calls together, each counted with `FRAME_BYTES` more."""
FRAME_BYTES = 256


class Room:
    """Bytes of unfinished texts that one side holds, of all calls together, `bytes_max` at most."""

    def __init__(self, bytes_max: int) -> None:
        self.bytes_max = bytes_max
        self.taken = 0

    def take(self, size: int) -> bool:
        """False if there is no room for so much more."""
        fits = self.taken + size <= self.bytes_max
        if fits:
            self.taken += size
        return fits

    def give_back(self, size: int) -> None:
        self.taken -= size

    def __repr__(self) -> str:
        return f"Room({self.taken} of {self.bytes_max} bytes taken)"


class Assembly:
    """The long texts of one call, being received one after the other; the window runs on from text to text.

    `limit` bounds the length of each, in bytes. `length` is what has come of the present one, `received` of all.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._parts: list[bytes] = []
        self._allowed = WINDOW_BYTES
        self._granted_at = 0
        self.length = 0
        self.received = 0

    def add(self, data: bytes) -> int:
        """Take a chunk; returns how many bytes to grant the sender now (0: none yet).

        Raises `Exhausted` beyond the limit, `Invalid` for a chunk that is empty, too long, or beyond the window.
        """
        if not 0 < len(data) <= CHUNK_BYTES:
            raise Invalid(f"a chunk of {len(data)} bytes came; chunks hold 1 to {CHUNK_BYTES}")
        self.length += len(data)
        self.received += len(data)
        if self.length > self._limit:
            raise Exhausted(f"the text is longer than {self._limit} bytes, the most that is carried for one call")
        if self.received > self._allowed:
            raise Invalid(f"{self.received} bytes came where only {self._allowed} were granted")
        self._parts.append(data)
        consumed = self.received - self._granted_at
        if consumed < _GRANT_BYTES:
            return 0
        self._granted_at = self.received
        self._allowed += consumed
        return consumed

    def text(self, announced: int) -> bytes:
        """The whole; the next text begins. Raises `Invalid` unless it is as long as its sender said."""
        if self.length != announced:
            raise Invalid(f"{self.length} bytes came of a text of {announced}")
        text = b"".join(self._parts)
        self.forget()
        return text

    def forget(self) -> None:
        """What has come is not wanted."""
        self._parts.clear()
        self.length = 0


class _Lane(Generic[F]):
    __slots__ = ("credit", "items", "light", "light_bytes", "queued")

    def __init__(self) -> None:
        self.items: deque[_Item[F]] = deque()
        self.credit = WINDOW_BYTES
        self.queued = False
        self.light = 0
        self.light_bytes = 0


class _Item(Generic[F]):
    __slots__ = ("frame", "last", "light_bytes", "offset", "text")

    def __init__(self, frame: F | None, text: bytes, light_bytes: int, last: bool) -> None:
        self.frame = frame
        self.text = memoryview(text)
        self.offset = 0
        self.light_bytes = light_bytes
        self.last = last


class Lanes(Generic[F]):
    """What waits to be written on one stream: a first-in-first-out lane per call, served in turn.

    `chunk(call_id, data)` makes a frame of a piece of text. A lane keeps its credit until its frame marked
    `last` has been taken, or until it is dropped. `taken` counts frames taken, `dropped` those that were lost for
    want of room; `text_bytes` of long texts wait, and `light_bytes` of what may be lost.
    """

    def __init__(self, chunk: Callable[[str, bytes], F]) -> None:
        self._chunk = chunk
        self._lanes: dict[str, _Lane[F]] = {}
        self._ready: deque[str] = deque()
        self.dropped = 0
        self.taken = 0
        self.text_bytes = 0
        self.light_bytes = 0

    def put(self, call_id: str, frame: F, *, last: bool = False) -> None:
        self._add(call_id, _Item(frame, b"", 0, last))

    def put_light(self, call_id: str, frame: F, size: int, text: bytes = b"") -> bool:
        """Queue a frame, after its text if that is long, that may be lost; False if there is no room and it was.

        `size` is the length of both in bytes.
        """
        lane = self._lanes.get(call_id)
        waiting, waiting_bytes = (lane.light, lane.light_bytes) if lane else (0, 0)
        full = waiting >= LANE_EVENTS_MAX or waiting_bytes + size > LANE_EVENT_BYTES_MAX
        if full or self.light_bytes + size + FRAME_BYTES > EVENTS_BYTES_MAX:
            self.dropped += 1
            return False
        if text:
            self.put_text(call_id, text)
        lane = self._add(call_id, _Item(frame, b"", max(size, 1), False))
        lane.light += 1
        lane.light_bytes += max(size, 1)
        self.light_bytes += max(size, 1) + FRAME_BYTES
        return True

    def put_text(self, call_id: str, text: bytes) -> None:
        """Queue a text, cut as credit allows; later frames of the call wait behind it."""
        self.text_bytes += len(text)
        self._add(call_id, _Item(None, text, 0, False))

    def _add(self, call_id: str, item: _Item[F]) -> _Lane[F]:
        lane = self._lanes.get(call_id)
        if lane is None:
            lane = self._lanes[call_id] = _Lane()
        lane.items.append(item)
        self._queue(call_id, lane)
        return lane

    def _queue(self, call_id: str, lane: _Lane[F]) -> None:
        if not lane.queued:
            lane.queued = True
            self._ready.append(call_id)

    def credit(self, call_id: str, granted: int) -> None:
        """The receiver takes so many more bytes. Late grants for a finished call are ignored."""
        lane = self._lanes.get(call_id)
        if lane is not None:
            lane.credit = min(lane.credit + granted, 2 * WINDOW_BYTES)
            if lane.items:
                self._queue(call_id, lane)

    def has_text(self, call_id: str) -> bool:
        """Whether a long text of the call waits to be written."""
        lane = self._lanes.get(call_id)
        return lane is not None and any(len(item.text) for item in lane.items)

    def drop(self, call_id: str) -> None:
        """Forget what waits for a call."""
        lane = self._lanes.pop(call_id, None)
        if lane is not None:
            self.text_bytes -= sum(len(item.text) - item.offset for item in lane.items)
            self.light_bytes -= lane.light_bytes + lane.light * FRAME_BYTES

    def finish(self, call_id: str) -> None:
        """The call is over: drop its lane, unless its last frame still waits in it."""
        lane = self._lanes.get(call_id)
        if lane is not None and not any(item.last for item in lane.items):
            self.drop(call_id)

    def next(self) -> F | None:
        """The next frame to write, or None while nothing may be written."""
        while self._ready:
            call_id = self._ready.popleft()
            lane = self._lanes.get(call_id)
            if lane is None or not lane.queued:
                continue  # dropped, perhaps begun anew since
            lane.queued = False
            frame = self._take(call_id, lane)
            if frame is not None:
                self.taken += 1
                if lane.items and call_id in self._lanes:
                    self._queue(call_id, lane)
                return frame
        return None

    def _take(self, call_id: str, lane: _Lane[F]) -> F | None:
        item = lane.items[0]
        if item.frame is None:
            size = min(CHUNK_BYTES, lane.credit, len(item.text) - item.offset)
            if size <= 0:
                return None  # waits for credit
            piece = bytes(item.text[item.offset : item.offset + size])
            item.offset += size
            lane.credit -= size
            self.text_bytes -= size
            if item.offset == len(item.text):
                lane.items.popleft()
            return self._chunk(call_id, piece)
        lane.items.popleft()
        if item.light_bytes:
            lane.light -= 1
            lane.light_bytes -= item.light_bytes
            self.light_bytes -= item.light_bytes + FRAME_BYTES
        if item.last:
            del self._lanes[call_id]
        return item.frame

    def __len__(self) -> int:
        """Calls that have a lane."""
        return len(self._lanes)

    @property
    def idle(self) -> bool:
        """Nothing waits, whether for its turn or for credit."""
        return not any(lane.items for lane in self._lanes.values())

    def __repr__(self) -> str:
        waiting = sum(len(lane.items) for lane in self._lanes.values())
        return f"Lanes({len(self._lanes)} calls, {waiting} waiting, {self.dropped} dropped)"
