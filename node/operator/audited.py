"""The shape in which operators are shown how the audit fares."""

from __future__ import annotations

from typing import TypedDict


class AuditStatus(TypedDict):
    """`head` is SEQ:HASH of the last record on the disk, to be remembered elsewhere; `signed_to` the last one that a
    checkpoint covers, by `key_id`. `records` (from `first` on) and `bytes` are in the store. `lost` counts by kind what
    the queue had no room for since the start; `problem` is what fails now, empty if nothing does.
    """

    node: str
    head: str
    signed_to: int
    key_id: str
    first: int
    records: int
    bytes: int
    queued: int
    queued_bytes: int
    lost: dict[str, int]
    last_write_at: str | None
    overflow: str
    problem: str
