"""For tests of what keeps vectors: names, vectors, and a Chroma server of one's own."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

import numpy as np

from router.chroma_server import ServerAddress
from router.ports import Vectors

READY_S = 60.0


def vectors(count: int, dimensions: int = 16) -> Vectors:
    random = np.random.default_rng(3)
    rows = random.standard_normal((count, dimensions)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def digests(count: int, begin: int = 0) -> list[str]:
    # Digests differ in their first digits.
    return [f"{i:08x}" * 8 for i in range(begin, begin + count)]


class ChromaProcess:
    """`chroma run` on a port of its own; may be frozen, killed and started again there."""

    def __init__(self, directory: Path) -> None:
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            self.port: int = s.getsockname()[1]
        self.directory = directory
        self.address = ServerAddress(f"http://127.0.0.1:{self.port}")
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        program = Path(sys.executable).with_name("chroma")
        command = [str(program), "run", "--path", str(self.directory), "--port", str(self.port)]
        self._process = subprocess.Popen([*command, "--host", "127.0.0.1"], stdout=subprocess.DEVNULL)
        end_s = time.monotonic() + READY_S
        while not self._answers():
            assert self._process.poll() is None, "chroma run has ended"
            assert time.monotonic() < end_s, "chroma run does not answer"
            time.sleep(0.05)

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.address.url}/api/v2/heartbeat", timeout=1) as answer:  # noqa: S310
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    def freeze(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()

    def forget(self) -> None:
        self.kill()
        shutil.rmtree(self.directory, ignore_errors=True)


def until(condition: Callable[[], bool], within_s: float = READY_S) -> None:
    """A thread of somebody else's has no event for a test: look again and again."""
    end_s = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < end_s, "it has not come to pass"
        time.sleep(0.01)
