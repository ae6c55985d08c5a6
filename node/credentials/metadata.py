"""What authorization servers and protected resources say of themselves (RFC 8414, OIDC Discovery, RFC 9728). Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import SplitResult, urlsplit, urlunsplit

from node.settings.values import is_loopback
from proto.errors import Invalid

URL_CHARS_MAX = 2_000
WORDS_MAX = 256
"""Of one list; what is beyond is not read."""
_WORD_CHARS_MAX = 200


@dataclass(frozen=True, slots=True)
class AuthorizationServer:
    """Empty where it does not say. Every URL is https, or of this machine."""

    issuer: str
    authorization_endpoint: str = ""
    token_endpoint: str = ""
    registration_endpoint: str = ""
    revocation_endpoint: str = ""
    scopes_supported: tuple[str, ...] = ()
    token_auth_methods: tuple[str, ...] = ()
    code_challenge_methods: tuple[str, ...] = ()
    grant_types: tuple[str, ...] = ()
    client_id_metadata_document_supported: bool = False
    authorization_response_iss_parameter_supported: bool = False


@dataclass(frozen=True, slots=True)
class ResourceMetadata:
    """`scopes` is None where the document has no `scopes_supported`: then none are asked for."""

    resource: str
    authorization_servers: tuple[str, ...]
    scopes: tuple[str, ...] | None = None


def authorization_server(data: Mapping[str, Any], issuer: str) -> AuthorizationServer:
    """From a metadata document that was fetched for `issuer`. Raises `Invalid`: another's document, or no safe URLs."""
    said = data.get("issuer")
    if said != issuer:
        # Compared as strings, nothing normalised (RFC 8414 §3.3, RFC 9207 §2.4): whoever differs is another.
        raise Invalid(f"its metadata names the issuer {_shown(said)}, not {issuer!r}")
    return AuthorizationServer(
        issuer=issuer,
        authorization_endpoint=_url(data, "authorization_endpoint"),
        token_endpoint=_url(data, "token_endpoint"),
        registration_endpoint=_url(data, "registration_endpoint"),
        revocation_endpoint=_url(data, "revocation_endpoint"),
        scopes_supported=words(data.get("scopes_supported")),
        # RFC 8414 §2: left out, it is client_secret_basic.
        token_auth_methods=words(data.get("token_endpoint_auth_methods_supported")) or ("client_secret_basic",),
        code_challenge_methods=words(data.get("code_challenge_methods_supported")),
        grant_types=words(data.get("grant_types_supported")),
        client_id_metadata_document_supported=data.get("client_id_metadata_document_supported") is True,
        authorization_response_iss_parameter_supported=(
            data.get("authorization_response_iss_parameter_supported") is True
        ),
    )


def resource_metadata(data: Mapping[str, Any], server_url: str) -> ResourceMetadata:
    """From a document about the server at `server_url`. Raises `Invalid`: about another one, or without an issuer.

    It must be about that URL, or about a path above it (RFC 9728 §3.3, as MCP 2025-11-25 has it).
    """
    resource = data.get("resource")
    if not isinstance(resource, str) or not covers(resource, server_url):
        raise Invalid(f"its resource metadata is about {_shown(resource)}, not about {canonical(server_url)!r}")
    servers = tuple(word for word in words(data.get("authorization_servers")) if _is_safe(word))
    if not servers:
        raise Invalid("its resource metadata names no authorization server at an https:// address")
    scopes = words(data["scopes_supported"]) if isinstance(data.get("scopes_supported"), list) else None
    return ResourceMetadata(resource, servers, scopes)


def covers(resource: str, url: str) -> bool:
    """Is `url` this resource, or below it? Of the same origin, in whole path segments."""
    try:
        whole, part = urlsplit(resource), urlsplit(url)
        same = _origin(whole) == _origin(part)
    except ValueError:
        return False
    if not same or whole.query not in ("", part.query) or whole.fragment:
        return False
    above, below = whole.path.rstrip("/"), part.path.rstrip("/")
    return below == above or below.startswith(f"{above}/")


def canonical(url: str) -> str:
    """A server's URL as the name of a resource (RFC 8707 §2, MCP 2025-11-25): no fragment, no bare slash."""
    parts = urlsplit(url)
    path = "" if parts.path == "/" else parts.path
    scheme = {"ws": "http", "wss": "https"}.get(parts.scheme, parts.scheme)
    return urlunsplit((scheme, parts.netloc.lower(), path, parts.query, ""))


def resource_metadata_urls(server_url: str) -> tuple[str, ...]:
    """Where its document may be, where no challenge says: with the path, then at the root (RFC 9728 §3.1)."""
    return tuple(dict.fromkeys(_well_known(server_url, "oauth-protected-resource", where) for where in ("in", "root")))


def server_metadata_urls(issuer: str) -> tuple[str, ...]:
    """Where an issuer's document may be, in the order in which to ask (MCP 2025-11-25, server metadata discovery)."""
    found = [
        _well_known(issuer, "oauth-authorization-server", "in"),
        _well_known(issuer, "openid-configuration", "in"),
        _well_known(issuer, "openid-configuration", "after"),
    ]
    return tuple(dict.fromkeys(found))


def check_url(url: str, what: str) -> str:
    """Raises `Invalid` unless it is https, or of this machine, and holds neither credentials nor a fragment."""
    if not _is_safe(url):
        raise Invalid(f"{what} {_shown(url)} is not an https:// address")
    return url


def words(value: Any) -> tuple[str, ...]:
    """The texts of a JSON list, bounded."""
    if not isinstance(value, list):
        return ()
    return tuple(w for w in value[:WORDS_MAX] if isinstance(w, str) and 0 < len(w) <= _WORD_CHARS_MAX)


def _well_known(url: str, name: str, where: str) -> str:
    parts = urlsplit(url)
    path = parts.path.rstrip("/")
    scheme = {"ws": "http", "wss": "https"}.get(parts.scheme, parts.scheme)
    full = {
        "in": f"/.well-known/{name}{path}",
        "root": f"/.well-known/{name}",
        "after": f"{path}/.well-known/{name}",
    }[where]
    return urlunsplit((scheme, parts.netloc, full, "", ""))


def _origin(parts: SplitResult) -> tuple[str, str, int | None]:
    scheme = {"ws": "http", "wss": "https"}.get(parts.scheme, parts.scheme)
    default = {"http": 80, "https": 443}.get(scheme)
    return scheme, (parts.hostname or "").lower(), parts.port or default


def _url(data: Mapping[str, Any], member: str) -> str:
    value = data.get(member)
    return check_url(value, f"its {member}") if isinstance(value, str) and value else ""


def _is_safe(url: str) -> bool:
    if len(url) > URL_CHARS_MAX or any(c <= " " or c == "\x7f" or c == "\\" for c in url):
        return False
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        return False
    if not host or port == 0 or parts.username is not None or parts.password is not None or "#" in url:
        return False
    return parts.scheme == "https" or (parts.scheme == "http" and is_loopback(host))


def _shown(value: Any) -> str:
    return repr(value[:_WORD_CHARS_MAX]) if isinstance(value, str) else "nothing"
