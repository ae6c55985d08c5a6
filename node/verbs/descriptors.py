"""Standard input and output of a process that must not wait for either.

Both are served by threads, for they may be terminals, pipes or files, and are never made non-blocking: whoever shares
them would be surprised. The threads are daemons: a read that never returns keeps no process from ending.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncIterator
from queue import SimpleQueue

from node.upstreams.lines import LineSplitter, Overlong

_CHUNK_BYTES = 256 * 1024
_CHUNKS_AHEAD = 4
"""So many chunks are read before somebody takes their lines."""


class Source:
    """The lines of a descriptor, without their ends; of one beyond `line_bytes_max` only that it was there."""

    def __init__(self, descriptor: int, line_bytes_max: int) -> None:
        self._descriptor = descriptor
        self._splitter = LineSplitter(line_bytes_max)
        self._chunks: asyncio.Queue[bytes] = asyncio.Queue(_CHUNKS_AHEAD)

    async def lines(self) -> AsyncIterator[bytes | Overlong]:
        """Until the end of the input. What follows the last line feed is a line too. Iterate once."""
        loop = asyncio.get_running_loop()
        threading.Thread(target=self._read, args=(loop,), name="stdin", daemon=True).start()
        while chunk := await self._chunks.get():
            for line in self._splitter.feed(chunk):
                yield line
        if rest := self._splitter.end():
            yield rest

    def _read(self, loop: asyncio.AbstractEventLoop) -> None:
        while True:
            try:
                chunk = os.read(self._descriptor, _CHUNK_BYTES)
            except OSError:
                chunk = b""
            try:
                asyncio.run_coroutine_threadsafe(self._chunks.put(chunk), loop).result()
            except (RuntimeError, asyncio.CancelledError):
                # The loop is closed: nobody reads any more.
                return
            if not chunk:
                return


class Sink:
    """A descriptor that is written line by line, in the order of the calls."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._waiting: SimpleQueue[tuple[bytes, asyncio.Future[None]]] = SimpleQueue()
        self._loop = asyncio.get_running_loop()
        threading.Thread(target=self._write, name="stdout", daemon=True).start()

    async def write(self, line: bytes) -> None:
        """Returns once the system has taken it. Raises `OSError` where nobody reads any more."""
        written = self._loop.create_future()
        self._waiting.put((line + b"\n", written))
        await written

    def _write(self) -> None:
        while True:
            data, written = self._waiting.get()
            failed: OSError | None = None
            view = memoryview(data)
            try:
                while view:
                    view = view[os.write(self._descriptor, view) :]
            except OSError as e:
                failed = e
            try:
                self._loop.call_soon_threadsafe(_settle, written, failed)
            except RuntimeError:
                return


def _settle(written: asyncio.Future[None], failed: OSError | None) -> None:
    if written.done():
        return
    if failed is None:
        written.set_result(None)
    else:
        written.set_exception(failed)
