"""Runs retrievers over sets of queries and measures what they find, how fast, and how honest they are."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeVar

from router.evaluation import metrics
from router.evaluation.baselines import Bm25, Dense, Ranked, ReciprocalRanks, Retriever
from router.evaluation.figures import Honesty, Labels, Measured, Report, SetFigures, mean_honesty, means
from router.evaluation.models import Models
from router.evaluation.routed import Routed
from router.evaluation.sets import Corpus, Query, QuerySet, Reading, name_of
from router.ports import Filter, ToolEntry
from router.router import Router

RETRIEVERS = ("bm25", "dense", "rrf", "router")
PLAIN = ("bm25", "dense", "rrf")
UNANSWERABLE = 200
SETTLED_EVERY_S = 5.0

Say = Callable[[str], None]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Plan:
    """`limit`: how many queries a set at most, evenly spaced, 0 for all. `crowd`: search all tools of all sets at
    once. `unanswerable`: how many queries a set and kind at most are asked to see what cannot be answered."""

    retrievers: tuple[str, ...] = RETRIEVERS
    crowd: bool = False
    limit: int = 0
    unanswerable: int = UNANSWERABLE


async def run(reading: Reading, models: Models, plan: Plan, say: Say = lambda _: None) -> Report:
    """Every set in turn; `say` is told how it goes. Opens and closes the models' stores."""
    began = time.monotonic()
    models.open(plain=not {"dense", "rrf"}.isdisjoint(plan.retrievers))
    try:
        figures = [
            found for sets in _by_corpus(reading.sets) for found in await _corpus(sets, reading.sets, models, plan, say)
        ]
    finally:
        models.close()
    in_order = tuple(sorted(figures, key=lambda f: f.name))
    return Report(
        in_order,
        models.router_id,
        models.plain_id,
        plan.crowd,
        time.monotonic() - began,
        reading.remarks,
        means(in_order),
        mean_honesty(in_order),
    )


def spaced(items: Sequence[T], count: int) -> Sequence[T]:
    """`count` of them at even distances, all where there are no more or `count` is 0."""
    if not count or len(items) <= count:
        return items
    return [items[i * len(items) // count] for i in range(count)]


def _by_corpus(sets: Sequence[QuerySet]) -> list[list[QuerySet]]:
    """One index serves all sets of a corpus."""
    grouped: dict[str, list[QuerySet]] = defaultdict(list)
    for one in sets:
        grouped[one.corpus.name].append(one)
    return list(grouped.values())


async def _corpus(
    sets: Sequence[QuerySet], every: Sequence[QuerySet], models: Models, plan: Plan, say: Say
) -> list[SetFigures]:
    tools = _crowd(every) if plan.crowd else sets[0].corpus.tools
    say(f"{sets[0].corpus.name}: {len(tools)} tools")
    plain = _plain(tools, models, plan, say)
    if "router" not in plan.retrievers:
        return [await _measure(one, tools, plain, None, (), plan, say) for one in sets]
    router = Router(models.router, models.router_store)
    router.apply(tools, ())
    await router.start()
    try:
        await _settled(router, say)
        figures = []
        for one in sets:
            foreign = [] if plan.crowd else _foreign(one.corpus, every, plan.unanswerable)
            figures.append(await _measure(one, tools, plain, Routed(router), foreign, plan, say))
        return figures
    finally:
        await router.stop()


def _crowd(sets: Sequence[QuerySet]) -> tuple[ToolEntry, ...]:
    return tuple({tool.key: tool for one in sets for tool in one.corpus.tools}.values())


def _foreign(corpus: Corpus, every: Sequence[QuerySet], count: int) -> list[Query]:
    others = [q for one in every if one.corpus.name != corpus.name for q in spaced(one.queries, count) if q.relevant]
    return list(spaced(others, count))


def _plain(tools: Sequence[ToolEntry], models: Models, plan: Plan, say: Say) -> dict[str, Retriever]:
    wanted = [name for name in PLAIN if name in plan.retrievers]
    found: dict[str, Retriever] = {}
    if "bm25" in wanted or "rrf" in wanted:
        found["bm25"] = bm25 = Bm25(tools)
    if "dense" in wanted or "rrf" in wanted:

        def progress(done: int, count: int) -> None:
            if done == count or not done % 512:
                say(f"  plain vectors: {done} of {count} computed")

        found["dense"] = dense = Dense(tools, lambda texts: models.plain_vectors(texts, progress), models.plain_query)
    if "rrf" in wanted:
        found["rrf"] = ReciprocalRanks(tools, (bm25, dense))
    return {name: found[name] for name in wanted}


async def _settled(router: Router, say: Say) -> None:
    waiting = asyncio.ensure_future(router.settled())
    while not waiting.done():
        with suppress(TimeoutError):
            await asyncio.wait_for(asyncio.shield(waiting), SETTLED_EVERY_S)
            return
        status = router.status()
        say(f"  embedded {status.embedded} of {status.tools} tools, {status.computed} texts computed")


async def _measure(
    data: QuerySet,
    tools: Sequence[ToolEntry],
    plain: dict[str, Retriever],
    routed: Routed | None,
    foreign: Sequence[Query],
    plan: Plan,
    say: Say,
) -> SetFigures:
    began = time.monotonic()
    asked = spaced([q for q in data.queries if q.relevant], plan.limit)
    retrievers: dict[str, Retriever] = {**plain, "router": routed} if routed else plain
    answers = {name: [await one.rank(q.text) for q in asked] for name, one in retrievers.items()}
    honesty = None
    if routed is not None:
        honesty = await _honesty(data, asked, answers["router"], foreign, routed, plan.unanswerable)
    measured = {name: _measured(asked, ranked) for name, ranked in answers.items() if asked}
    say(f"  {data.name}: {len(asked)} queries in {time.monotonic() - began:.0f} s")
    return SetFigures(data.name, len(asked), len(tools), measured, honesty)


def _measured(asked: Sequence[Query], answers: Sequence[Ranked]) -> Measured:
    times = [a.took_ms for a in answers]
    return Measured(
        metrics.mean(metrics.score(a.names, q.relevant) for q, a in zip(asked, answers, strict=True)),
        metrics.percentile(times, 0.5),
        metrics.percentile(times, 0.95),
        sum(a.tokens for a in answers) / len(answers),
    )


async def _honesty(
    data: QuerySet,
    asked: Sequence[Query],
    answers: Sequence[Ranked],
    foreign: Sequence[Query],
    routed: Routed,
    count: int,
) -> Honesty:
    labels = [a.confidence for a in answers]
    first = [a.confidence for q, a in zip(asked, answers, strict=True) if a.names and a.names[0] in q.relevant]
    taken = []
    for number, query in enumerate(spaced(asked, count)):
        hidden = query.relevant
        without = Filter((data.name, number), lambda e, hidden=hidden: name_of(e) not in hidden)  # type: ignore[misc]
        taken.append(await routed.label(query.text, without))
    declared = [await routed.label(q.text) for q in spaced([q for q in data.queries if not q.relevant], count)]
    return Honesty(
        answerable=Labels.of(labels),
        right_first=Labels.of(first),
        taken_away=Labels.of(taken),
        foreign=Labels.of([await routed.label(q.text) for q in foreign]),
        declared=Labels.of(declared),
    )
