"""Tokens that only their issuer can read: it is asked what each of them is (RFC 7662)."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from urllib.parse import quote

from node.identity.claims import refused
from node.identity.jose import TOKEN_CHARACTERS_MAX, strict_object
from node.identity.trouble import Trouble
from node.outbound.session import OutboundSession
from node.settings.issuers import IntrospectionConfig
from proto.errors import Invalid, Unavailable

AT_ONCE_MAX = 16
WAITING_MAX = 256
"""Questions that wait for one of those; one more is `Unavailable`."""
RETRY_AFTER_S = 2.0


class Introspection:
    """`at` finds an endpoint that the issuer's metadata names, where none is configured."""

    def __init__(self, issuer: str, config: IntrospectionConfig, at: Callable[[str], Awaitable[str]]) -> None:
        self._config = config
        self._at = at
        self._url = config.url
        self._gate = asyncio.Semaphore(AT_ONCE_MAX)
        self._waiting = 0
        self.trouble = Trouble(issuer, "tokens that it has to be asked about cannot be checked")

    def __repr__(self) -> str:
        return f"Introspection({self._url or 'not asked yet'}, {self._waiting} asked now)"

    async def ask(self, token: str, http: OutboundSession) -> Mapping[str, Any]:
        """What the issuer says of an active token.

        Raises `Unauthenticated` for one that is not, and `Unavailable` where the issuer gives no clear answer.
        """
        if not 0 < len(token) <= TOKEN_CHARACTERS_MAX:
            raise refused("it is too long")
        if self._waiting >= WAITING_MAX:
            raise Unavailable("too many tokens are being checked; try again soon", retry_after_s=RETRY_AFTER_S)
        self._waiting += 1
        try:
            async with self._gate:
                answer = await self._answer(token, http)
        finally:
            self._waiting -= 1
        # RFC 7662 §2.2: `active` is a boolean; whatever else stands there is no yes.
        if answer.get("active") is not True:
            raise refused("its issuer says that it is not, or no longer, active")
        return answer

    async def _answer(self, token: str, http: OutboundSession) -> Mapping[str, Any]:
        # bandit takes the kind of token for a password.
        form = {"token": token, "token_type_hint": "access_token"}  # nosec B105
        headers = {"Accept": "application/json"}
        client_id, secret = self._config.client_id, self._config.client_secret.get_secret_value()
        if self._config.auth == "basic":
            # RFC 6749 §2.3.1: both are form-encoded before they are joined.
            pair = f"{quote(client_id, safe='')}:{quote(secret, safe='')}"
            headers["Authorization"] = f"Basic {base64.b64encode(pair.encode()).decode()}"
        else:
            form |= {"client_id": client_id, "client_secret": secret}
        try:
            url = self._url or await self._found()
            answer = await http.post(url, form, headers)
            if answer.status != 200:
                raise Unavailable(f"{url} answered {answer.status}; look at auth.issuers' introspection")
            found = strict_object(answer.body, url)
        except (Invalid, Unavailable) as e:
            self.trouble.comes(e.message)
            # Learned from metadata, it may have moved.
            self._url = self._config.url
            # Whoever shows a token need not learn what stands behind this node.
            raise Unavailable("the token cannot be checked now; try again soon", retry_after_s=RETRY_AFTER_S) from None
        self.trouble.ends()
        return found

    async def _found(self) -> str:
        self._url = await self._at("introspection_endpoint")
        return self._url
