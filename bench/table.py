"""The figures as a table: what was measured, what came out, what was aimed at."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_CELLS = [
    (f"CPU of a `tools/call`, {words}, {tools} listed, {n} at once", f"{era}-{tools}-{n}")
    for era, words in (("legacy", "in a session"), ("modern", "2026-07-28"))
    for tools in (1, 1000)
    for n in (1, 16, 64)
]
ROWS = (
    *(
        (
            what,
            f"{{hot_path[{cell}][node_cpu_us]}} µs",
            f"{{hot_path[{cell}][bare_cpu_us]}} µs",
            f"{{hot_path[{cell}][cpu_ratio]}}; throughput {{hot_path[{cell}][throughput_ratio]}}",
            "≤ 1.5; ≥ 0.65",
        )
        for what, cell in _CELLS
    ),
    (
        "CPU of the doors for one request",
        "{doors[guarded_us]} µs",
        "{doors[bare_us]} µs",
        "added {doors[door_us]} µs",
        "≤ 15 µs",
    ),
    ("… of three limits with a lease, one call", "{doors[limits_us]} µs", "", "", "≤ 30 µs"),
    (
        "CPU of a call under guard: cached JWT, 200 policies, limits, audit",
        "{guard[guarded_us]} µs",
        "{guard[open_us]} µs",
        "added {guard[added_us]} µs; with a key {guard[added_with_key_us]} µs; and a policy on arguments "
        "{guard[added_by_arguments_us]} µs, {guard[added_by_known_arguments_us]} µs where they come again",
        "≤ 150 µs",
    ),
    ("10,000 tools listed under 200 policies, the first time", "{guard[list_first_ms]} ms", "", "", "≤ 1 s"),
    ("… under policies that name tools", "{guard[list_naming_first_ms]} ms", "", "", "≤ 1 s"),
    ("… once the class is known", "{guard[list_known_ms]} ms", "", "", "≤ 50 ms"),
    (
        "a forwarded call, p50",
        "{forwarding[forwarded_p50_ms]} ms",
        "{forwarding[owner_p50_ms]} ms",
        "added {forwarding[added_p50_ms]} ms",
        "≤ 0.6 ms",
    ),
    (
        "a call to a server over pipes, the SDK's client on `toolmesh stdio`",
        "{pipes[sdk_by_pipes_p50_ms]} ms",
        "{pipes[sdk_direct_p50_ms]} ms",
        "{pipes[sdk_by_pipes_ratio]}",
        "≤ 2",
    ),
    (
        "… the SDK's client on HTTP",
        "{pipes[sdk_by_http_p50_ms]} ms",
        "{pipes[sdk_direct_p50_ms]} ms",
        "{pipes[sdk_by_http_ratio]}",
        "",
    ),
    (
        "… a bare client",
        "{pipes[bare_through_p50_ms]} ms",
        "{pipes[bare_direct_p50_ms]} ms",
        "added {pipes[bare_added_ms]} ms",
        "",
    ),
    (
        "memory with {idle[sessions]} idle sessions, a stream each",
        "{idle[rss_mb]} MB",
        "{idle[rss_before_mb]} MB",
        "{idle[kb_per_session]} kB each",
        "≤ 300 MB",
    ),
    ("start to serving, one node alone", "{starting[start_to_serving_s]} s", "", "", "≤ 3 s"),
    ("memory with the model", "{memory[rss_mb_with_model]} MB", "", "", "≤ 250 MB"),
)
"""What, figure, what stood beside it in the same run, their ratio, aim. A row that was not measured is left out."""


def table(figures: Mapping[str, Any]) -> str:
    """Markdown, as docs/benchmarks.md has it."""
    lines = ["| what | figure | beside it | ratio | aim |", "|---|---|---|---|---|"]
    for row in ROWS:
        try:
            lines.append(f"| {' | '.join(cell.format(**figures) for cell in row)} |")
        except KeyError:
            continue
    return "\n".join(lines)
