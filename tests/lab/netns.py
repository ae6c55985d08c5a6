"""Network namespaces of this machine, as a lab needs them: made, entered for a moment, and removed for certain.

A lab's namespaces are called `tm<pid>-<lab>-<node>` after the process that made them, so that labs of several processes
stand side by side, and what a killed process left behind is known by its name. All of it needs root.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import re
import signal
import socket
import struct
import subprocess
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

NETNS = Path("/run/netns")
TUN = Path("/dev/net/tun")
DEVICE = "wan0"
GONE_S = 5.0
"""Killed processes are given this long to be gone; a namespace lives on for as long as one process is in it."""

_NAME = re.compile(r"tm(\d+)-[a-z0-9-]+")
_CLONE_NEWNET = 0x40000000
_TUNSETIFF = 0x400454CA
_IFF_TUN, _IFF_NO_PI = 0x0001, 0x1000
_libc = ctypes.CDLL(None, use_errno=True)


def lacking() -> str:
    """What stands in the way of a lab on this machine; empty if nothing does."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    return "" if TUN.exists() else f"{TUN} is missing"


def prefix_of(pid: int) -> str:
    """What the names of all namespaces begin with that a process made."""
    return f"tm{pid}-"


def make(name: str) -> None:
    """A namespace with nothing but its loopback. Raises `CalledProcessError` if it is there already."""
    _ip("netns", "add", name)
    _ip("-n", name, "link", "set", "lo", "up")


def remove(names: Iterable[str]) -> None:
    """Kill what runs in them, then remove them; those that are gone already are passed over."""
    there = [name for name in names if (NETNS / name).exists()]
    deadline = time.monotonic() + GONE_S
    while (pids := [pid for name in there for pid in pids_in(name)]) and time.monotonic() < deadline:
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.02)
    for name in there:
        subprocess.run(["ip", "netns", "delete", name], check=False, capture_output=True)


def remove_stale() -> None:
    """What labs left behind whose process is dead."""
    names = [entry.name for entry in NETNS.iterdir()] if NETNS.is_dir() else []
    remove(n for n in names if (match := _NAME.fullmatch(n)) and not Path("/proc", match[1]).exists())


def pids_in(name: str) -> list[int]:
    """Every process in a namespace; empty if there is no such namespace (any more)."""
    done = subprocess.run(["ip", "netns", "pids", name], check=False, capture_output=True, text=True)
    return [int(pid) for pid in done.stdout.split()]


@contextmanager
def inside(name: str) -> Iterator[None]:
    """This thread stands in the namespace meanwhile: sockets and devices that it opens belong there for good."""
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        there = os.open(NETNS / name, os.O_RDONLY | os.O_CLOEXEC)
        try:
            _setns(there)
        finally:
            os.close(there)
        try:
            yield
        finally:
            _setns(home)
    finally:
        os.close(home)


def socket_in(name: str, family: int = socket.AF_INET, kind: int = socket.SOCK_STREAM) -> socket.socket:
    """A socket of that namespace for use by this process, wherever it stands."""
    with inside(name):
        return socket.socket(family, kind)


def open_tun(name: str, address: str, mtu: int) -> int:
    """A TUN device in the namespace, up, with `address` (IPv4, prefix included); its file descriptor.

    Each read is one IP packet, each write another. The device goes when the descriptor is closed.
    """
    with inside(name):
        device = os.open(TUN, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        fcntl.ioctl(device, _TUNSETIFF, struct.pack("16sH", DEVICE.encode(), _IFF_TUN | _IFF_NO_PI))
    _ip("-n", name, "address", "add", address, "dev", DEVICE)
    _ip("-n", name, "link", "set", DEVICE, "mtu", str(mtu), "up")
    return device


def _setns(descriptor: int) -> None:
    if _libc.setns(descriptor, _CLONE_NEWNET) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"setns: {os.strerror(number)}")


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)
