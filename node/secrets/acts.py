"""What operators did to a store of secrets by hand: left in its file for the node, which puts it on record."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from node.secrets.sealed import Cipher
from proto import jsons
from proto.errors import Invalid

ACTS_MAX = 10_000
_NAME = "#act"
"""Under which acts are sealed; no secret can be called so."""


@dataclass(frozen=True, slots=True)
class Act:
    """`verb` is set, remove or rotate, `name` the secret's (empty: all of them), `by` a user of the machine as it names
    them, `at_ms` unix time there."""

    number: int
    verb: str
    name: str
    by: str
    at_ms: int


def sealed_act(cipher: Cipher, act: Act) -> bytes:
    return cipher.seal(_NAME, act.number, jsons.dumps(asdict(act)).decode())


def opened_act(cipher: Cipher, number: int, sealed: bytes) -> Act | None:
    """None for what was written, changed or moved without the key."""
    text = cipher.open(_NAME, number, sealed)
    if text is None:
        return None
    try:
        return Act(**jsons.loads_object(text.encode(), "an act"))
    except (Invalid, TypeError):
        return None
