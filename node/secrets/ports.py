"""A store of named secrets: what the operator sets, and what this node keeps for its users (OAuth grants)."""

from __future__ import annotations

import re
from typing import Protocol

from proto.errors import Invalid

NAME_CHARS_MAX = 200
VALUE_BYTES_MAX = 64 * 1024
SECRETS_MAX = 100_000

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@/-]*")


class SecretStore(Protocol):
    """Values by name, text each. Calls take milliseconds: not for the path of a tool call.

    At most `SECRETS_MAX` secrets of `VALUE_BYTES_MAX` bytes of UTF-8 each. Every method raises `Unavailable` where the
    store cannot be used, and `Invalid` for a name that none can have.
    """

    def get(self, name: str) -> str:
        """Raises `Unknown` where nothing has this name, `Unavailable` where its value was tampered with."""

    def set(self, name: str, value: str) -> None:
        """Put or replace, durable when this returns. Raises `Invalid` for a value that is too long, `Exhausted`."""

    def remove(self, name: str) -> bool:
        """Whether it was there."""

    def names(self, prefix: str = "") -> list[str]:
        """In alphabetical order."""

    def close(self) -> None: ...


def checked_name(name: str) -> str:
    """Raises `Invalid` with the mend."""
    if len(name) > NAME_CHARS_MAX or not _NAME.fullmatch(name):
        raise Invalid(
            f"{name[:NAME_CHARS_MAX]!r} cannot name a secret: a letter or digit, then up to {NAME_CHARS_MAX - 1} "
            "letters, digits or any of . _ @ / -"
        )
    return name


def checked_value(name: str, value: str) -> str:
    """Raises `Invalid`, without the value."""
    if not value:
        raise Invalid(f"secret {name!r} would be empty; 'toolmesh secrets remove' takes one away")
    if len(value.encode()) > VALUE_BYTES_MAX:
        raise Invalid(f"secret {name!r} is larger than {VALUE_BYTES_MAX} bytes; a secret is one short text")
    return value
