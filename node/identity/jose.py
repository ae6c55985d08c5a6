"""Signed tokens taken apart, before and apart from any belief in them (RFC 7515, RFC 7519, RFC 8725)."""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from proto import jsons
from proto.errors import Invalid

TOKEN_CHARACTERS_MAX = 16_384
KID_CHARACTERS_MAX = 256
_BASE64URL = re.compile(r"[A-Za-z0-9_-]+")
_TYPES = frozenset({"", "jwt", "at+jwt", "application/at+jwt"})
_NEVER = ("crit", "b64", "zip", "enc")
"""Header members that would change what is signed or how it is to be read."""


@dataclass(frozen=True, slots=True)
class SignedToken:
    """One compact JWS whose payload is a JSON object. Nothing is proved of it; `jku`, `x5u`, `jwk`, `x5c` go unread."""

    algorithm: str
    kid: str
    claims: Mapping[str, Any] = field(repr=False)
    signed: bytes = field(repr=False)
    signature: bytes = field(repr=False)

    @property
    def issuer(self) -> str:
        issuer = self.claims.get("iss")
        return issuer if isinstance(issuer, str) else ""


def looks_signed(token: str) -> bool:
    """Is it meant as a JWT: three parts, of which the first is a JSON object with `alg`?"""
    head, dot, rest = token.partition(".")
    if not dot or rest.count(".") != 1 or len(token) > TOKEN_CHARACTERS_MAX:
        return False
    try:
        return "alg" in _object(head, "header")
    except Invalid:
        return False


def parse(token: str) -> SignedToken:
    """Raises `Invalid` for what is no JWT, or is one that asks to be read in another way than all others."""
    if len(token) > TOKEN_CHARACTERS_MAX:
        raise Invalid(f"it is longer than {TOKEN_CHARACTERS_MAX} characters")
    parts = token.split(".")
    if len(parts) != 3:
        raise Invalid("it has not three parts")
    header, claims = _object(parts[0], "header"), _object(parts[1], "payload")
    for name in _NEVER:
        if name in header:
            raise Invalid(f"its header has {name!r}, which is not honoured here")
    algorithm, kid, kind = header.get("alg"), header.get("kid", ""), header.get("typ", "")
    if not isinstance(algorithm, str) or not isinstance(kid, str) or len(kid) > KID_CHARACTERS_MAX:
        raise Invalid("its header has no readable 'alg' and 'kid'")
    # RFC 8725 §3.11: tokens of other kinds (logout+jwt, secevent+jwt, dpop+jwt, …) are signed with the same keys.
    if not isinstance(kind, str) or kind.lower() not in _TYPES:
        raise Invalid(f"its 'typ' is {str(kind)[:40]!r}, and an access token's is 'at+jwt' or 'JWT'")
    return SignedToken(algorithm, kid, claims, f"{parts[0]}.{parts[1]}".encode(), _bytes(parts[2], "signature"))


def _bytes(text: str, what: str) -> bytes:
    if not _BASE64URL.fullmatch(text):
        raise Invalid(f"its {what} is not base64url")
    try:
        raw = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except (ValueError, binascii.Error):
        raise Invalid(f"its {what} is not base64url") from None
    # One sequence of bytes has one form: spare bits that are not zero would make a second token of it.
    if base64.urlsafe_b64encode(raw).rstrip(b"=") != text.encode():
        raise Invalid(f"its {what} is not base64url in canonical form")
    return raw


def _object(text: str, what: str) -> dict[str, Any]:
    return strict_object(_bytes(text, what), f"its {what}")


def strict_object(raw: bytes, what: str) -> dict[str, Any]:
    """A JSON object in which no name comes twice, at any depth. Raises `Invalid` whose message begins with `what`."""
    # The first reading bounds depth and numbers, the second sees names that come twice (RFC 7519 §4).
    jsons.loads_object(raw, what)
    try:
        return dict(json.loads(raw, object_pairs_hook=_unique))
    except _Twice as e:
        raise Invalid(f"{what} has {str(e)[:80]!r} twice") from None
    except (ValueError, RecursionError):
        raise Invalid(f"{what} is not a JSON object") from None


class _Twice(Exception):
    pass


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise _Twice(next(name for name in names if names.count(name) > 1))
    return found
