"""The figures as a table: what was measured, what came out, what was aimed at, and what others say of themselves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bench.federation.anchors import ANCHORS

ROWS = (
    ("a change at all of {small.change.nodes}, loopback, p50", "{small.change.last_p50_ms} ms", "≤ 6 ms"),
    ("… p99", "{small.change.last_p99_ms} ms", ""),
    ("… a bare stream's round trip beside it", "{small.bare_round_trip_ms} ms", ""),
    ("a change at all of {large.change.nodes}, loopback, p50", "{large.change.last_p50_ms} ms", "≤ 40 ms"),
    ("… p99", "{large.change.last_p99_ms} ms", ""),
    (
        "a change at one of {regions.change.nodes} over the WAN, beyond the delay, p50",
        "{regions.change.beyond_p50_ms} ms",
        "≤ 10 ms",
    ),
    ("… p99", "{regions.change.beyond_p99_ms} ms", ""),
    ("a killed node is suspected, slowest", "{small.killed.suspected_max_ms} ms", "≤ 200 ms"),
    ("… and decided on, slowest", "{small.killed.decided_max_ms} ms", ""),
    ("a frozen node is suspected, slowest", "{small.frozen.suspected_max_ms} ms", "≤ 3500 ms"),
    ("… and decided on, slowest", "{small.frozen.decided_max_ms} ms", ""),
    ("… and, woken, declares others dead", "{small.frozen.woken_declared_dead}", "0"),
    ("a region that is cut off is suspected, slowest", "{regions.cut.suspected_max_ms} ms", "≤ 3500 ms"),
    ("… and decided on, slowest", "{regions.cut.decided_max_ms} ms", ""),
    ("healed, everything known again", "{regions.heal.took_s} s", "≤ 3 s"),
    ("… snapshots", "{regions.heal.snapshots}", "0"),
    ("… received by a node since before the cut", "{regions.heal.received_kb_per_node} kB", ""),
    ("false suspicions, loopback, N = {small.change.nodes}", "{small.false_suspicions}", "0"),
    ("false suspicions, loopback, N = {large.change.nodes}", "{large.false_suspicions}", "0"),
    ("false suspicions, WAN", "{regions.false_suspicions}", "0"),
    ("idle, of a core per peer, {small.idle.peers} peers", "{small.idle.core_percent_per_peer} %", "≤ 0.1 %"),
    ("{records.cold.records} records fetched", "{records.cold.took_s} s", "≤ 20 s"),
    ("… resident memory after it", "{records.cold.rss_after_mb} MB", ""),
    ("… restored from disk after a restart", "{records.restart.restored_s} s", ""),
    ("… and whole again, {records.restart.changed_meanwhile} changes later", "{records.restart.whole_again_s} s", ""),
    ("… for which were received", "{records.restart.received_kb} kB", ""),
    ("{catalogue.tools} tools into the catalogue, CPU of the loop", "{catalogue.apply_s} s", ""),
    ("… and into the index of words, CPU of its thread", "{catalogue.indexed_cpu_s} s", ""),
    ("… one tool changes", "{catalogue.one_tool_changes_ms} ms", ""),
    ("… one server's health changes", "{catalogue.one_server_flaps_ms} ms", ""),
    ("… a search", "{catalogue.search_p50_ms} ms", ""),
)
"""What, figure, aim; names in braces are looked up. A row whose figure was not measured is left out.

Aims of being noticed are held against the suspicion: from then on no call is sent there.
"""


class _Path:
    """`{a.b.c}` in a format string, over nested dictionaries."""

    def __init__(self, value: Any) -> None:
        self._value = value

    def __getattr__(self, name: str) -> _Path:
        return _Path(self._value[name])

    def __format__(self, spec: str) -> str:
        return format(self._value, f",{spec}" if isinstance(self._value, int) else spec)


def table(figures: Mapping[str, Any]) -> str:
    """Markdown, as docs/benchmarks.md has it."""
    parts = {name: _Path(value) for name, value in figures.items()}
    lines = ["| what | figure | aim |", "|---|---|---|"]
    for what, figure, aim in ROWS:
        try:
            lines.append(f"| {what.format(**parts)} | **{figure.format(**parts)}** | {aim} |")
        except KeyError:
            continue
    lines += ["", "Beside it, what others publish or were found to do (not measured here):", ""]
    lines += [f"- {who}: {what} ({whence})" for who, what, whence in ANCHORS]
    return "\n".join(lines)
