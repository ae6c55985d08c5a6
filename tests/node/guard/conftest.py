from __future__ import annotations

import hashlib

import pytest

from node.guard.keys import ApiKey

MESH = "test.mesh"


def digest(key: str) -> bytes:
    return hashlib.sha256(key.encode()).digest()


@pytest.fixture
def keys() -> list[ApiKey]:
    """all: every server; some: time and whatever is on eu-1; none: nothing."""
    return [
        ApiKey("all", digest("key-of-all"), "acme", ("ops",), ("operator",)),
        ApiKey("some", digest("key-of-some"), servers=("time", "*--eu-1")),
        ApiKey("none", digest("key-of-none"), servers=()),
    ]
