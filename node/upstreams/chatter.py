"""What a server writes to stderr: read at once so that it never blocks, logged within bounds."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable

from node.upstreams.lines import LineSplitter, Overlong
from node.upstreams.wire import logger

LINE_CHARS_MAX = 1000
LINES_PER_S = 20
BURST_LINES = 200
KEPT_LINES = 20
_READ_BYTES = 64 * 1024


class Chatter:
    """Logs up to `LINES_PER_S` lines a second (bursts of `BURST_LINES`) and says how many it left out."""

    def __init__(self, name: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._name = name
        self._clock = clock
        self._allowance = float(BURST_LINES)
        self._at = clock()
        self._left_out = 0
        self._kept: deque[str] = deque(maxlen=KEPT_LINES)

    async def drain(self, stream: asyncio.StreamReader) -> None:
        """Until the stream ends."""
        # A line is cut for the log, so more than four bytes a character is never needed.
        splitter = LineSplitter(4 * LINE_CHARS_MAX)
        while chunk := await stream.read(_READ_BYTES):
            for line in splitter.feed(chunk):
                self.line(line.prefix + "…".encode() if isinstance(line, Overlong) else line)
        if rest := splitter.end():
            self.line(rest)

    def line(self, raw: bytes) -> None:
        text = raw.decode("utf-8", "replace").strip()
        text = "".join(c if c.isprintable() else " " for c in text[:LINE_CHARS_MAX])
        if not text:
            return
        self._kept.append(text)
        now = self._clock()
        self._allowance = min(self._allowance + (now - self._at) * LINES_PER_S, BURST_LINES)
        self._at = now
        if self._allowance < 1:
            self._left_out += 1
            return
        self._allowance -= 1
        if self._left_out:
            logger.warning("server %s: %d lines of its stderr were left out of the log", self._name, self._left_out)
            self._left_out = 0
        logger.info("server %s: stderr: %s", self._name, text)

    def last(self) -> str:
        """The last line with something in it; empty if there was none."""
        return self._kept[-1] if self._kept else ""
