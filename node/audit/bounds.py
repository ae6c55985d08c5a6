"""How much the audit keeps, where, and what happens when it cannot keep up: its settings, as its parts read them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from node.audit.entries import Bodies


@dataclass(frozen=True, slots=True)
class JsonlFiles:
    directory: Path
    rotate_bytes: int
    keep: int


@dataclass(frozen=True, slots=True)
class AuditSettings:
    """`queue_records` and `queue_bytes` bound what waits: entries and rows together, and the bytes of the rows."""

    overflow: Literal["mark", "refuse"] = "mark"
    queue_records: int = 10_000
    queue_bytes: int = 64 * 1024 * 1024
    keep_ms: int = 90 * 86_400_000
    keep_bytes: int = 1024 * 1024 * 1024
    bodies: Bodies | None = None
    jsonl: JsonlFiles | None = None

    @property
    def reserve(self) -> int:
        return self.queue_records // 4
