"""What is recorded, for how long, and what happens when records cannot be written: `audit`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import AfterValidator, Field

from node.audit.masking import parse_path
from node.settings.values import FilePath, Section
from proto.errors import Invalid

if TYPE_CHECKING:
    from node.config import NodeConfig


def _rule(value: str) -> str:
    if value.startswith("$"):
        try:
            parse_path(value)
        except Invalid as e:
            raise ValueError(e.message) from None
    return value


class JsonlSection(Section):
    """Records as JSON lines in files, beside the store: on if `directory` is given. `rotate_mb` is the size at which
    the next file begins, `keep` how many files stay."""

    directory: FilePath | None = None
    rotate_mb: int = Field(default=64, ge=1, le=10_240)
    keep: int = Field(default=16, ge=2, le=10_000)


class AuditSection(Section):
    """`overflow`: when the queue is full, `mark` (drop, count, and say so in the log) or `refuse` calls.

    `bodies`: keep params and answers too, masked, `body_characters` of each; `mask` adds names (globs) and paths (`$.…`
    from `{"params", "answer"}`) to those that are always masked.
    """

    enabled: bool = True
    overflow: Literal["mark", "refuse"] = "mark"
    queue_records: int = Field(default=10_000, ge=100, le=1_000_000)
    queue_bytes: int = Field(default=64 * 1024 * 1024, ge=1024 * 1024, le=4 * 1024 * 1024 * 1024)
    keep_days: float = Field(default=90, gt=0, le=36_500)
    keep_bytes: int = Field(default=1024 * 1024 * 1024, ge=1024 * 1024, le=1024 * 1024 * 1024 * 1024)
    bodies: bool = False
    body_characters: int = Field(default=4_096, ge=64, le=1024 * 1024)
    mask: tuple[Annotated[str, Field(min_length=1, max_length=200), AfterValidator(_rule)], ...] = Field(
        default=(), max_length=1_000
    )
    jsonl: JsonlSection = JsonlSection()


def audit_rules(config: NodeConfig) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """Every rule that `audit` breaks, as in `node.settings.rules`."""
    audit = config.audit
    if not audit.enabled:
        given = sorted(audit.model_fields_set - {"enabled"})
        if given:
            yield ("audit", "enabled"), f"is false, so {', '.join(given)} would have no effect; remove one or the other"
        return
    if not audit.bodies and (given := sorted(audit.model_fields_set & {"mask", "body_characters"})):
        yield ("audit", "bodies"), f"is false, so {', '.join(given)} would have no effect: no bodies are kept"
    if audit.jsonl.directory is None and (given := sorted(audit.jsonl.model_fields_set - {"directory"})):
        yield (
            ("audit", "jsonl", "directory"),
            f"is missing, so {', '.join(given)} would have no effect; name the directory or remove it",
        )
