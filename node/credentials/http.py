"""HTTP with authorization servers, over the node's judged way out: no redirects, bounded time and size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from node.outbound.outbound import Outbound
from node.outbound.session import OutboundSession
from proto import jsons
from proto.errors import Invalid

TIMEOUT_S = 10.0
BYTES_MAX = 256 * 1024


class OutboundHttp:
    """`OAuthHttp` for one server. `written` are the URLs that the operator wrote: their hosts are dialled as written,
    every other is judged. Made closed; opens with its first request."""

    def __init__(self, outbound: Outbound, purpose: str, written: Sequence[str] = ()) -> None:
        self._outbound = outbound
        self._purpose = purpose
        self._written = tuple(written)
        self._open: OutboundSession | None = None

    def __repr__(self) -> str:
        return f"OutboundHttp({self._purpose} {'open' if self._open else 'closed'})"

    async def get_json(self, url: str, *, learned: bool) -> tuple[int, dict[str, Any]]:
        answer = await self._session.get(url, {"Accept": "application/json"})
        return answer.status, _object(answer.body)

    async def post_form(
        self, url: str, form: Mapping[str, str], headers: Mapping[str, str], *, learned: bool
    ) -> tuple[int, dict[str, Any]]:
        answer = await self._session.post(url, dict(form), {"Accept": "application/json", **headers})
        return answer.status, _object(answer.body)

    async def post_json(
        self, url: str, body: Mapping[str, Any], headers: Mapping[str, str], *, learned: bool
    ) -> tuple[int, dict[str, Any]]:
        sent = {"Accept": "application/json", "Content-Type": "application/json", **headers}
        answer = await self._session.post(url, jsons.dumps(dict(body)), sent)
        return answer.status, _object(answer.body)

    async def close(self) -> None:
        session, self._open = self._open, None
        if session is not None:
            await session.close()

    @property
    def _session(self) -> OutboundSession:
        if self._open is None:
            self._open = self._outbound.session(
                self._purpose, allow=self._written, timeout_s=TIMEOUT_S, bytes_max=BYTES_MAX
            )
        return self._open


def _object(body: bytes) -> dict[str, Any]:
    try:
        return jsons.loads_object(body, "the answer")
    except Invalid:
        return {}
