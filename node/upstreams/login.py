"""In whose name requests to a server are made, and what their headers bear for that."""

from __future__ import annotations

from collections.abc import Mapping

from multidict import MultiMapping

from node.upstreams.refusals import FIXED, Answered
from node.upstreams.spec import UpstreamSpec
from proto.records import Principal

TRIES_MAX = 3
"""So often one message is sent at most: once as it is, once with another token, once with one of more scopes."""

_CHALLENGE = "WWW-Authenticate"


class Login:
    """One identity at one server: a principal's, or, with None, the one in whose name its lists are asked for."""

    __slots__ = ("_credentials", "_fixed", "_principal")

    def __init__(self, spec: UpstreamSpec, principal: Principal | None = None) -> None:
        self._credentials = spec.credentials
        self._fixed = spec.headers
        self._principal = principal

    def __repr__(self) -> str:
        return f"Login({self._credentials or 'fixed headers'})"

    async def headers(self) -> Mapping[str, str]:
        """The same object while nothing changes. Raises `ConsentNeeded` or `Unavailable`."""
        if self._credentials is None:
            return self._fixed
        return await self._credentials.headers(self._principal)

    async def again(self, answer: Answered, sent: Mapping[str, str]) -> bool:
        """A request with the headers `sent` got this answer: is it worth sending once more, with those of now?

        Raises as `headers`.
        """
        if self._credentials is None or answer.status not in (401, 403):
            return False
        return await self._credentials.refused(self._principal, answer.status, challenge_in(answer.headers), sent)

    @property
    def mend(self) -> str:
        """What an operator should look at if it is refused."""
        return FIXED if self._credentials is None else self._credentials.describe()


def challenge_in(headers: Mapping[str, str]) -> str:
    """All of `WWW-Authenticate`, which may come in several lines (RFC 9110 §5.3)."""
    if isinstance(headers, MultiMapping):
        return ", ".join(headers.getall(_CHALLENGE, ()))
    return headers.get(_CHALLENGE, "")
