"""The figures as a table: what was measured, what came out, what was aimed at."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

_TWO = "{{f[{0}][p50_ms]}} ms; {{f[{0}][cpu_ms]}} ms"
_BY_SIZE: tuple[tuple[str, str, dict[str, str]], ...] = (
    ("a search among {n} tools, one searcher, p50", "{f[one][p50_ms]} ms", {"100000": "≤ 15 ms"}),
    ("… p95; processor time of one", "{f[one][p95_ms]} ms; {f[one][cpu_ms]} ms", {}),
    ("… of it, encoding the query, p50", "{f[encoding][p50_ms]} ms", {}),
    ("… four searchers at once, p50; processor time of one", _TWO.format("four"), {"100000": "≤ 35 ms"}),
    ("… a task of three steps, p50; processor time", _TWO.format("split"), {"100000": "≤ 50 ms"}),
    ("… of a caller who sees 2 %, by that of one who sees all", "{f[visible][2 %][ratio]}", {"100000": "≤ 2"}),
    ("… 50 %", "{f[visible][50 %][ratio]}", {"100000": "≤ 2"}),
    ("… 98 %", "{f[visible][98 %][ratio]}", {"100000": "≤ 2"}),
    ("… the first search of a new class of callers", "{f[visible][50 %][first_ms]} ms", {}),
    ("… put into the index, vectors stood in for; processor time", "{f[indexed_s]} s; {f[indexed_cpu_s]} s", {}),
    ("… the ten found, of those found when everything is scored", "{f[recall_at_10]}", {"100000": "≥ 0.99"}),
)
_HIDDEN = "{hidden[difference_ms]} ms (two absent ones: {hidden[difference_of_absent_ms]} ms)"
_TOLD = "{hidden[told]} (of two absent ones: {hidden[told_of_absent]})"
_FIRST = "{starting[first][settled_s]} s; {starting[first][settled_cpu_s]} s"
_ONCE = (
    ("a search that names a hidden tool takes longer than for one that nowhere exists, p50", _HIDDEN, "0 ms"),
    ("… which of two searches is the one for what is hidden, guessed by the clock", _TOLD, "0.5"),
    ("texts embedded a second", "{indexing[texts_per_s]}", ""),
    ("… by sentence-transformers in the same run", "{indexing[reference_per_s]}", ""),
    ("… ratio; by processor time", "{indexing[ratio]}; {indexing[ratio_cpu]}", "≥ 1"),
    ("a new tool is found by its words, p50", "{freshness[words][p50_ms]} ms", "≤ 100 ms"),
    ("… by its meaning, p50", "{freshness[meaning][p50_ms]} ms", "≤ 1000 ms"),
    ("{starting[tools]:,} tools, started again: searchable", "{starting[second][searchable_s]} s", "≤ 10 s"),
    ("… texts embedded again", "{starting[second][computed]}", "0"),
    ("… processor time of that", "{starting[second][searchable_cpu_s]} s", ""),
    ("… first start, vectors stood in for; processor time", _FIRST, ""),
    ("… resident 15 s after settling, first start", "{starting[first][rss_mb]} MB", "≤ 1200 MB"),
    ("… second start", "{starting[second][rss_mb]} MB", "≤ 1200 MB"),
    ("… of it before anything was indexed", "{starting[second][rss_of_tools_mb]} MB", ""),
    ("… at most, first start; second", "{starting[first][peak_mb]} MB; {starting[second][peak_mb]} MB", ""),
    ("… on disk: vectors, snapshot", "{starting[disk_mb]} MB", "≤ 2000 MB"),
    ("tokens of an answer of five hits, mean", "{answers[of_five_hits][mean]}", "≤ 600"),
    ("tokens of the meta-tools' definitions", "{answers[definitions]}", "≤ 500"),
)


_KINDS = {
    "taken_away": "their right tools hidden",
    "foreign": "of sets with other tools",
    "declared": "declared unanswerable",
    "answerable": "answerable",
    "right_first": "answerable, and the first hit was right",
}


def table(figures: Mapping[str, Any]) -> str:
    """Markdown, as docs/benchmarks.md has it. A row that was not measured is left out."""
    return "\n".join(["| what | figure | aim |", "|---|---|---|", *_rows(figures)])


def _rows(figures: Mapping[str, Any]) -> Iterator[str]:
    for count, found in figures.get("latency", {}).items():
        for what, figure, aims in _BY_SIZE:
            try:
                yield f"| {what.format(n=f'{int(count):,}')} | {figure.format(f=found)} | {aims.get(count, '')} |"
            except (KeyError, ValueError):
                continue
    for what, figure, aim in _ONCE:
        try:
            yield f"| {what.format(**figures)} | {figure.format(**figures)} | {aim} |"
        except (KeyError, TypeError):
            continue


def quality_table(figures: Mapping[str, Any], crowd: Mapping[str, Any] | None = None) -> str:
    """nDCG@10 / Recall@5 by set and retriever, the best in bold; the mean over sets, and that of the crowd, last."""
    names = list(figures["mean"])
    lines = [f"| set | queries | {' | '.join(names)} |", "|---" * (len(names) + 2) + "|"]
    for one in figures["sets"]:
        lines.append(f"| {one['name']} | {one['queries']} | {_cells(one['retrievers'])} |")
    lines.append(f"| mean | | {_cells(figures['mean'])} |")
    if crowd:
        lines.append(f"| mean, in a crowd of {crowd['sets'][0]['tools']:,} | | {_cells(crowd['mean'])} |")
    return "\n".join(lines)


def honesty_table(figures: Mapping[str, Any]) -> str:
    """Shares of queries by label, of each kind of query; the mean over the sets."""
    lines = ["| queries | asked | *none* | *none* or *low* |", "|---|---|---|---|"]
    for name, words in _KINDS.items():
        if found := figures["honesty"][name]:
            lines.append(f"| {words} | {found['count']} | {100 * found['none']:.1f} | {100 * found['doubted']:.1f} |")
    return "\n".join(lines)


def _cells(retrievers: Mapping[str, Any]) -> str:
    best = max(r["scores"]["ndcg_10"] for r in retrievers.values())
    cells = []
    for measured in retrievers.values():
        scores = measured["scores"]
        text = f"{100 * scores['ndcg_10']:.1f} / {100 * scores['recall_5']:.1f}"
        cells.append(f"**{text}**" if scores["ndcg_10"] == best else text)
    return " | ".join(cells)
