"""Log set-up, once per process: lines for people, or one JSON object a line for machines; both on stderr."""

from __future__ import annotations

import logging
import os
import sys
from datetime import UTC, datetime
from typing import IO

from proto import jsons

# Names and messages come from servers and peers too: no line break or escape sequence of theirs forges a line.
_CONTROLS = {c: f"\\x{c:02x}" for c in (*range(0x20), *range(0x7F, 0xA0))}
_CONTROLS |= {c: f"\\u{c:04x}" for c in (0x2028, 0x2029)}
_QUIET = ("aiohttp.access", "chromadb", "grpc", "httpx", "zeroconf")


class TextFormatter(logging.Formatter):
    """`2026-01-31 12:34:56.789 INFO    toolmesh.sync: message`, UTC; a traceback follows, each line indented."""

    def format(self, record: logging.LogRecord) -> str:
        at = datetime.fromtimestamp(record.created, UTC).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]
        text = f"{at} {record.levelname:<7} {record.name}: {_message(record)}"
        if record.exc_info:
            text += "".join(
                f"\n    {line}" for line in _clean(self.formatException(record.exc_info), keep="\n").split("\n")
            )
        return text


class JsonFormatter(logging.Formatter):
    """`{"time", "level", "logger", "message", "traceback"?}`; time is RFC 3339 in UTC."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": _message(record),
        }
        if record.exc_info:
            line["traceback"] = _clean(self.formatException(record.exc_info), keep="\n")
        return jsons.dumps(line).decode()


def _message(record: logging.LogRecord) -> str:
    return _clean(record.getMessage())


def _clean(text: str, *, keep: str = "") -> str:
    controls = {c: shown for c, shown in _CONTROLS.items() if chr(c) not in keep} if keep else _CONTROLS
    return text.encode("utf-8", "replace").decode().translate(controls)


def set_up(level: str = "info", *, as_json: bool = False, stream: IO[str] | None = None) -> None:
    """Replace the root's handlers. `level` is debug, info, warning or error; chatty libraries start at warning."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonFormatter() if as_json else TextFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for name in _QUIET:
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))
    # gRPC's core writes to stderr by itself, in no format of ours, what its errors tell us anyway.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
