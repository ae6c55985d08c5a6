"""What is promised of a server's capabilities."""

from __future__ import annotations

from typing import Any


def relayed(capabilities: dict[str, Any]) -> dict[str, Any]:
    """What of a server's capabilities this gateway carries today; what it cannot carry it does not promise."""
    carried: dict[str, Any] = {}
    for family in ("tools", "prompts", "resources"):
        if family in capabilities:
            carried[family] = {"listChanged": True}
    for plain in ("completions", "experimental"):
        if plain in capabilities:
            carried[plain] = capabilities[plain]
    return carried
