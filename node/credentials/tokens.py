"""Asking an authorization server for a token (RFC 6749 §4 to §6, RFC 8693 §2), and what of its answer is believed."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from typing import Any

from node.credentials.challenge import scopes_of
from node.credentials.client_auth import OAuthClient
from node.credentials.metadata import AuthorizationServer
from node.credentials.ports import OAuthHttp, Token
from proto.errors import Unavailable

__all__ = ["OAuthClient", "TokenRefused", "request_token"]

LIFE_S_MAX = 365 * 24 * 3600
_SAID_CHARS_MAX = 200
_SECRET_CHARS = 8
_PUBLIC = (
    *("grant_type", "scope", "resource", "audience", "client_id", "redirect_uri", "requested_token_type"),
    *("subject_token_type", "actor_token_type", "client_assertion_type"),
)
_BEARER = re.compile(r"[\x21-\x7e]{1,16384}")
"""What a header can repeat; RFC 6750 §2.1 allows less, servers do not keep to it."""
_ERROR = re.compile(r"[A-Za-z0-9_.-]{1,64}")


class TokenRefused(Unavailable):
    """The authorization server said no; `error` is its code (RFC 6749 §5.2), or empty."""

    def __init__(self, message: str, error: str = "", /, **data: Any) -> None:
        super().__init__(message, **data)
        self.error = error


async def request_token(
    http: OAuthHttp,
    server: AuthorizationServer,
    client: OAuthClient,
    form: Mapping[str, str],
    *,
    learned: bool = True,
) -> Token:
    """What its token endpoint gives for `form` (`grant_type` and what goes with it; empty members are left out).

    `learned`: as for `OAuthHttp`. Raises `TokenRefused`, or `Unavailable` where it gave no sensible answer.
    """
    where = server.issuer or server.token_endpoint
    if not server.token_endpoint:
        raise Unavailable(f"{where} names no token endpoint")
    fields, headers = client.proof(server)
    sent = {name: value for name, value in form.items() if value} | fields
    status, answer = await http.post_form(server.token_endpoint, sent, headers, learned=learned)
    if status != 200:
        secret = [value for name, value in sent.items() if name not in _PUBLIC]
        raise _refusal(where, status, answer, (*secret, client.secret))
    return _token(where, server.issuer, answer, scopes_of(form.get("scope", "")))


def _token(where: str, issuer: str, answer: Mapping[str, Any], asked: tuple[str, ...]) -> Token:
    access, kind = answer.get("access_token"), answer.get("token_type")
    if not isinstance(access, str) or not _BEARER.fullmatch(access):
        raise Unavailable(f"{where} answered without an access token that a header could bear")
    if not isinstance(kind, str) or kind.lower() not in ("bearer", "n_a"):
        said = kind[:40] if isinstance(kind, str) else "nothing"
        raise Unavailable(f"{where} gave a token of type {said!r}; only 'Bearer' can be used")
    refresh = answer.get("refresh_token")
    scope = answer.get("scope")
    return Token(
        access_token=access,
        expires_s=_expiry(answer.get("expires_in")),
        # RFC 6749 §5.1: left out where they are those that were asked for.
        scopes=scopes_of(scope) if isinstance(scope, str) else asked,
        refresh_token=refresh if isinstance(refresh, str) and _BEARER.fullmatch(refresh) else "",
        issuer=issuer,
    )


def _expiry(expires_in: Any) -> int:
    if isinstance(expires_in, str) and expires_in.isascii() and expires_in.isdigit() and len(expires_in) < 12:
        expires_in = int(expires_in)
    if isinstance(expires_in, bool) or not isinstance(expires_in, int | float) or not expires_in > 0:
        return 0
    return int(time.time() + min(expires_in, LIFE_S_MAX))


def _refusal(where: str, status: int, answer: Mapping[str, Any], sent: tuple[str, ...]) -> Unavailable:
    """`sent` is what may be secret: a server that repeats some of it is not quoted."""
    error, said = answer.get("error"), answer.get("error_description")
    code = error if isinstance(error, str) and _ERROR.fullmatch(error) else ""
    words = ""
    if isinstance(said, str) and said and not any(len(value) >= _SECRET_CHARS and value in said for value in sent):
        words = f" ({' '.join(said.split())[:_SAID_CHARS_MAX]})"
    if not code and status >= 500:
        return Unavailable(f"{where} answered the request for a token with status {status}")
    return TokenRefused(f"{where} refused a token: {code or f'status {status}'}{words}", code)
