"""Which documents are called what: tools that a query names outright."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from router import rank
from router.slots import discard


class Names:
    """Rows by their tool's name without case and separators."""

    def __init__(self) -> None:
        self._rows: dict[str, set[int]] = {}

    def add(self, name: str, row: int) -> None:
        self._rows.setdefault(rank.squash(name), set()).add(row)

    def remove(self, name: str, row: int) -> None:
        discard(self._rows, rank.squash(name), row)

    def named(self, texts: Sequence[str]) -> Iterator[tuple[int, float]]:
        """(row, bonus) for each time a text names one; a row may come several times, the first bonus counts."""
        for name, bonus in (pair for text in texts for pair in rank.identifiers(text)):
            for row in self._rows.get(name, ()):
                yield row, bonus
