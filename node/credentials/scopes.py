"""Which scopes to ask for (MCP 2025-11-25, scope selection strategy). Pure."""

from __future__ import annotations

from node.credentials.challenge import SCOPES_MAX, Challenge
from node.credentials.discovery import Discovered

OFFLINE = "offline_access"
"""What gives a refresh token, where the authorization server knows it (MCP 2026-07-28)."""


def chosen_scopes(
    configured: tuple[str, ...],
    challenge: Challenge | None,
    found: Discovered | None,
    more: tuple[str, ...] = (),
    *,
    offline: bool = False,
) -> tuple[str, ...]:
    """The configured ones; else those that the server's challenge names; else all that it says there are; else none.

    `more`: those that calls were refused for before, kept beside what is asked for now. `offline`: a refresh token is
    wanted.
    """
    if configured:
        first = configured
    elif challenge is not None and challenge.scopes:
        first = challenge.scopes
    else:
        first = (found.scopes if found else None) or ()
    known = found.server.scopes_supported if found else ()
    extra = (OFFLINE,) if offline and OFFLINE in known else ()
    return tuple(dict.fromkeys((*first, *more, *extra)))[:SCOPES_MAX]
