"""What an upstream offers at this moment, and how it fares."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from node.upstreams.spec import UpstreamSpec

State = Literal["starting", "up", "down"]


@dataclass(frozen=True, slots=True)
class Health:
    """`since_ms` is Unix time in milliseconds; `cause` says why it is not up; `restarts` counts attempts after the
    first."""

    state: State
    since_ms: int
    cause: str = ""
    restarts: int = 0


@dataclass(frozen=True, slots=True)
class Offer:
    """Raw MCP objects as the server sent them, unknown fields included. While it is down the last lists stay."""

    spec: UpstreamSpec
    health: Health
    server_info: dict[str, Any] = field(default_factory=dict)
    capabilities: dict[str, Any] = field(default_factory=dict)
    modern_capabilities: dict[str, Any] = field(default_factory=dict)
    """What a server of both eras says of itself in 2026-07-28, once that is known; `capabilities` are the older."""
    instructions: str = ""
    protocol_version: str = ""
    tools: tuple[dict[str, Any], ...] = ()
    prompts: tuple[dict[str, Any], ...] = ()
    resources: tuple[dict[str, Any], ...] = ()
    templates: tuple[dict[str, Any], ...] = ()

    def __repr__(self) -> str:
        return (
            f"Offer({self.spec.name} {self.health.state} {self.protocol_version or '-'} {len(self.tools)} tools "
            f"{len(self.prompts)} prompts {len(self.resources)} resources {len(self.templates)} templates)"
        )
