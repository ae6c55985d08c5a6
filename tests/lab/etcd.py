"""A real etcd cluster in a lab: one member on each of some nodes, with the timing that etcd asks of a WAN."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Sequence
from pathlib import Path

from tests.lab.net import Lab
from tests.wire.etcd_server import need_etcd

CLIENT_PORT, PEER_PORT = 2379, 2380
HEARTBEAT_MS, ELECTION_MS = 200, 2_000
"""About the longest round trip, and ten times that (etcd's own advice)."""


class Etcd:
    """Nothing is started until `start`. Skips the test where etcd is not installed."""

    def __init__(self, lab: Lab, directory: Path, members: Sequence[str]) -> None:
        need_etcd()
        self.members = tuple(members)
        self._lab = lab
        self._directory = directory

    def endpoints(self, first: str) -> list[str]:
        """Every member, the nearest first: the one of the same region."""
        near = self._lab.region(first)
        ordered = sorted(self.members, key=lambda member: self._lab.region(member) != near)
        return [self._url(member, CLIENT_PORT) for member in ordered]

    def _url(self, member: str, port: int) -> str:
        return f"http://{self._lab.address(member)}:{port}"

    async def start(self, *members: str) -> None:
        """All of them by default; one that was killed takes up where it was."""
        self._directory.mkdir(parents=True, exist_ok=True)
        cluster = ",".join(f"{member}={self._url(member, PEER_PORT)}" for member in self.members)
        for member in members or self.members:
            client, peer = self._url(member, CLIENT_PORT), self._url(member, PEER_PORT)
            with (self._directory / f"{member}.log").open("ab") as log:
                await self._lab.start(
                    member,
                    [
                        *("etcd", "--name", member, "--data-dir", str(self._directory / member)),
                        *("--listen-client-urls", client, "--advertise-client-urls", client),
                        *("--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer),
                        *("--initial-cluster", cluster),
                        *("--heartbeat-interval", str(HEARTBEAT_MS), "--election-timeout", str(ELECTION_MS)),
                    ],
                    stdout=log, stderr=log,
                )  # fmt: skip

    def kill(self, member: str) -> None:
        self._lab.signal(member, signal.SIGKILL)

    async def keys(self, member: str) -> list[str]:
        """What is registered, as one member tells it; empty if it does not answer."""
        process = await self._lab.start(
            member,
            ["etcdctl", "--endpoints", self._url(member, CLIENT_PORT), "get", "--prefix", "--keys-only", "/"],
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
            env={**os.environ, "ETCDCTL_API": "3"},
        )  # fmt: skip
        told, _ = await process.communicate()
        return told.decode().split()
