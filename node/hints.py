"""Which servers are believed when they say that a tool only reads. Annotations are a server's own word: by default
nobody's counts (MCP: clients must not decide by hints of servers that they do not trust)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from node.catalog import Server
from node.guard.keys import ServerGlobs


class Hints:
    """`believed` are globs over server names, bare or qualified (`NAME--NODE`); `on`: agents are offered the twin of
    `use_tool` that runs nothing else."""

    def __init__(self, believed: Sequence[str] = (), *, on: bool = False) -> None:
        self.on = on
        self._globs = ServerGlobs.of(believed)

    def __repr__(self) -> str:
        return f"Hints({'on' if self.on else 'off'}, {len(self._globs.globs)} globs)"

    def believes(self, servers: Sequence[Server]) -> bool:
        """All of them: any may be the one that runs a call."""
        return bool(servers) and all(self._globs.allows(server.resource()) for server in servers)

    def reads_only(self, servers: Sequence[Server], definition: dict[str, Any]) -> bool:
        """Whether this tool, at these servers, may be run by a caller who agreed to reading only."""
        if not self.on:
            return False
        annotations = definition.get("annotations")
        said = isinstance(annotations, dict) and annotations.get("readOnlyHint") is True
        return said and self.believes(servers)
