"""A child process with pipes: found, started in its own group with few variables, and put down for good."""

from __future__ import annotations

import asyncio
import os
import pwd
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path

from node.upstreams.limits import limited
from node.upstreams.spec import UpstreamSpec
from node.upstreams.wire import logger
from proto.errors import Unavailable

GRACE_S = 2.0
"""Between end of input and SIGTERM, and between SIGTERM and SIGKILL (MCP 2025-11-25, lifecycle, shutdown)."""
STREAM_BUFFER_BYTES = 1024 * 1024

_KEPT_VARIABLES = ("PATH", "HOME", "LANG", "TMPDIR", "TZ")


def environment(extra: Mapping[str, str], own: Mapping[str, str] = os.environ) -> dict[str, str]:
    """What a server gets to see: the node's own variables may hold its secrets."""
    kept = {k: v for k, v in own.items() if k in _KEPT_VARIABLES or k.startswith("LC_")}
    return {**kept, **extra}


async def spawn(spec: UpstreamSpec) -> asyncio.subprocess.Process:
    """Start the command with three pipes, as leader of its own session. Raises `Unavailable`."""
    env = environment(spec.env)
    program, *arguments = spec.command
    cwd = _directory(spec.cwd)
    found = _find(program, env, cwd)
    _keep_descriptors()
    try:
        return await asyncio.create_subprocess_exec(
            *bound_to_us(limited((found, *arguments), spec.limits), spec.user),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            cwd=cwd,
            env=env,
            start_new_session=True,
            limit=STREAM_BUFFER_BYTES,
        )
    except OSError as e:
        raise Unavailable(f"command {program!r} could not be started: {e.strerror or e}") from e
    except ValueError as e:
        raise Unavailable(f"command {program!r} could not be started: {e}") from e


def _keep_descriptors() -> None:
    """No file, socket or pipe of this node is for the next program, whatever a library left inheritable.

    asyncio closes them in the child; uvloop does not. Takes a microsecond for each that is open.
    """
    for name in os.listdir("/dev/fd"):
        descriptor = int(name)
        if descriptor > 2:
            with suppress(OSError):  # the list's own, closed by now
                os.set_inheritable(descriptor, False)


def bound_to_us(command: Sequence[str], user: str = "") -> list[str]:
    """The command that runs `command`, where the system can do that: killed when this process is (prctl(2)), unable to
    gain rights that it does not begin with (setuid programs, PR_SET_NO_NEW_PRIVS), and as `user` if one is named.

    A node that is killed cannot end its servers, and not every server ends with its input.
    Raises `Unavailable` where it cannot be run as `user`: never as somebody else instead.
    """
    setpriv = _setpriv()
    if setpriv is None:
        if user:
            raise Unavailable(f"it cannot be run as user {user!r}: this system has no setpriv of util-linux")
        return list(command)
    return [setpriv, "--pdeathsig", "KILL", "--no-new-privs", *_becoming(user), "--", *command]


def _becoming(user: str) -> list[str]:
    if not user:
        return []
    try:
        entry = pwd.getpwnam(user)
    except KeyError:
        raise Unavailable(f"it cannot be run as user {user!r}: there is none of that name") from None
    if os.geteuid() not in (0, entry.pw_uid):
        raise Unavailable(f"it cannot be run as user {user!r}: only a node that runs as root can do that")
    return [] if os.geteuid() == entry.pw_uid else [f"--reuid={user}", f"--regid={entry.pw_gid}", "--init-groups"]


@cache
def _setpriv() -> str | None:
    """util-linux's; that of BusyBox knows no `--pdeathsig`."""
    found = shutil.which("setpriv") if sys.platform == "linux" else None
    if found is None:
        return None
    tried = subprocess.run(
        (found, "--pdeathsig", "KILL", "--no-new-privs", "--", found, "--version"), capture_output=True, check=False
    )
    return found if tried.returncode == 0 else None


def _directory(cwd: str | None) -> Path | None:
    if not cwd:
        return None
    path = Path(cwd).expanduser()
    if not path.is_dir():
        raise Unavailable(f"its working directory {cwd!r} does not exist")
    return path


def _find(program: str, env: Mapping[str, str], cwd: Path | None) -> str:
    if os.sep in program:
        path = (cwd or Path.cwd()) / Path(program).expanduser()
        if not path.is_file():
            raise Unavailable(f"command {program!r} does not exist")
        if not os.access(path, os.X_OK):
            raise Unavailable(f"command {program!r} is not executable")
        return str(path)
    found = shutil.which(program, path=env.get("PATH"))
    if found is None:
        raise Unavailable(f"command {program!r} was not found on PATH")
    return found


async def put_down(process: asyncio.subprocess.Process, name: str, grace_s: float = GRACE_S) -> None:
    """End of input, then SIGTERM, then SIGKILL, to the whole group; what the leader left behind is killed too."""
    if process.stdin is not None:
        process.stdin.close()
    if not await _ended(process, grace_s):
        _signal_group(process, signal.SIGTERM)
        if not await _ended(process, grace_s):
            logger.warning("server %s: did not end on SIGTERM, killed", name)
            _signal_group(process, signal.SIGKILL)
            # It ends now; on a busy machine that may be seen late.
            await _ended(process, max(grace_s, GRACE_S))
    _signal_group(process, signal.SIGKILL)
    # Closes our ends of the pipes even where a stranger to the group still holds the others.
    transport = getattr(process, "_transport", None)
    if transport is not None:
        transport.close()


async def exited(process: asyncio.subprocess.Process, every_s: float) -> None:
    """Until the process itself has ended, looked at `every_s`.

    `Process.wait` waits for the pipes too, which a child of the process may hold open for ever.
    """
    while process.returncode is None:  # noqa: ASYNC110 - no event tells of the process without its pipes
        await asyncio.sleep(every_s)


async def _ended(process: asyncio.subprocess.Process, timeout_s: float) -> bool:
    try:
        async with asyncio.timeout(timeout_s):
            await exited(process, 0.02)
    except TimeoutError:
        return False
    return True


def _signal_group(process: asyncio.subprocess.Process, sig: signal.Signals) -> None:
    try:
        os.killpg(process.pid, sig)
    except ProcessLookupError:
        return
    except PermissionError as e:
        logger.warning("process group %d could not be signalled: %s", process.pid, e)


def how_it_ended(returncode: int | None) -> str:
    """For causes: `exited with status 3`, `was killed by SIGKILL`."""
    if returncode is None:
        return "closed its output"
    if returncode >= 0:
        return f"exited with status {returncode}"
    try:
        return f"was killed by {signal.Signals(-returncode).name}"
    except ValueError:
        return f"was killed by signal {-returncode}"
