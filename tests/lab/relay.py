"""The process between the namespaces of a lab: reads packets from one TUN device, writes them to another, in time.

A process of its own, so that the load of tests does not add to the delays, and a caretaker: when whoever started it
closes its stdin or dies, however, it kills what runs in the namespaces and removes them.

stdin, JSON lines, each answered by one on stdout: first `{"namespaces": {node: name}, "addresses": {node: IPv4},
"prefix", "mtu"}`; then `["set", [[from, to], …], {field of Link: value}]`, `["heal"]` or `["stats"]`.
"""

from __future__ import annotations

import json
import os
import select
import signal
import sys
import time
from contextlib import suppress
from dataclasses import asdict
from typing import Any

from tests.lab import netns
from tests.lab.wan import Wan

BURST = 64
"""Packets taken from one device before the others have their turn."""

NICENESS = -15
"""Where real-time scheduling is not to be had. Where sessions are scheduled as groups it says little."""

PACKET_BYTES_MAX = 65_536


class Relay:
    """A `Wan` with devices at its ends. `namespaces` are by node."""

    def __init__(self, namespaces: dict[str, str], addresses: dict[str, str], prefix: int, mtu: int) -> None:
        self.wan = Wan(addresses)
        self._node_at = {bytes(map(int, ip.split("."))): node for node, ip in addresses.items()}
        self._device = {node: netns.open_tun(namespaces[node], f"{ip}/{prefix}", mtu) for node, ip in addresses.items()}
        self._node_of = {device: node for node, device in self._device.items()}

    def run(self) -> None:
        """Until stdin ends."""
        commands = _Lines(sys.stdin.fileno())
        watched = [*self._node_of, sys.stdin.fileno()]
        while True:
            due = self.wan.next_due()
            # Not epoll, whose timeouts are whole milliseconds: nodes of one region are 0.3 ms apart.
            patience = None if due is None else max(0.0, due - time.monotonic())
            ready, _, _ = select.select(watched, (), (), patience)
            for source in ready:
                if source in self._node_of:
                    self._take(source)
                elif not commands.read():
                    return
            for line in commands.taken():
                _say(self._obey(*json.loads(line)))
            for node, packet in self.wan.arrived(time.monotonic()):
                with suppress(OSError):  # the device of a node whose namespace is being removed
                    os.write(self._device[node], packet)

    def _take(self, device: int) -> None:
        source = self._node_of[device]
        for _ in range(BURST):
            try:
                packet = os.read(device, PACKET_BYTES_MAX)
            except OSError:
                return
            # IPv4 alone travels; multicast, IPv6 and strangers' addresses have nowhere to go.
            to = self._node_at.get(packet[16:20]) if packet[0] >> 4 == 4 else None
            if to is not None and to != source:
                self.wan.send(source, to, packet, time.monotonic())

    def _obey(self, verb: str, pairs: list[list[str]] | None = None, values: dict[str, Any] | None = None) -> object:
        match verb:
            case "set":
                for a, b in pairs or ():
                    for name, value in (values or {}).items():
                        setattr(self.wan.links[a, b], name, value)
            case "heal":
                self.wan.heal()
            case "stats":
                return [[a, b, asdict(link)] for (a, b), link in self.wan.links.items()]
        return None


class _Lines:
    """Whole lines of a pipe, read without waiting for the rest of one."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._rest = b""

    def read(self) -> bool:
        """One read; False at the end of the pipe."""
        more = os.read(self._descriptor, PACKET_BYTES_MAX)
        self._rest += more
        return bool(more)

    def taken(self) -> list[bytes]:
        *lines, self._rest = self._rest.split(b"\n")
        return lines


def _say(answer: object) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


def _take_precedence() -> None:
    """A network waits for no processor: what waits here is delay, and in the end silence, between all nodes at once."""
    try:
        os.sched_setscheduler(0, os.SCHED_RR | os.SCHED_RESET_ON_FORK, os.sched_param(1))
    except OSError:
        with suppress(PermissionError):
            os.nice(NICENESS)


def main() -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: sys.exit(0))
    _take_precedence()
    namespaces: dict[str, str] = {}
    try:
        # Unbuffered: what comes after the first line is for `select`.
        with os.fdopen(os.dup(sys.stdin.fileno()), "rb", buffering=0) as pipe:
            first = json.loads(pipe.readline())
        namespaces = first["namespaces"]
        relay = Relay(namespaces, first["addresses"], first["prefix"], first["mtu"])
        _say("ready")
        relay.run()
    finally:
        netns.remove(namespaces.values())


if __name__ == "__main__":
    main()
