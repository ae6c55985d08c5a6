"""Bytes into lines, with a bound on a line. Pure."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Overlong:
    """A line beyond the bound: its beginning, reported once; the rest of it is skipped."""

    prefix: bytes


PREFIX_BYTES = 256


class LineSplitter:
    """Feed chunks, get whole lines without their line feed (and without a carriage return before it)."""

    def __init__(self, line_bytes_max: int) -> None:
        self._max = line_bytes_max
        self._parts: list[bytes] = []
        self._held = 0
        self._skipping = False

    def feed(self, chunk: bytes) -> list[bytes | Overlong]:
        lines: list[bytes | Overlong] = []
        *ended, rest = chunk.split(b"\n")
        for piece in ended:
            self._take(piece, lines)
            if not self._skipping:
                lines.append(b"".join(self._parts).removesuffix(b"\r"))
            self._skipping = False
            self._parts.clear()
            self._held = 0
        self._take(rest, lines)
        return lines

    def _take(self, piece: bytes, lines: list[bytes | Overlong]) -> None:
        if self._skipping or not piece:
            return
        self._parts.append(piece)
        self._held += len(piece)
        if self._held > self._max:
            lines.append(Overlong(b"".join(self._parts)[:PREFIX_BYTES]))
            self._skipping = True
            self._parts.clear()
            self._held = 0

    def end(self) -> bytes:
        """What is left without a line feed at the end of the stream. May be empty."""
        rest = b"".join(self._parts)
        self._parts.clear()
        self._held = 0
        return rest
