"""The directory that holds everything a node keeps, and the lock that keeps a second node out of it."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from proto.errors import Unavailable

LOCK_FILE = "lock"


class DataDir:
    """One node's claim to `path`. The system gives it up with the process, so a crash leaves nothing to clean."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._held: int | None = None

    def __repr__(self) -> str:
        return f"DataDir({self.path}, {'free' if self._held is None else 'claimed'})"

    def claim(self) -> None:
        """Make the directory and lock it; no-op when claimed. Raises `Unavailable` naming `node.data_dir`."""
        if self._held is not None:
            return
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self.path / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as e:
            raise Unavailable(
                f"node.data_dir {self.path} cannot be used: {e.strerror or e}; name a directory that this user may "
                "write to"
            ) from None
        try:
            # flock, not a file's existence: what a crash leaves behind must not keep the next start out.
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            raise Unavailable(
                f"node.data_dir {self.path} is in use by another node; stop that one or give this one its own"
            ) from None
        except OSError as e:
            os.close(descriptor)
            raise Unavailable(f"node.data_dir {self.path} cannot be locked: {e.strerror or e}") from None
        self._held = descriptor

    def release(self) -> None:
        """No-op when free."""
        if self._held is not None:
            os.close(self._held)
            self._held = None
