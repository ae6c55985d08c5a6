"""Everything that this node dials for somebody else's word, in one place: which URLs, which addresses, how long."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Any

from aiohttp.abc import AbstractResolver
from yarl import URL

from node.outbound.allowed import DEFAULT_PORTS, Allowed
from node.outbound.connector import JudgedConnector
from node.outbound.session import OutboundSession
from node.outbound.urls import checked_url
from proto.errors import Invalid

TIMEOUT_S = 10.0
BYTES_MAX = 256 * 1024


class Outbound:
    """One per node. `allow`: networks and hosts that may be dialled although they are not public (`outbound.allow`).

    `resolver` stands for the system's, in tests.
    """

    def __init__(self, allow: Iterable[str] = (), resolver: AbstractResolver | None = None) -> None:
        self._allowed = Allowed.of(allow)
        self._resolver = resolver

    def check_url(self, url: str, *, schemes: Collection[str] = ("https",), what: str = "url") -> str:
        """A URL that was learned from elsewhere, as it will be dialled; its name is resolved and judged then.

        Raises `Invalid`, whose message names `what`, what is wrong with it and `outbound.allow` where that would help.
        """
        return str(checked_url(url, self._allowed, schemes, what))

    def session(
        self,
        purpose: str,
        *,
        allow: Sequence[str] = (),
        timeout_s: float = TIMEOUT_S,
        bytes_max: int = BYTES_MAX,
        redirects_max: int = 0,
    ) -> OutboundSession:
        """For requests of one purpose, which errors name. Needs a running loop; close it.

        `allow` are URLs that the operator wrote: their host and port are dialled as written. `timeout_s` is for a whole
        request, `bytes_max` for one answer. At most `redirects_max` redirects of a GET are followed, each judged anew.
        """
        allowed = self._allowed.with_hosts(map(_host_of, allow))
        return OutboundSession(
            purpose,
            allowed,
            timeout_s=timeout_s,
            bytes_max=bytes_max,
            redirects_max=redirects_max,
            connector=JudgedConnector(allowed, purpose, self._resolver),
        )

    def connector(self, purpose: str, **options: Any) -> JudgedConnector:
        """For who has a client session of its own. `options` are those of aiohttp's TCPConnector. Close it."""
        return JudgedConnector(self._allowed, purpose, self._resolver, **options)

    def __repr__(self) -> str:
        return f"Outbound({len(self._allowed.networks)} networks, {len(self._allowed.hosts)} hosts allowed)"


def _host_of(url: str) -> tuple[str, int]:
    try:
        parsed = URL(url)
        host, port = parsed.raw_host, parsed.port or DEFAULT_PORTS.get(parsed.scheme, 0)
    except ValueError:
        host, port = None, 0
    if not host or not port:
        raise Invalid(f"{url!r} is no address that could be dialled")
    return host.lower().rstrip("."), port
