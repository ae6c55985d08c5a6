"""Where an etcd cluster is and how a node proves itself to it."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from proto.errors import Invalid

DEFAULT_PORT = 2379
ENDPOINTS_MAX = 16
"""A cluster has three, five or seven members."""


_HOST_NAME = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_.])?")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One member of the cluster. `target` is `host:port`, with brackets around an IPv6 host."""

    secure: bool
    host: str
    port: int

    @classmethod
    def parse(cls, url: str) -> Endpoint:
        """From `http[s]://HOST[:PORT]`, port 2379 unless given. Raises `Invalid`."""
        try:
            parts = urlsplit(url)
            port = DEFAULT_PORT if parts.port is None else parts.port
            host = parts.hostname or ""
            good = parts.scheme in ("http", "https") and _is_host(host) and port > 0
        except ValueError:
            good = False
        if "@" in url:
            # Not repeated: what stands before it may be a password.
            raise Invalid(
                "an endpoint of etcd holds '@': a login is given as username and password, not in the address"
            )
        if not good or parts.path.strip("/") or parts.query or parts.fragment:
            raise Invalid(
                f"{url!r} is no endpoint of etcd: write scheme, host and port only, like https://etcd-1.example.org:2379"
            )
        return cls(parts.scheme == "https", host, port)

    @property
    def target(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def __str__(self) -> str:
        return f"{'https' if self.secure else 'http'}://{self.target}"


def _is_host(text: str) -> bool:
    if ":" not in text:
        return _HOST_NAME.fullmatch(text) is not None
    try:
        return ipaddress.ip_address(text).version == 6
    except ValueError:
        return False


@dataclass(frozen=True, slots=True)
class EtcdFiles:
    """Contents of PEM files: the CA that etcd's certificates come from, and, for mutual TLS, our own pair."""

    ca: bytes
    cert: bytes = b""
    key: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True)
class EtcdSettings:
    """`endpoints` are members of one cluster. An https endpoint needs `tls`; without `username` nobody logs in.

    `call_s`: deadline of one call to one member, connecting included. `quiet_s`: after so long without a word a watch
    asks its member for a sign of life, and leaves it if none comes within `call_s`. Raises `Invalid` on construction.
    """

    endpoints: tuple[Endpoint, ...]
    tls: EtcdFiles | None = None
    username: str = ""
    password: str = field(default="", repr=False)
    call_s: float = 3.0
    quiet_s: float = 5.0

    def __post_init__(self) -> None:
        if not 0 < len(self.endpoints) <= ENDPOINTS_MAX:
            raise Invalid(f"{len(self.endpoints)} endpoints of etcd are given; name 1 to {ENDPOINTS_MAX}")
        if self.tls is None and any(e.secure for e in self.endpoints):
            raise Invalid("an https endpoint of etcd needs the CA of its certificate; name it in tls.ca")
