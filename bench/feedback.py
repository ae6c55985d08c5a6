"""What feedback from use gives and what it costs: a replay of sets of queries as if half of the tools had been used.

    python -m bench.feedback --data DIR [--sets a,b] [--vectors DIR] [--out FILE]

Of each set (as `toolmesh eval` reads it) half of the tools are *used*, at random by a fixed seed. Half of the queries
are history: those whose right tool is used were searched and then called, by one of a few principals in turn. The other
half is asked then, without feedback and with it: by somebody new, of whom nothing is known (`others`), and by the one
who made all of the history (`own`). The used half should gain; what the rest loses is the price.

Then the flood: one principal (`mallory`) searches with the very queries that are asked and, each time, calls the best
of the wrong tools. Told is how many first hits that changes for somebody else, and what it costs.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from router.evaluation.metrics import ndcg
from router.evaluation.models import make_models
from router.evaluation.sets import Query, QuerySet, name_of, read
from router.feedback import Feedback
from router.ports import ToolEntry
from router.router import Router

PRINCIPALS = 5
SEED = 1
DEPTH = 10
WAYS = ("without", "others", "own")
NEW, OLD, MALLORY = "somebody new", "agent 0", "mallory"


@dataclass(frozen=True, slots=True)
class Replay:
    """`history` and `asked` are halves of a set's queries; `used` names tools."""

    used: frozenset[str]
    history: tuple[Query, ...]
    asked: tuple[Query, ...]

    @classmethod
    def of(cls, queries: Sequence[Query]) -> Replay:
        random = np.random.default_rng(SEED)
        names = sorted({name for q in queries for name in q.relevant})
        used = frozenset(n for n, coin in zip(names, random.random(len(names)), strict=True) if coin < 0.5)
        order = [queries[int(i)] for i in random.permutation(len(queries))]
        half = len(order) // 2
        return cls(used, tuple(order[:half]), tuple(order[half:]))

    def part(self, query: Query) -> str:
        if query.relevant <= self.used:
            return "used"
        return "mixed" if query.relevant & self.used else "unused"


class Asking:
    """One router over a set's tools, whose feedback is taken out and put in between searches."""

    def __init__(self, router: Router, tools: Iterable[ToolEntry]) -> None:
        self._router = router
        self._tools = {name_of(t): t for t in tools}

    async def asked(self, queries: Sequence[Query], principal: str) -> list[list[str]]:
        found = []
        for query in queries:
            result = await self._router.search(query.text, k=DEPTH, principal=principal)
            found.append([name_of(hit.entry) for hit in result.hits])
        return found

    async def used(self, feedback: Feedback, query: Query, names: Iterable[str], principal: str) -> None:
        """The tool was shown and called, wherever it stood in the answer: an agent looks at more than one page."""
        result = await self._router.search(query.text, k=1, principal=principal)
        for tool in filter(None, map(self._tools.get, names)):
            feedback.shown(principal, result.vector, [tool])
            feedback.called(principal, tool, ok=True)


async def replayed(data: QuerySet, router: Router, feedback: Feedback) -> dict[str, Any]:
    replay = Replay.of([q for q in data.queries if q.relevant])
    asking = Asking(router, data.corpus.tools)
    figures: dict[str, Any] = {"queries": len(replay.asked)}
    answers = {"without": await asking.asked(replay.asked, NEW)}
    for name, principals, asker in (("others", PRINCIPALS, NEW), ("own", 1, OLD)):
        feedback.reset()
        number = 0
        for query in replay.history:
            if of_used := sorted(query.relevant & replay.used):
                await asking.used(feedback, query, of_used, f"agent {number % principals}")
                number += 1
        answers[name] = await asking.asked(replay.asked, asker)
        figures[f"entries_{name}"] = feedback.status().own
    figures["parts"] = _parts(replay, answers)
    figures["flood"] = await _flooded(replay, asking, feedback, answers["without"])
    return figures


async def _flooded(
    replay: Replay, asking: Asking, feedback: Feedback, without: Sequence[Sequence[str]]
) -> dict[str, Any]:
    feedback.reset()
    for query, ranked in zip(replay.asked, without, strict=True):
        wrong = [name for name in ranked if name not in query.relevant]
        await asking.used(feedback, query, wrong[:1], MALLORY)
    after = await asking.asked(replay.asked, NEW)
    changed = sum(a[:1] != b[:1] for a, b in zip(after, without, strict=True))
    return {
        "first_hits_changed_percent": round(100 * changed / len(after), 2),
        "ndcg10": round(_mean(replay.asked, after), 2),
        "ndcg10_without": round(_mean(replay.asked, without), 2),
    }


def _parts(replay: Replay, answers: Mapping[str, Sequence[Sequence[str]]]) -> dict[str, Any]:
    parts: dict[str, Any] = {}
    for part in ("used", "mixed", "unused"):
        places = [i for i, q in enumerate(replay.asked) if replay.part(q) == part]
        if places:
            queries = [replay.asked[i] for i in places]
            parts[part] = {"queries": len(places)} | {
                name: {
                    "ndcg10": round(_mean(queries, [ranked[i] for i in places]), 2),
                    "first_right": round(_first(queries, [ranked[i] for i in places]), 2),
                }
                for name, ranked in answers.items()
            }
    return parts


def _mean(queries: Sequence[Query], ranked: Sequence[Sequence[str]]) -> float:
    return 100 * float(np.mean([ndcg(r, q.relevant) for q, r in zip(queries, ranked, strict=True)]))


def _first(queries: Sequence[Query], ranked: Sequence[Sequence[str]]) -> float:
    return 100 * float(np.mean([bool(r) and r[0] in q.relevant for q, r in zip(queries, ranked, strict=True)]))


async def run(args: argparse.Namespace) -> dict[str, Any]:
    models = make_models(args.embedder, Path(args.vectors) if args.vectors else None)
    models.open(plain=False)
    figures = {}
    for data in read(Path(args.data), [s for s in args.sets.split(",") if s]).sets:
        feedback = Feedback()
        router = Router(models.router, models.router_store, feedback=feedback)
        router.apply(data.corpus.tools, ())
        await router.start()
        try:
            await router.settled()
            figures[data.name] = await replayed(data, router, feedback)
        finally:
            await router.stop()
        print(_line(data.name, figures[data.name]), flush=True)
    models.close()
    return figures


def _line(name: str, figures: Mapping[str, Any]) -> str:
    cells = [
        f"{part} ({found['queries']}), without, others, own: nDCG@10 "
        + ", ".join(f"{found[way]['ndcg10']:.1f}" for way in WAYS)
        + "; first right "
        + ", ".join(f"{found[way]['first_right']:.1f}" for way in WAYS)
        for part, found in figures["parts"].items()
    ]
    flood = figures["flood"]
    cells.append(
        f"flood: {flood['first_hits_changed_percent']:.1f} % of first hits, nDCG@10 {flood['ndcg10_without']:.1f} → "
        f"{flood['ndcg10']:.1f}"
    )
    return f"{name}\n  " + "\n  ".join(cells)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="folder of sets")
    parser.add_argument("--sets", default="", help="names of sets, separated by commas; all of them by default")
    parser.add_argument("--embedder", default="minilm")
    parser.add_argument("--vectors", default="", help="folder where vectors are kept between runs")
    parser.add_argument("--out", default="", help="file for the figures as JSON")
    args = parser.parse_args()
    figures = asyncio.run(run(args))
    if args.out:
        Path(args.out).write_text(json.dumps(figures, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
