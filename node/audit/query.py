"""What somebody asks the audit for: which records, in which order, how many. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from proto.errors import Invalid

if TYPE_CHECKING:
    from node.audit.rows import Row

LIMIT_MAX = 1_000
LIMIT = 100
TEXT_MAX = 512
KINDS = ("call", "decision", "signin", "admin", "peer", "system")
USUAL = {"who": "", "server": "", "tenant": "", "call_id": "", "outcome": "ok", "kind": "call"}
"""What most records have in a column: rows with it are not in the index on that column."""

_UNITS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 7 * 86_400}


@dataclass(frozen=True, slots=True)
class Query:
    """Empty and 0 mean any. Times are unix ms, `until_ms` exclusive. `before` and `after` are numbers of records: only
    those below, or above."""

    who: str = ""
    server: str = ""
    tool: str = ""
    outcome: str = ""
    kind: str = ""
    call_id: str = ""
    tenant: str = ""
    since_ms: int = 0
    until_ms: int = 0
    before: int = 0
    after: int = 0
    oldest_first: bool = False
    limit: int = LIMIT

    def sql(self, start: int, end: int) -> tuple[str, list[Any]]:
        """The condition and its values; `start` and `end` (exclusive) are the records that the times stand for."""
        where: list[str] = ["seq >= ?"]
        given: list[Any] = [max(start, self.after + 1)]
        upper = [n for n in (end, self.before) if n]
        if upper:
            where.append("seq < ?")
            given.append(min(upper))
        for column, value in self._columns():
            usual = USUAL.get(column)
            # In the words of the partial index on the column, or SQLite would not use it.
            where.append(f"{column} = ?" + f" AND {column} <> '{usual}'" * (usual not in (None, value)))
            given.append(value)
        return " AND ".join(where), given

    def _columns(self) -> list[tuple[str, str]]:
        named = (
            ("who", self.who),
            ("server", self.server),
            ("tool", self.tool),
            ("outcome", self.outcome),
            ("kind", self.kind),
            ("call_id", self.call_id),
            ("tenant", self.tenant),
        )
        return [(column, value) for column, value in named if value]

    def matches(self, row: Row) -> bool:
        return (
            row.seq > self.after
            and (not self.before or row.seq < self.before)
            and row.at_ms >= self.since_ms
            and (not self.until_ms or row.at_ms < self.until_ms)
            and all(getattr(row, column) == value for column, value in self._columns())
        )

    def asked(self) -> dict[str, str]:
        """As parameters; `query_of` reads them back."""
        texts = dict(self._columns())
        numbers = {"since": self.since_ms, "until": self.until_ms, "before": self.before, "after": self.after}
        texts |= {key: str(value) for key, value in numbers.items() if value}
        return {**texts, "limit": str(self.limit), "order": "oldest" if self.oldest_first else "newest"}


def query_of(asked: Mapping[str, str], now_ms: int) -> Query:
    """From parameters. Times are unix ms, RFC 3339, or an age such as `90s`, `15m`, `2h`, `7d`. Raises `Invalid` naming
    the parameter."""
    texts = {name: asked.get(name, "") for name in ("who", "server", "tool", "outcome", "kind", "call_id", "tenant")}
    for name, text in texts.items():
        if len(text) > TEXT_MAX:
            raise Invalid(f"parameter {name!r} is longer than {TEXT_MAX} characters; shorten it")
    if texts["kind"] and texts["kind"] not in KINDS:
        raise Invalid(f"parameter 'kind' is {texts['kind']!r}; give one of {', '.join(KINDS)}")
    order = asked.get("order", "newest")
    if order not in ("newest", "oldest"):
        raise Invalid(f"parameter 'order' is {order!r}; give newest or oldest")
    return Query(
        **texts,
        since_ms=time_of("since", asked.get("since", ""), now_ms),
        until_ms=time_of("until", asked.get("until", ""), now_ms),
        before=_number("before", asked.get("before", "0"), 0, 2**62),
        after=_number("after", asked.get("after", "0"), 0, 2**62),
        oldest_first=order == "oldest",
        limit=_number("limit", asked.get("limit", str(LIMIT)), 1, LIMIT_MAX),
    )


def time_of(what: str, text: str, now_ms: int) -> int:
    """Unix ms; 0 for no text. Raises `Invalid`."""
    if not text:
        return 0
    if text.isascii() and text.isdigit() and len(text) <= 15:
        return int(text)
    try:
        if text[-1] in _UNITS and text[:-1].isascii() and text[:-1].isdigit():
            return max(1, now_ms - int(timedelta(seconds=int(text[:-1]) * _UNITS[text[-1]]).total_seconds() * 1000))
        at = datetime.fromisoformat(text)
        return max(1, int((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() * 1000))
    except (ValueError, OverflowError):
        mend = "write 2026-01-31T12:00:00Z, 2026-01-31, or an age such as 15m, 2h or 7d"
        raise Invalid(f"parameter {what!r} is {text[:40]!r}, which is no time; {mend}") from None


def _number(what: str, text: str, least: int, most: int) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 19 or not least <= int(text) <= most:
        raise Invalid(f"parameter {what!r} must be a whole number from {least} to {most}")
    return int(text)
