"""What an issuer says of itself: where its keys lie, where it is asked about tokens (RFC 8414, OpenID Discovery)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from node.identity.jose import strict_object
from node.outbound.session import OutboundSession
from node.settings.issuers import protected_url
from proto.errors import Invalid, Unavailable


async def metadata_of(issuer: str, discovery: str, http: OutboundSession) -> Mapping[str, Any]:
    """The first document that is there: at `discovery`, or else at the well-known addresses.

    Raises `Unavailable`, also for a document of another issuer: whoever answers there does not speak for this one.
    """
    problem = "nothing answered"
    for url in [discovery] if discovery else well_known(issuer):
        answer = await http.get(url, {"Accept": "application/json"})
        if answer.status != 200:
            problem = f"{url} answered {answer.status}"
            continue
        try:
            document = strict_object(answer.body, url)
        except Invalid as e:
            # A page for people, as some servers answer whatever is asked for.
            problem = e.message
            continue
        if document.get("issuer") != issuer:
            raise Unavailable(f"{url} is of issuer {str(document.get('issuer'))[:200]!r}, not of {issuer!r}")
        return document
    raise Unavailable(f"issuer {issuer} publishes no metadata: {problem}; set auth.issuers' jwks_url or discovery")


def endpoint(document: Mapping[str, Any], name: str) -> str:
    """A URL of the document. Raises `Unavailable` where it has none that is protected."""
    value = document.get(name)
    try:
        return protected_url(value if isinstance(value, str) else "")
    except ValueError:
        raise Unavailable(f"the metadata of {document['issuer']} has no usable {name!r}") from None


def well_known(issuer: str) -> Iterator[str]:
    """RFC 8414 §3.1 puts the path behind the well-known part, OpenID Connect before it."""
    parts = urlsplit(issuer)
    path = parts.path.rstrip("/")
    for at in (
        f"/.well-known/oauth-authorization-server{path}",
        f"{path}/.well-known/openid-configuration",
        *([f"/.well-known/openid-configuration{path}"] if path else []),
    ):
        yield urlunsplit((parts.scheme, parts.netloc, at, "", ""))
