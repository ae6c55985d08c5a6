"""How this node makes itself known to an authorization server: by hand, by a document, or by registering.

A client belongs to the issuer that knows it (MCP 2026-07-28, authorization): its id and secret are kept under that
issuer and the redirect URI they were made for, and are shown to no other.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from node.credentials.client_auth import ClientAuth, OAuthClient
from node.credentials.metadata import AuthorizationServer
from node.credentials.ports import OAuthHttp
from node.secrets.ports import SecretStore
from node.settings.consent_auth import AuthorizationCodeAuth
from node.settings.values import is_loopback
from proto import jsons
from proto.errors import Invalid, Unavailable, Unknown

CLIENT_NAME = "toolmesh"
METHODS: tuple[ClientAuth, ...] = ("none", "client_secret_basic", "client_secret_post")
"""How this node can show who it is to a token endpoint, as a client that registered itself: best first."""
TEXT_MAX = 4_000
_EXPIRES_SOON_S = 60


class Registrar:
    """`clock` gives unix seconds. Registered clients are kept in `store`, as `oauth-client/DIGEST`."""

    def __init__(self, store: SecretStore, http: OAuthHttp, clock: Callable[[], float] = time.time) -> None:
        self._store = store
        self._http = http
        self._clock = clock

    async def client(
        self, server: AuthorizationServer, auth: AuthorizationCodeAuth, redirect_uri: str, document_url: str
    ) -> OAuthClient:
        """Raises `Unavailable` naming the issuer, the cause and the mend. `document_url`: where this node's own
        metadata document can be fetched from; empty where nobody outside can."""
        if auth.client_id:
            if not auth.secret:
                return OAuthClient(auth.client_id)
            method = auth.client_auth or _method(server, ("client_secret_basic", "client_secret_post"))
            return OAuthClient(auth.client_id, auth.secret, method)
        document = document_url.startswith("https://") and server.client_id_metadata_document_supported
        if document and auth.registration != "dynamic":
            return OAuthClient(document_url)
        if auth.registration == "document":
            raise Unavailable(
                f"{server.issuer} takes no client id metadata documents, or this node's http.public_url is not https; "
                "set registration: dynamic, or register a client by hand and give its client_id"
            )
        return self.registered(server.issuer, redirect_uri) or await self._register(server, redirect_uri)

    def registered(self, issuer: str, redirect_uri: str) -> OAuthClient | None:
        """The client that was registered there for this redirect URI, if it is still good."""
        try:
            v = jsons.loads_object(self._store.get(_name(issuer, redirect_uri)), "a registered client")
            known = v["issuer"] == issuer and v["redirect"] == redirect_uri
            expires, method = v["secret_expires"], _known_method(v["method"])
            if not known or method is None or (expires and expires < self._clock() + _EXPIRES_SOON_S):
                return None
            return OAuthClient(v["id"], v["secret"], method)
        except (Unknown, Invalid, KeyError, TypeError):
            return None

    def forget(self, issuer: str, redirect_uri: str) -> None:
        """The authorization server no longer knows this client."""
        self._store.remove(_name(issuer, redirect_uri))

    async def _register(self, server: AuthorizationServer, redirect_uri: str) -> OAuthClient:
        """RFC 7591 §3.1."""
        if not server.registration_endpoint:
            raise Unavailable(
                f"{server.issuer} registers no clients by itself; register one by hand with the redirect URI "
                f"{redirect_uri} and give its client_id (and client_secret)"
            )
        asked = metadata(redirect_uri, _method(server, METHODS))
        status, answer = await self._http.post_json(server.registration_endpoint, asked, {}, learned=True)
        if status not in (200, 201):
            said = _text(answer, "error") or f"status {status}"
            raise Unavailable(f"{server.issuer} did not register this node as a client: {said[:100]}; give a client_id")
        client_id, secret = _text(answer, "client_id"), _text(answer, "client_secret")
        method = _known_method(_text(answer, "token_endpoint_auth_method") or asked["token_endpoint_auth_method"])
        if not client_id or method is None or (method != "none" and not secret):
            raise Unavailable(f"{server.issuer} registered this node in a way that it cannot use; give a client_id")
        expires = answer.get("client_secret_expires_at")
        kept = {
            "issuer": server.issuer,
            "redirect": redirect_uri,
            "id": client_id,
            "secret": secret,
            "method": method,
            "secret_expires": expires if isinstance(expires, int) and method != "none" else 0,
        }
        self._store.set(_name(server.issuer, redirect_uri), jsons.dumps(kept).decode())
        return OAuthClient(client_id, secret, method)


def metadata(redirect_uri: str, method: str = "none") -> dict[str, Any]:
    """What this node says of itself as a client (RFC 7591 §2)."""
    return {
        "client_name": CLIENT_NAME,
        "redirect_uris": [redirect_uri],
        "grant_types": ["authorization_code", "refresh_token"],
        "response_types": ["code"],
        "token_endpoint_auth_method": method,
        # OpenID Connect Registration §2: a redirect to the person's own machine is for native clients only.
        "application_type": "native" if is_loopback(urlsplit(redirect_uri).hostname or "") else "web",
    }


def document(url: str, redirect_uri: str) -> dict[str, Any]:
    """The client id metadata document that lies at `url` (draft-ietf-oauth-client-id-metadata-document §4)."""
    return {"client_id": url, **metadata(redirect_uri)}


def _method(server: AuthorizationServer, able: tuple[ClientAuth, ...]) -> ClientAuth:
    return next((method for method in able if method in server.token_auth_methods), able[0])


def _known_method(said: str) -> ClientAuth | None:
    return next((method for method in METHODS if method == said), None)


def _text(answer: dict[str, Any], member: str) -> str:
    value = answer.get(member)
    return value if isinstance(value, str) and len(value) <= TEXT_MAX else ""


def _name(issuer: str, redirect_uri: str) -> str:
    digest = hashlib.sha256(jsons.dumps([issuer, redirect_uri])).hexdigest()
    return f"oauth-client/{digest}"
