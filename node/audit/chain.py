"""Records as lines that hang together: each holds the hash of the one before it, and its own at the end. Pure.

A line is one JSON object in canonical form (members sorted, no spaces), after which its own hash is written as a last
member: `{…,"prev":"HEX",…,"seq":7,…,"hash":"HEX"}`. Hash = SHA-256(prev, 32 bytes || the object without the hash
member). So a line is checked byte for byte, without reading numbers or texts anew, and by any program that has SHA-256.
"""

from __future__ import annotations

import hashlib
import re
from typing import Any, NamedTuple

from proto import jsons
from proto.errors import Invalid

FORMAT = "toolmesh-audit-1"

CHECKPOINT_RECORDS = 1_000
"""No more records than these come one after the other without a signed checkpoint: part of the format, since whoever
rewrites the end of a log must not be able to say that none was due."""

_TAIL = re.compile(rb',"hash":"([0-9a-f]{64})"\}\Z')
_TAIL_BYTES = len(',"hash":""}') + 64


class Head(NamedTuple):
    """The last record of a chain; `seq` 0: there is none, and `hash` (32 bytes) is what the first one follows."""

    seq: int
    hash: bytes

    def __str__(self) -> str:
        return f"{self.seq}:{self.hash.hex()}"

    @classmethod
    def parse(cls, text: str) -> Head:
        """Of `SEQ:HASH` as it is shown. Raises `Invalid`."""
        found = re.fullmatch(r"([0-9]{1,18}):([0-9a-f]{64})", text)
        if found is None:
            raise Invalid(
                f"{text!r} is not SEQ:HASH, a number and 64 hexadecimal digits as 'toolmesh audit' shows them"
            )
        return cls(int(found[1]), bytes.fromhex(found[2]))


def genesis(mesh: str, node: str) -> Head:
    """What the first record of a node follows: no other node's chain can begin there."""
    return Head(0, hashlib.sha256(f"{FORMAT}\n{mesh}\n{node}".encode()).digest())


def linked(facts: dict[str, Any], head: Head) -> tuple[bytes, Head]:
    """The line (no line break) of a record that follows `head`, and the new head. `facts` gets `seq` and `prev`.

    Raises `Invalid` where `facts` cannot be written as JSON.
    """
    seq = head.seq + 1
    facts["seq"] = seq
    facts["prev"] = head.hash.hex()
    text = jsons.canonical(facts)
    digest = hashlib.sha256(head.hash + text).digest()
    return b'%b,"hash":"%b"}' % (text[:-1], digest.hex().encode()), Head(seq, digest)


class Link(NamedTuple):
    """A line taken apart: `hash` as it stands there, `text` what it is the hash of (after `prev`)."""

    record: dict[str, Any]
    seq: int
    prev: bytes
    hash: bytes
    text: bytes

    @property
    def holds(self) -> bool:
        """Is the hash that of the record?"""
        return hashlib.sha256(self.prev + self.text).digest() == self.hash

    @property
    def head(self) -> Head:
        return Head(self.seq, self.hash)


def unlinked(line: bytes) -> Link:
    """Take a line apart (no line break). Raises `Invalid` saying why it is no record."""
    found = _TAIL.search(line)
    if found is None:
        raise Invalid("it does not end with its hash")
    record = jsons.loads_object(line, "the line")
    seq, prev = record.get("seq"), record.get("prev")
    if isinstance(seq, bool) or not isinstance(seq, int) or seq < 1:
        raise Invalid("it has no number (seq)")
    if not isinstance(prev, str) or not re.fullmatch(r"[0-9a-f]{64}", prev):
        raise Invalid("it does not say what it follows (prev)")
    return Link(record, seq, bytes.fromhex(prev), bytes.fromhex(found[1].decode()), line[:-_TAIL_BYTES] + b"}")
