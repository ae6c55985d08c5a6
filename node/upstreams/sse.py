"""Server-sent events, parsed as they arrive (WHATWG HTML §9.2.6). Pure.

Events may be megabytes long and split anywhere. What is kept is bounded by `event_bytes_max`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from proto.errors import Invalid

_BOM = b"\xef\xbb\xbf"
_LINE_END = re.compile(rb"[\r\n]")


@dataclass(frozen=True, slots=True)
class SseEvent:
    """`data` is the UTF-8 text as bytes, its lines joined by line feeds; `id` the last event id at that point."""

    event: str
    data: bytes
    id: str


class SseParser:
    """`feed` takes chunks and gives back the events that they complete; an unfinished event is discarded.

    `last_event_id` and `retry_ms` (None: never said) are kept as the stream sets them.
    """

    def __init__(self, event_bytes_max: int) -> None:
        self.last_event_id = ""
        self.retry_ms: int | None = None
        self._max = event_bytes_max
        self._buffer = bytearray()
        self._scanned = 0
        self._begun = False
        self._swallow_lf = False
        self._event = ""
        self._data: list[bytes] = []
        self._data_bytes = 0

    def successor(self) -> SseParser:
        """For the stream that takes up this one: nothing half read, the same last event id and pace."""
        parser = SseParser(self._max)
        parser.last_event_id, parser.retry_ms = self.last_event_id, self.retry_ms
        return parser

    def feed(self, chunk: bytes) -> list[SseEvent]:
        """Raises `Invalid` once an event is longer than the bound; the parser is of no use after that."""
        buffer = self._buffer
        buffer += chunk
        if not self._begun and not self._skip_bom():
            return []
        events: list[SseEvent] = []
        start = 0
        if self._swallow_lf and buffer:
            start = 1 if buffer[0] == 0x0A else 0
            self._swallow_lf = False
        scan = max(self._scanned, start)
        while (end := _LINE_END.search(buffer, scan)) is not None:
            at = end.start()
            self._line(bytes(buffer[start:at]), events)
            start = at + 1
            if buffer[at] == 0x0D:
                if start == len(buffer):
                    self._swallow_lf = True
                elif buffer[start] == 0x0A:
                    start += 1
            scan = start
        del buffer[:start]
        self._scanned = len(buffer)
        if len(buffer) + self._data_bytes > self._max:
            raise Invalid(f"an event of the stream is longer than {self._max} bytes")
        return events

    def _skip_bom(self) -> bool:
        if len(self._buffer) < len(_BOM) and _BOM.startswith(self._buffer):
            return False
        if self._buffer.startswith(_BOM):
            del self._buffer[: len(_BOM)]
        self._begun = True
        return True

    def _line(self, line: bytes, events: list[SseEvent]) -> None:
        if not line:
            if self._data:
                events.append(SseEvent(self._event or "message", b"\n".join(self._data), self.last_event_id))
            self._event = ""
            self._data = []
            self._data_bytes = 0
            return
        name, colon, value = line.partition(b":")
        if colon and value.startswith(b" "):
            value = value[1:]
        if name == b"data":
            self._data.append(value)
            self._data_bytes += len(value) + 1
            if self._data_bytes > self._max:
                raise Invalid(f"an event of the stream is longer than {self._max} bytes")
        elif name == b"event":
            self._event = value.decode("utf-8", "replace")
        elif name == b"id":
            if b"\0" not in value:
                self.last_event_id = value.decode("utf-8", "replace")
        elif name == b"retry" and value.isdigit():
            self.retry_ms = min(int(value[:9]), 3_600_000)
