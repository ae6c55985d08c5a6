"""What a node announces to OAuth clients (RFC 9728): which authorization servers' tokens it takes, and for what.

Where no issuer is configured it announces nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

from aiohttp import web

from node.settings.auth import AuthSection
from proto import jsons

PATH = "/.well-known/oauth-protected-resource"
_CHALLENGE = "WWW-Authenticate"
# What agents and operators dial; the name of a server is not looked up, so that nothing is learned of it.
_RESOURCES = re.compile(
    r"(?:|/(?:v1/)?mcp(?:-all)?|/(?:sse|ws)(?:-all)?|/(?:(?:v1/)?mcp|sse|ws)/[A-Za-z0-9_.~%-]{1,120}"
    r"|/metrics|/api/[A-Za-z0-9_.~%/-]{1,200})/?"
)
MAX_AGE_S = 300


class WellKnown:
    """`base` is the URL of this node as its clients dial it, without a slash at its end."""

    def __init__(self, auth: AuthSection, base: Callable[[], str]) -> None:
        self._issuers = tuple(issuer.issuer for issuer in auth.issuers)
        required = [scope for issuer in auth.issuers for scope in issuer.required_scopes]
        self._required = tuple(dict.fromkeys(required))
        self._scopes = tuple(dict.fromkeys([*required, *auth.scopes]))
        self._base = base

    def __repr__(self) -> str:
        return f"WellKnown({', '.join(self._issuers) or 'nothing'})"

    def routes(self) -> Sequence[web.RouteDef]:
        if not self._issuers:
            return []
        return [web.get(PATH, self._answer), web.get(PATH + "{path:/.*}", self._answer)]

    def document(self, path: str) -> dict[str, Any]:
        """The metadata of the resource at `path` (RFC 9728 §2)."""
        document: dict[str, Any] = {
            "resource": self._base() + path,
            "authorization_servers": list(self._issuers),
            "bearer_methods_supported": ["header"],
            "resource_name": "toolmesh",
        }
        if self._scopes:
            document["scopes_supported"] = list(self._scopes)
        return document

    async def complete(self, request: web.BaseRequest, response: web.StreamResponse) -> None:
        """Every challenge of every route names the metadata (RFC 9728 §5.1) and, without a token, what scopes to ask
        for. To be called as a response is prepared."""
        if response.status not in (401, 403) or not self._issuers:
            return
        challenge = response.headers.get(_CHALLENGE, "")
        if not challenge.startswith("Bearer") or "resource_metadata" in challenge:
            return
        path = request.rel_url.raw_path
        parts = [challenge.removeprefix("Bearer").strip()]
        if response.status == 401 and self._required and "scope=" not in challenge:
            parts.append(f'scope="{" ".join(self._required)}"')
        known = path if _RESOURCES.fullmatch(path) else ""
        parts.append(f'resource_metadata="{self._base()}{PATH}{known}"')
        response.headers[_CHALLENGE] = f"Bearer {', '.join(filter(None, parts))}"

    async def _answer(self, request: web.Request) -> web.Response:
        path = request.rel_url.raw_path.removeprefix(PATH)
        if not _RESOURCES.fullmatch(path):
            return web.Response(status=404)
        headers = {"Cache-Control": f"public, max-age={MAX_AGE_S}"}
        return web.Response(body=jsons.dumps(self.document(path)), content_type="application/json", headers=headers)
