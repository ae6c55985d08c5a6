"""Bounds on a server's process, set before the server's program begins.

They are set by this very file, run as a program of its own that then becomes the server's: what `preexec_fn` would do
between fork and exec is unsafe beside threads, and what is set from outside after the start comes too late for
whatever the program has started by then.
"""

from __future__ import annotations

import os
import resource
import sys
from collections.abc import Mapping, Sequence

CPU_GRACE_S = 5
"""Between SIGXCPU, which a program may catch to say goodbye, and SIGKILL."""

_MIB = 1024 * 1024


def limited(command: Sequence[str], limits: Mapping[str, int]) -> list[str]:
    """The command that runs `command` within `limits` (`memory_mb`, `cpu_s`, `open_files`)."""
    if not limits:
        return list(command)
    bounds = [f"{name}={limit}" for name, limit in sorted(limits.items())]
    # -I -S: nothing of the server's environment or directory is read on the way.
    return [sys.executable, "-I", "-S", __file__, *bounds, "--", *command]


def set_limit(name: str, limit: int) -> None:
    """On this process, and so on all that comes of it. A bound that is in force already is never raised."""
    match name:
        case "memory_mb":
            kind, soft, hard = resource.RLIMIT_AS, limit * _MIB, limit * _MIB
        case "cpu_s":
            kind, soft, hard = resource.RLIMIT_CPU, limit, limit + CPU_GRACE_S
        case "open_files":
            kind, soft, hard = resource.RLIMIT_NOFILE, limit, limit
        case _:
            raise ValueError(f"no such limit: {name}")
    _, most = resource.getrlimit(kind)
    if most != resource.RLIM_INFINITY:
        soft, hard = min(soft, most), min(hard, most)
    resource.setrlimit(kind, (soft, hard))


def _become(arguments: Sequence[str]) -> None:
    at = arguments.index("--")
    for bound in arguments[:at]:
        name, _, limit = bound.partition("=")
        set_limit(name, int(limit))
    program = arguments[at + 1]
    os.execv(program, list(arguments[at + 1 :]))  # noqa: S606 - an argument vector, no shell


if __name__ == "__main__":
    _become(sys.argv[1:])
