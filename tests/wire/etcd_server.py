"""Real etcd servers for tests: one or a cluster of them on loopback, killed, frozen and started again at will."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

READY = "ready to serve client requests"
START_S = 20.0
ELECTION_MS = 500
"""Short, so that a lease may live for one second: etcd's shortest is one and a half election timeouts."""
ATTEMPTS = 5
"""Of etcdctl, while its members elect a leader."""
_ELECTING = re.compile("leader|timed out|deadline exceeded")


def need_etcd() -> None:
    """Skip where etcd is not installed."""
    if not (shutil.which("etcd") and shutil.which("etcdctl")):
        pytest.skip("etcd and etcdctl are not installed: apt-get install etcd-server etcd-client")


def free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports


@dataclass(frozen=True)
class Pem:
    """Files for TLS: of the server, and of clients."""

    ca: Path
    cert: Path
    key: Path
    client_cert: Path
    client_key: Path


@dataclass
class Etcd:
    """One member. `ctl` runs etcdctl against it."""

    name: str
    directory: Path
    client_port: int
    peer_port: int
    members: str = ""
    pem: Pem | None = None
    options: Sequence[str] = ()
    process: subprocess.Popen[bytes] | None = None
    log: list[str] = field(default_factory=list, repr=False)
    _logged: threading.Condition = field(default_factory=threading.Condition, repr=False)

    @property
    def url(self) -> str:
        return f"{'https' if self.pem else 'http'}://127.0.0.1:{self.client_port}"

    @property
    def peer_url(self) -> str:
        return f"http://127.0.0.1:{self.peer_port}"

    def start(self) -> Etcd:
        """Begin to start; `ready` waits for it."""
        argv = [
            *("etcd", "--name", self.name, "--data-dir", str(self.directory / self.name)),
            *("--listen-client-urls", self.url, "--advertise-client-urls", self.url),
            *("--listen-peer-urls", self.peer_url, "--initial-advertise-peer-urls", self.peer_url),
            *("--initial-cluster", self.members or f"{self.name}={self.peer_url}"),
            *("--heartbeat-interval", str(ELECTION_MS // 10), "--election-timeout", str(ELECTION_MS)),
            *self.options,
        ]
        if self.pem is not None:
            argv += ["--cert-file", str(self.pem.cert), "--key-file", str(self.pem.key)]
            argv += ["--client-cert-auth", "--trusted-ca-file", str(self.pem.ca)]
        self._begun = len(self.log)
        self.process = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        self._reading = threading.Thread(target=self._read, args=(self.process,), daemon=True)
        self._reading.start()
        return self

    def _read(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stderr is not None
        for line in process.stderr:
            with self._logged:
                self.log.append(line.decode("utf-8", "replace"))
                self._logged.notify_all()
        process.stderr.close()

    def ready(self) -> Etcd:
        self.until_logged(READY, self._begun)
        return self

    def kill(self) -> None:
        self._signal(signal.SIGKILL)
        assert self.process is not None
        self.process.wait(10)
        self._reading.join(10)

    stop = kill

    def freeze(self) -> None:
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        assert self.process is not None
        with suppress(ProcessLookupError):
            self.process.send_signal(number)

    def ctl(self, *argv: str, user: str = "") -> str:
        """stdout of etcdctl. Fails if it does."""
        flags = [f"--endpoints={self.url}", "--command-timeout=10s"]
        if self.pem is not None:
            flags += [f"--cacert={self.pem.ca}", f"--cert={self.pem.client_cert}", f"--key={self.pem.client_key}"]
        if user:
            flags.append(f"--user={user}")
        command = ("etcdctl", *flags, *argv)
        for attempts_left in reversed(range(ATTEMPTS)):
            done = subprocess.run(
                command, capture_output=True, text=True, env={**os.environ, "ETCDCTL_API": "3"}, timeout=30
            )
            if done.returncode == 0 or not attempts_left or not _ELECTING.search(done.stderr):
                break
        assert done.returncode == 0, done.stderr
        return done.stdout

    def until_logged(self, text: str, since: int = 0) -> None:
        """Wait until a line after the first `since` ones holds `text`."""
        with self._logged:
            seen = self._logged.wait_for(lambda: any(text in line for line in self.log[since:]), START_S)
        if not seen:
            self.stop()
            raise AssertionError(f"{self.name} did not log {text!r}:\n{''.join(self.log[-20:])}")

    def revision(self) -> int:
        """How many changes the store has seen."""
        return int(self._status()["header"]["revision"])

    def leads(self) -> bool:
        status = self._status()
        return bool(status["leader"] == status["header"]["member_id"])

    def _status(self) -> Any:
        return json.loads(self.ctl("endpoint", "status", "-w", "json"))[0]["Status"]


def single(directory: Path, **settings: object) -> Etcd:
    client, peer = free_ports(2)
    return Etcd("one", directory, client, peer, **settings).start().ready()  # type: ignore[arg-type]


def cluster(directory: Path, size: int = 3) -> list[Etcd]:
    """They start together: none is ready before most are there."""
    ports = free_ports(2 * size)
    members = [Etcd(f"m{i}", directory, ports[2 * i], ports[2 * i + 1]) for i in range(size)]
    listed = ",".join(f"{m.name}={m.peer_url}" for m in members)
    for member in members:
        member.members = listed
        member.start()
    return [member.ready() for member in members]
