"""What a server shows while nobody has agreed yet that this node may sign in there: its own tools nobody can list."""

from __future__ import annotations

from typing import Any

from node.upstreams.spec import UpstreamSpec

SIGN_IN = "sign_in"


def sign_in(spec: UpstreamSpec) -> dict[str, Any]:
    """A tool whose call tells the caller where to connect its account. The server itself never hears of it."""
    name = spec.title or spec.name
    return {
        "name": SIGN_IN,
        "title": f"Sign in to {name}",
        "description": f"Connect your account at {name}. The answer holds the address where you do that, in a browser. "
        "Afterwards list the tools again: those of the server take the place of this one.",
        "inputSchema": {"type": "object", "additionalProperties": False},
        "annotations": {"readOnlyHint": True, "openWorldHint": True},
    }
