"""MCP over a child process's pipes: one JSON text a line (MCP 2025-11-25, transports, stdio)."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable

from node.upstreams.chatter import Chatter
from node.upstreams.ending import to_the_end
from node.upstreams.lines import LineSplitter, Overlong
from node.upstreams.process import GRACE_S, exited, how_it_ended, put_down, spawn
from node.upstreams.spec import UpstreamSpec
from node.upstreams.wire import TURN_MESSAGES, Message, Sink, logger
from proto import jsons
from proto.errors import Invalid, OutcomeUnknown, Unavailable

_READ_BYTES = 256 * 1024
_DRAIN_ABOVE_BYTES = 64 * 1024
_TAIL_S = 0.5
"""After the process has ended, how long its last output may take to arrive."""
_EXIT_SEEN_S = 0.2
"""How late an exit may be noticed where a child keeps the pipes open; otherwise their end tells at once."""
_GARBAGE_LOGGED_MAX = 20

# Only where the id is the first member, or follows "jsonrpc", is it surely the message's own.
_LEADING_ID = re.compile(rb'\s*\{\s*(?:"jsonrpc"\s*:\s*"2\.0"\s*,\s*)?"id"\s*:\s*(\d{1,18})\s*[,}]')


class StdioWire:
    """Owns one process. Lines beyond `message_bytes_max` and lines that are not JSON fail only what they answer."""

    def __init__(self, spec: UpstreamSpec, *, grace_s: float = GRACE_S) -> None:
        """`grace_s` is what the process gets to end by itself, and again to end on SIGTERM."""
        self._spec = spec
        self._grace_s = grace_s
        self._chatter = Chatter(spec.name)
        self._process: asyncio.subprocess.Process | None = None
        self._sink: Sink | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._writing = asyncio.Lock()
        self._garbage = 0
        self._closed = False

    def __repr__(self) -> str:
        pid = self._process.pid if self._process else "-"
        return f"StdioWire({self._spec.name} pid={pid})"

    async def open(self, sink: Sink) -> None:
        self._sink = sink
        process = self._process = await spawn(self._spec)
        logger.info("server %s: started %s as process %d", self._spec.name, self._spec.where, process.pid)
        assert process.stdout is not None  # noqa: S101
        assert process.stderr is not None  # noqa: S101
        reading = asyncio.create_task(self._read(process.stdout, sink))
        draining = asyncio.create_task(self._chatter.drain(process.stderr))
        self._tasks = [reading, draining, asyncio.create_task(self._watch(process, reading, draining, sink))]

    async def carry(self, message: Message, sent: Callable[[], None]) -> None:
        text = jsons.dumps(message) + b"\n"
        async with self._writing:
            process = self._process
            if self._closed or process is None or process.stdin is None:
                raise Unavailable(f"server {self._spec.name!r} has ended")
            if process.returncode is not None or process.stdin.is_closing():
                # The watcher knows how it ended; the sink should hear that before the caller hears of us.
                await asyncio.wait(self._tasks[-1:], timeout=2 * _TAIL_S)
                raise Unavailable(f"server {self._spec.name!r} {how_it_ended(process.returncode)}")
            sent()
            process.stdin.write(text)
            if process.stdin.transport.get_write_buffer_size() <= _DRAIN_ABOVE_BYTES:
                return
            try:
                await process.stdin.drain()
            except (ConnectionError, RuntimeError) as e:
                raise OutcomeUnknown(f"server {self._spec.name!r} went away while it was written to: {e}") from e

    async def agreed(self, protocol_version: str) -> None:
        """Nothing to do: pipes carry no headers."""

    def renew(self) -> None:
        """Nothing to do: a process is its own session."""

    def last_words(self) -> str:
        return self._chatter.last()

    async def close(self) -> None:
        if not self._closed:
            self._closed = True
            await to_the_end(self._close())

    async def _close(self) -> None:
        if self._process is not None:
            await put_down(self._process, self._spec.name, self._grace_s)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _watch(
        self,
        process: asyncio.subprocess.Process,
        reading: asyncio.Task[None],
        draining: asyncio.Task[None],
        sink: Sink,
    ) -> None:
        ended = asyncio.create_task(exited(process, _EXIT_SEEN_S))
        try:
            await asyncio.wait((ended, reading), return_when=asyncio.FIRST_COMPLETED)
            # What was written before the end still counts: the last answer, the last line of stderr.
            await asyncio.wait((ended, reading, draining), timeout=_TAIL_S)
        finally:
            ended.cancel()
        sink.lost(how_it_ended(process.returncode))

    async def _read(self, stdout: asyncio.StreamReader, sink: Sink) -> None:
        splitter = LineSplitter(self._spec.message_bytes_max)
        while chunk := await stdout.read(_READ_BYTES):
            for n, line in enumerate(splitter.feed(chunk), 1):
                self._take(line, sink)
                if n % TURN_MESSAGES == 0:
                    await asyncio.sleep(0)

    def _take(self, line: bytes | Overlong, sink: Sink) -> None:
        if isinstance(line, Overlong):
            why = f"it is longer than {self._spec.message_bytes_max} bytes ('message_bytes_max')"
            logger.warning("server %s: dropped a message: %s", self._spec.name, why)
            sink.unreadable(_leading_id(line.prefix), why)
            return
        if not line.strip():
            return
        try:
            message = jsons.loads(line)
        except Invalid as e:
            self._garbage += 1
            if self._garbage <= _GARBAGE_LOGGED_MAX:
                logger.warning(
                    "server %s: its output holds a line that is not JSON (%s): %r", self._spec.name, e, line[:200]
                )
            sink.unreadable(_leading_id(line), e.message)
            return
        sink.received(message)


def _leading_id(text: bytes) -> int | None:
    match = _LEADING_ID.match(text)
    return int(match[1]) if match else None
