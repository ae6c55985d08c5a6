"""The cells of the matrix: who is asked, what stands behind it, and in which revision."""

from __future__ import annotations

from dataclasses import dataclass

from tests.conformance.suite import LEGACY, MODERN, REVISIONS, Run, not_required, required


@dataclass(frozen=True)
class Cell:
    """`place`: `direct` (the fixture itself), `one` node, `two` nodes, or `client` (our upstream client is tested).

    `server` is the era of the server behind; a client is tested against the suite's own.
    """

    place: str
    server: str
    revision: str

    def __str__(self) -> str:
        return f"{self.place}/{self.server}/{self.revision}"

    @property
    def leg(self) -> str:
        return "client" if self.place == "client" else "server"

    @property
    def required(self) -> frozenset[str] | None:
        return required(self.leg, self.revision)

    @property
    def not_required(self) -> dict[str, str]:
        return not_required(self.leg, self.revision)


@dataclass
class Outcome:
    cell: Cell
    run: Run
    excused: dict[str, str]
    """Scenario and check of each failing one in the baseline, with the reason there."""

    @property
    def unexcused(self) -> list[str]:
        return [
            f"{check.scenario}:{check.id}"
            for check in self.run.checks
            if check.failed and f"{check.scenario}:{check.id}" not in self.excused
        ]


LANES = [
    [Cell("direct", "both", revision) for revision in REVISIONS],
    [Cell(place, "both", revision) for place in ("one", "two") for revision in REVISIONS],
    # Bridged: a server of one era, asked in the other.
    [Cell(place, "modern", revision) for place in ("one", "two") for revision in REVISIONS if revision != MODERN],
    [Cell(place, "legacy", MODERN) for place in ("one", "two")],
]
"""Cells of one lane are run one after the other, since they ask one server; lanes run beside each other."""

CLIENTS = [Cell("client", "suite", revision) for revision in (LEGACY, MODERN)]
