"""The figures of an evaluation as a table in plain text: what `toolmesh eval` prints."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from router.evaluation.figures import Honesty, Labels, Measured, Report

_COLUMNS = ("R@1", "R@5", "R@10", "nDCG@10", "MRR", "complete@10", "p50 ms", "p95 ms", "tokens")
_UNANSWERABLE = (
    ("right tools taken away", "taken_away"),
    ("asked of foreign tools", "foreign"),
    ("declared unanswerable", "declared"),
    ("answerable", "answerable"),
    ("first hit right", "right_first"),
)


def text(report: Report) -> str:
    """Percentages but for times (milliseconds) and tokens; the mean over sets last."""
    width = max(len(s.name) for s in report.sets) + 2
    lines = [f"{'set':{width}}{'queries':>8}{'tools':>8}  {'retriever':10}" + _cells(_COLUMNS)]
    for one in report.sets:
        lines += _block(f"{one.name:{width}}{one.queries:8d}{one.tools:8d}", one.retrievers)
    count = sum(s.queries for s in report.sets)
    if len(report.sets) > 1:
        lines += ["", *_block(f"{'mean':{width}}{count:8d}{'':8}", report.mean)]
    if report.honesty:
        lines += ["", *_honest(report.honesty)]
    return "\n".join([*lines, "", *_about(report)])


def _block(head: str, retrievers: Mapping[str, Measured]) -> Iterator[str]:
    for name, measured in retrievers.items():
        yield f"{head}  {name:10}{_cells(_values(measured))}"
        head = " " * len(head)


def _values(measured: Measured) -> tuple[str, ...]:
    s = measured.scores
    shares = (s.recall_1, s.recall_5, s.recall_10, s.ndcg_10, s.mrr, s.complete_10)
    times = (f"{measured.p50_ms:.1f}", f"{measured.p95_ms:.1f}")
    return (*(f"{100 * share:.1f}" for share in shares), *times, f"{measured.tokens:.0f}" if measured.tokens else "")


def _cells(cells: tuple[str, ...]) -> str:
    return "".join(f"{cell:>{max(8, len(name) + 2)}}" for cell, name in zip(cells, _COLUMNS, strict=True)).rstrip()


def _honest(honesty: Honesty) -> Iterator[str]:
    """What cannot be answered should be labelled so; what can, should not."""
    yield f"{'the router labels, % of queries':34}{'asked':>8}{'none':>8}{'low or none':>14}"
    for words, name in _UNANSWERABLE:
        labels: Labels | None = getattr(honesty, name)
        if labels:
            yield f"{words:34}{labels.count:8d}{100 * labels.none:8.1f}{100 * labels.doubted:14.1f}"


def _about(report: Report) -> Iterator[str]:
    if "router" in report.mean:
        yield f"router: {report.embedder or 'words alone'}"
    if "dense" in report.mean or "rrf" in report.mean:
        yield f'plain: {report.plain_embedder} over "name: description"; rrf joins it with bm25, k = 60'
    yield f"{'all tools of all sets searched at once; ' if report.crowd else ''}took {report.took_s:.0f} s"
    yield from (f"note: {remark}" for remark in report.remarks)
