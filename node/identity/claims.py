"""What a token says once its origin is proved: is it an access token, for us, for now; and of whom does it speak?

Pure. The same checks for the claims of a JWT (RFC 9068) and for the answer of an introspection (RFC 7662).
"""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from node.ports import ProofEnded
from node.settings.issuers import IssuerConfig
from proto.errors import Unauthenticated
from proto.records import Principal

TEXT_CHARACTERS_MAX = 255
"""Of a subject (OpenID Connect Core §2), and here of each group and scope."""
LIST_MAX = 256
AUDIENCES_MAX = 64
ACTORS_MAX = 5
THUMBPRINT_BYTES = 32
SECONDS_MAX = 253_402_300_799
"""The end of the year 9999: a later time is a mistake of units."""
_ID_TOKEN = ("nonce", "at_hash", "c_hash", "s_hash")
_OTHER_KINDS = frozenset({"id", "refresh", "offline", "logout"})
"""What issuers that sign all their tokens alike (Keycloak) write into the claim `typ`."""


@dataclass(frozen=True, slots=True)
class Verified:
    """`audiences` are those of the token; `missing` scopes that the issuer's entry requires; `thumbprint` is SHA-256 of
    the client certificate that the token is bound to (RFC 8705 §3.1), 32 bytes, or empty."""

    principal: Principal
    audiences: frozenset[str]
    missing: tuple[str, ...] = ()
    thumbprint: bytes = b""


def refused(why: str) -> Unauthenticated:
    return Unauthenticated(f"the token is not accepted: {why}")


def verified(claims: Mapping[str, Any], config: IssuerConfig, credential: str, now_s: float) -> Verified:
    """Raises `Unauthenticated` that says what is wrong. `credential` names the token where it has no id of its own.

    The audience is only read here: which of them is ours depends on the request.
    """
    _is_access_token(claims)
    expires_s = _in_time(claims, config.clock_skew_s, now_s)
    names = config.claims
    subject = _text(_claim(claims, names.subject), names.subject)
    tenant = config.tenant
    # Who is of no tenant may be more than one of a tenant: where the issuer is to say whose somebody is, it must.
    if names.tenant and ((claimed := _claim(claims, names.tenant)) is not None or not tenant):
        if tenant and claimed != tenant:
            raise refused(f"its {names.tenant!r} is another tenant than the issuer's")
        tenant = _text(claimed, names.tenant, 64)
    scopes = _words(_claim(claims, names.scopes), names.scopes) if names.scopes else ()
    jti = claims.get("jti")
    principal = Principal(
        subject,
        config.issuer,
        tenant,
        _words(_claim(claims, names.groups), names.groups, split=False) if names.groups else (),
        scopes,
        config.kind,
        actors=_actors(claims.get("act")),
        credential=f"jti/{jti}" if isinstance(jti, str) and 0 < len(jti) <= 128 and jti.isprintable() else credential,
        expires_s=expires_s,
    )
    missing = tuple(scope for scope in config.required_scopes if scope not in scopes)
    return Verified(principal, _audiences(claims.get("aud")), missing, _thumbprint(claims))


def _claim(claims: Mapping[str, Any], name: str) -> Any:
    """The claim of this name, which may hold dots, or else the member that the dots lead to."""
    if name in claims:
        return claims[name]
    found: Any = claims
    for part in name.split("."):
        found = found.get(part) if isinstance(found, Mapping) else None
    return found


def _is_access_token(claims: Mapping[str, Any]) -> None:
    kind = claims.get("typ")
    if any(name in claims for name in _ID_TOKEN) or (isinstance(kind, str) and kind.lower() in _OTHER_KINDS):
        raise refused("it is not an access token; ask the issuer for one, with this resource")
    if "events" in claims:
        raise refused("it is an event (RFC 8417), not an access token")


def _in_time(claims: Mapping[str, Any], skew_s: int, now_s: float) -> int:
    expires_s = _seconds(claims, "exp")
    if expires_s is None:
        raise refused("it has no end ('exp')")
    if now_s >= expires_s + skew_s:
        raise ProofEnded("the token is not accepted: it has expired; get a new one")
    for name in ("nbf", "iat"):
        begins_s = _seconds(claims, name)
        if begins_s is not None and begins_s > now_s + skew_s:
            raise refused(f"its {name!r} is in the future; compare the clocks")
    return math.floor(expires_s) + skew_s


def _seconds(claims: Mapping[str, Any], name: str) -> float | None:
    value = claims.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= SECONDS_MAX:
        raise refused(f"its {name!r} is no time in seconds")
    return value


def _text(value: Any, name: str, most: int = TEXT_CHARACTERS_MAX) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= most or not value.isprintable() or value != value.strip():
        raise refused(f"its {name!r} is no text of 1 to {most} characters")
    return value


def _words(value: Any, name: str, *, split: bool = True) -> tuple[str, ...]:
    """A list of texts, or one text: of words (RFC 8693 §4.2), or one name that may hold blanks."""
    if value is None:
        return ()
    words = (value.split() if split else [value]) if isinstance(value, str) else value
    if not isinstance(words, list) or len(words) > LIST_MAX:
        raise refused(f"its {name!r} is no list of at most {LIST_MAX} texts")
    return tuple(dict.fromkeys(_text(word, name) for word in words))


def _audiences(value: Any) -> frozenset[str]:
    listed = [value] if isinstance(value, str) else value
    if (
        not isinstance(listed, list)
        or not 0 < len(listed) <= AUDIENCES_MAX
        or not all(isinstance(a, str) for a in listed)
    ):
        raise refused("it names no audience ('aud'); ask the issuer for a token for this resource")
    return frozenset(map(bare, listed))


def bare(audience: str) -> str:
    """A URL with an empty path and one with the path `/` are one (RFC 3986 §6.2.3)."""
    return audience.rstrip("/")


def _actors(act: Any) -> tuple[str, ...]:
    """RFC 8693 §4.1: the outermost `act` acts now, those within it acted before."""
    actors: list[str] = []
    while act is not None:
        if not isinstance(act, dict) or len(actors) >= ACTORS_MAX:
            raise refused(f"its 'act' is no chain of at most {ACTORS_MAX} actors")
        subject, issuer = _text(act.get("sub"), "act.sub"), act.get("iss")
        actors.append(subject if issuer is None else f"{_text(issuer, 'act.iss')}|{subject}")
        act = act.get("act")
    return tuple(actors)


def _thumbprint(claims: Mapping[str, Any]) -> bytes:
    bound = claims.get("cnf")
    if bound is None:
        if str(claims.get("token_type", "")).lower() == "dpop":
            raise refused("it is bound to a key by DPoP, which is not checked here; get one that is not bound")
        return b""
    if not isinstance(bound, dict) or set(bound) != {"x5t#S256"}:
        if isinstance(bound, dict) and "jkt" in bound:
            raise refused("it is bound to a key by DPoP, which is not checked here; get one that is not bound")
        raise refused("it is bound ('cnf') in a way that is not checked here")
    text = bound["x5t#S256"]
    try:
        raw = base64.b64decode(str(text) + "=" * (-len(str(text)) % 4), altchars=b"-_", validate=True)
    except ValueError:
        raw = b""
    if len(raw) != THUMBPRINT_BYTES:
        raise refused("its 'cnf' names no certificate")
    return raw
