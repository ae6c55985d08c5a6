"""One purpose's requests to the outside: judged addresses, bounded answers, no cookies, redirects only where asked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import aiohttp
from yarl import URL

from node.outbound.allowed import Allowed
from node.outbound.connector import JudgedConnector
from node.outbound.urls import checked_url
from proto import jsons
from proto.errors import Invalid, Unavailable

_REDIRECTS = (301, 302, 303, 307, 308)
_RETRY_AFTER_S_MAX = 86_400


@dataclass(frozen=True, slots=True)
class Fetched:
    """A whole answer, whatever its status. `url` is where it came from after redirects."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    url: str
    purpose: str = ""

    def json(self) -> dict[str, Any]:
        """The object in the body. Raises `Unavailable`: what answers something else is not what was asked for."""
        try:
            return jsons.loads_object(self.body, "the answer")
        except Invalid as e:
            raise Unavailable(f"{self.purpose}: {self.url} gave no JSON object: {e.message}") from None

    def __repr__(self) -> str:
        return f"Fetched({self.status} {len(self.body)} bytes from {self.url})"


class OutboundSession:
    """Open until `close`. Its requests raise `Unavailable` where no answer came that may be read."""

    def __init__(
        self,
        purpose: str,
        allowed: Allowed,
        *,
        timeout_s: float,
        bytes_max: int,
        redirects_max: int,
        connector: JudgedConnector | None = None,
    ) -> None:
        self._purpose = purpose
        self._allowed = allowed
        self._bytes_max = bytes_max
        self._redirects_max = redirects_max
        self.client = aiohttp.ClientSession(
            connector=connector or JudgedConnector(allowed, purpose),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=timeout_s),
            headers={"Accept-Encoding": "identity"},
            auto_decompress=False,
            trust_env=False,
        )
        """For who must read an answer as it comes: judged like all else, bounded by its reader. Set
        `allow_redirects=False`."""

    async def get(self, url: str, headers: Mapping[str, str] | None = None) -> Fetched:
        return await self.request("GET", url, headers=headers)

    async def post(self, url: str, data: Any, headers: Mapping[str, str] | None = None) -> Fetched:
        """`data` as aiohttp takes it: bytes, or a mapping that is sent as a form."""
        return await self.request("POST", url, headers=headers, data=data)

    async def request(
        self, method: str, url: str, *, headers: Mapping[str, str] | None = None, data: Any = None
    ) -> Fetched:
        at = self._parsed(url)
        for left in range(self._redirects_max, -1, -1):
            answer = await self._once(method, at, headers, data)
            if answer.status not in _REDIRECTS or method != "GET" or not self._redirects_max:
                return answer
            if left:
                at, headers = self._next(at, answer.headers.get("Location", ""), headers)
        raise Unavailable(f"{self._purpose}: {url} redirects more than {self._redirects_max} times")

    async def close(self) -> None:
        await self.client.close()

    async def __aenter__(self) -> OutboundSession:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"OutboundSession({self._purpose})"

    def _parsed(self, url: str) -> URL:
        try:
            return checked_url(url, self._allowed, ("https",), "the address")
        except Invalid as e:
            raise Unavailable(f"{self._purpose}: {e.message}") from None

    def _next(self, at: URL, location: str, headers: Mapping[str, str] | None) -> tuple[URL, Mapping[str, str] | None]:
        """Where a redirect leads. Only a request without a body follows it, and no header goes to another origin."""
        try:
            there = self._parsed(str(at.join(URL(location))))
        except ValueError:
            raise Unavailable(f"{self._purpose}: {at} redirects to what is no address") from None
        if at.scheme == "https" and there.scheme != "https":
            raise Unavailable(f"{self._purpose}: {at} redirects to an address without TLS")
        return there, headers if there.origin() == at.origin() else None

    async def _once(self, method: str, url: URL, headers: Mapping[str, str] | None, data: Any) -> Fetched:
        try:
            async with self.client.request(method, url, headers=headers, data=data, allow_redirects=False) as answer:
                body = await self._bounded(answer)
                return Fetched(answer.status, answer.headers, body, str(url.with_query(None)), self._purpose)
        except TimeoutError:
            raise Unavailable(f"{self._purpose}: {url.with_query(None)} did not answer in time") from None
        except (aiohttp.ClientError, OSError, ValueError) as e:
            why = e.strerror if isinstance(e, OSError) and e.strerror else str(e) or type(e).__name__
            raise Unavailable(f"{self._purpose}: {url.with_query(None)} cannot be reached: {why}") from None

    async def _bounded(self, answer: aiohttp.ClientResponse) -> bytes:
        parts = bytearray()
        async for part in answer.content.iter_any():
            parts += part
            if len(parts) > self._bytes_max:
                raise Unavailable(f"{self._purpose}: the answer is longer than {self._bytes_max} bytes")
        return bytes(parts)


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Seconds from Retry-After; a date is left aside, clocks differ."""
    value = headers.get("Retry-After", "")
    return float(value) if value.isascii() and value.isdigit() and int(value) <= _RETRY_AFTER_S_MAX else None
