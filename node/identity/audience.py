"""Which audiences a token may name to be meant for this node, and what this node is called (RFC 8707, RFC 9728)."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from node.identity.claims import bare

MCP_PATH = "/mcp"


class Audience:
    """`public_url` is `http.public_url`, empty where none is configured: then only configured audiences count."""

    def __init__(self, public_url: str) -> None:
        self._url = bare(public_url)
        self._always = frozenset({self._url, self._url + MCP_PATH} if self._url else ())

    def __repr__(self) -> str:
        return f"Audience({self._url or 'as configured'})"

    def takes(self, audiences: Collection[str], configured: Sequence[str], path: str) -> bool:
        """Does one of a token's `audiences` mean this node, or what stands at `path`?

        `configured` are the issuer's own, which replace those that follow from the URL.
        """
        if configured:
            return any(bare(audience) in audiences for audience in configured)
        if not self._url:
            return False
        return not self._always.isdisjoint(audiences) or bare(self._url + path) in audiences
