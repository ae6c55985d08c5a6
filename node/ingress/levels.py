"""How loud a log message is, and whether it is loud enough. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from proto.calls import Notification

LOG_LEVELS: Mapping[str, int] = {
    level: rank
    for rank, level in enumerate(
        ("debug", "info", "notice", "warning", "error", "critical", "alert", "emergency")  # RFC 5424 §6.2.1
    )
}


def loud_enough(notification: Notification, level: str) -> bool:
    """Is this log message at `level` or above? One of an unknown level is let through."""
    params = notification.get("params")
    said = params.get("level") if isinstance(params, dict) else None
    return LOG_LEVELS.get(said, len(LOG_LEVELS)) >= LOG_LEVELS[level] if isinstance(said, str) else True
