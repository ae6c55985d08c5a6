"""Agreeing on a revision with a server, by `initialize` (MCP 2025-11-25, lifecycle) or as a modern one."""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib import metadata
from typing import Any

from node.upstreams.channel import Channel
from proto.errors import Unavailable

OFFERED_VERSION = "2025-11-25"
HANDSHAKE_VERSIONS = ("2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25")
"""Equal to `mcp_types.version.HANDSHAKE_PROTOCOL_VERSIONS`, which takes long to import; a test compares them."""


def client_info() -> dict[str, str]:
    """Who we say that we are."""
    try:
        version = metadata.version("toolmesh")
    except metadata.PackageNotFoundError:
        version = "0"
    return {"name": "toolmesh", "version": version}


@dataclass(frozen=True, slots=True)
class Agreement:
    """What a server said about itself. `probe` is the method that asks whether it is alive."""

    protocol_version: str
    server_info: dict[str, Any] = field(default_factory=dict)
    capabilities: dict[str, Any] = field(default_factory=dict)
    instructions: str = ""
    probe: str = "ping"


class Declined(Unavailable):
    """The server answered `initialize`, or `server/discover`, with an error, or as no revision does that has it: it may
    be of the other era."""


async def shake_hands(channel: Channel, capabilities: dict[str, Any]) -> Agreement:
    """`initialize`, with what the client can do, then `notifications/initialized`.

    Raises `Declined` for an error as answer, and for one without a revision that begins so.
    """
    answer = await channel.request(
        "initialize",
        {"protocolVersion": OFFERED_VERSION, "capabilities": capabilities, "clientInfo": client_info()},
    )
    if "error" in answer:
        raise Declined(f"server {channel.name!r} declined 'initialize': {say_error(answer['error'])}")
    result = answer["result"] if isinstance(answer["result"], dict) else {}
    version = result.get("protocolVersion")
    if version not in HANDSHAKE_VERSIONS:
        raise Declined(
            f"server {channel.name!r} wants protocol revision {version!r}; "
            f"supported are {', '.join(HANDSHAKE_VERSIONS)}"
        )
    await channel.wire.agreed(version)
    await channel.notify("notifications/initialized")
    return agreement(version, result.get("serverInfo"), result, "ping")


def agreement(version: str, server_info: Any, result: dict[str, Any], probe: str) -> Agreement:
    """From what was said; members of the wrong type count as not said."""
    capabilities, instructions = result.get("capabilities"), result.get("instructions")
    return Agreement(
        protocol_version=version,
        server_info=server_info if isinstance(server_info, dict) else {},
        capabilities=capabilities if isinstance(capabilities, dict) else {},
        instructions=instructions if isinstance(instructions, str) else "",
        probe=probe,
    )


def say_error(error: Any) -> str:
    """A JSON-RPC error in words, bounded."""
    if not isinstance(error, dict):
        return str(error)[:200]
    return f"{str(error.get('message', ''))[:200]} (code {error.get('code')})"
