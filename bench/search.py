"""How well tools are found: nDCG@10 and Recall@5 on sets of queries, beside the plain ways, in one run.

    python -m bench.search --data DIR [--out FILE] [--vectors DIR] [--sets a,b] [--crowd]

DIR holds folders with `corpus.jsonl` (`server`, `tool`, `description`, `input_schema`?, `server_description`?) and
`queries.jsonl` (`query`, `relevant`: list of `server/tool`); a set without a corpus uses that of the set whose name
begins its own. Metrics follow trec_eval with binary relevance. `--crowd` searches one index of all corpora at once.
`--vectors` keeps computed vectors in Chroma between runs.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from router.chroma import ChromaStore
from router.documents import description_of
from router.embedders.factory import make_embedder
from router.old_lexical import Lexical
from router.ports import Embedder, Filter, ToolEntry, ToolKey, Vectors
from router.router import QUERY_MAX, Router

DEPTH = 10


@dataclass(frozen=True)
class Query:
    text: str
    relevant: frozenset[str]


@dataclass(frozen=True)
class Dataset:
    name: str
    tools: list[ToolEntry]
    queries: list[Query]


Ranker = Callable[[str], Sequence[str]]


def ndcg(ranked: Sequence[str], relevant: frozenset[str], depth: int = DEPTH) -> float:
    """Binary gains, ideal cut at min(relevant, depth)."""
    gain = sum(1 / math.log2(i + 2) for i, name in enumerate(ranked[:depth]) if name in relevant)
    return gain / sum(1 / math.log2(i + 2) for i in range(min(len(relevant), depth)))


def recall(ranked: Sequence[str], relevant: frozenset[str], depth: int = 5) -> float:
    return len(relevant.intersection(ranked[:depth])) / len(relevant)


def read_sets(data: Path, names: Sequence[str]) -> list[Dataset]:
    found = []
    for folder in sorted(p.parent for p in data.glob("*/queries.jsonl")):
        if names and folder.name not in names:
            continue
        corpora = [p.parent for p in data.glob("*/corpus.jsonl") if folder.name.startswith(p.parent.name)]
        if not corpora:
            raise SystemExit(f"{folder.name} has no corpus.jsonl, and no other set's name begins its own")
        corpus = max(corpora, key=lambda p: len(p.name))
        tools = [_entry(row) for row in _rows(corpus / "corpus.jsonl")]
        queries = [Query(r["query"][:QUERY_MAX], frozenset(r["relevant"])) for r in _rows(folder / "queries.jsonl")]
        found.append(Dataset(folder.name, tools, queries))
    return found


def _rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines() if line.strip()]


def _entry(row: dict[str, Any]) -> ToolEntry:
    definition = {"name": row["tool"], "description": row.get("description"), "inputSchema": row.get("input_schema")}
    description = row.get("server_description") or ""
    return ToolEntry(ToolKey("bench", row["server"], row["tool"]), definition, server_description=description)


def name_of(entry: ToolEntry) -> str:
    return f"{entry.key.server}/{entry.key.tool}"


def plain_bm25(tools: Sequence[ToolEntry]) -> Ranker:
    """One field, "name description": what the fields of BM25F are compared with."""
    lexical = Lexical()
    for slot, tool in enumerate(tools):
        lexical.add(slot, ("", f"{tool.key.tool} {description_of(tool.definition)}", "", "", ""))
    names = [name_of(t) for t in tools]

    def rank(text: str) -> list[str]:
        scores = lexical.scores(lexical.query(text))[: len(names)]
        return [names[i] for i in np.argsort(-scores, kind="stable")[:DEPTH]]

    return rank


def plain_dense(tools: Sequence[ToolEntry], embed: Callable[[Sequence[str]], Vectors]) -> Ranker:
    """Cosine over "name: description"."""
    vectors = embed([f"{t.key.tool}: {description_of(t.definition)}" for t in tools])
    names = [name_of(t) for t in tools]

    def rank(text: str) -> list[str]:
        return [names[i] for i in np.argsort(-(vectors @ embed([text])[0]), kind="stable")[:DEPTH]]

    return rank


class Kept:
    """An embedder whose vectors outlive the run, for the baselines and repeated queries."""

    def __init__(self, embedder: Embedder, store: ChromaStore | None) -> None:
        self._embedder = embedder
        self._store = store

    def __call__(self, texts: Sequence[str]) -> Vectors:
        from router.documents import text_digest

        digests = [text_digest(t) for t in texts]
        known = self._store.get(digests) if self._store else {}
        missing = {d: t for d, t in zip(digests, texts, strict=True) if d not in known}
        if missing:
            vectors = self._embedder.embed(list(missing.values()))
            known.update(zip(missing, vectors, strict=True))
            if self._store:
                self._store.put(list(missing), vectors)
        return np.stack([known[d] for d in digests])


@dataclass
class Row:
    name: str
    queries: int
    scores: dict[str, dict[str, float]]
    search_ms_p50: float
    answerable: list[float]
    unanswerable: list[float]


async def routed(router: Router, text: str, took: list[float]) -> list[str]:
    result = await router.search(text, k=DEPTH)
    took.append(result.took_ms)
    return [name_of(hit.entry) for hit in result.hits]


async def evaluate(data: Dataset, tools: list[ToolEntry], router: Router, embed: Kept) -> Row:
    took: list[float] = []
    rankers = {"bm25": plain_bm25(tools), "dense": plain_dense(tools, embed)}
    each: dict[str, list[tuple[float, float]]] = {"bm25": [], "dense": [], "router": []}
    for query in data.queries:
        for name, rank in rankers.items():
            ranked = rank(query.text)
            each[name].append((ndcg(ranked, query.relevant), recall(ranked, query.relevant)))
        ranked = await routed(router, query.text, took)
        each["router"].append((ndcg(ranked, query.relevant), recall(ranked, query.relevant)))
    confident, lost = await labels(data, router)
    scores = {
        name: {"ndcg10": 100 * float(np.mean(rows, axis=0)[0]), "recall5": 100 * float(np.mean(rows, axis=0)[1])}
        for name, rows in each.items()
    }
    return Row(data.name, len(data.queries), scores, float(np.median(took)), confident, lost)


LEVELS = {"none": 0.0, "low": 1.0, "medium": 2.0, "high": 3.0}


async def labels(data: Dataset, router: Router) -> tuple[list[float], list[float]]:
    """Confidence of answerable queries (the first hit is right) and of the same with the right tools taken away."""
    right, lost = [], []
    for number, query in enumerate(data.queries[:200]):
        result = await router.search(query.text, k=1)
        if result.hits and name_of(result.hits[0].entry) in query.relevant:
            right.append(LEVELS[result.confidence])
        relevant = query.relevant
        without = Filter((data.name, number), lambda e, r=relevant: name_of(e) not in r)
        lost.append(LEVELS[(await router.search(query.text, k=1, only=without)).confidence])
    return right, lost


def share(levels: Sequence[float], at_least: float) -> float:
    return 100 * sum(v >= at_least for v in levels) / max(1, len(levels))


async def run(args: argparse.Namespace) -> dict[str, Any]:
    began = time.perf_counter()
    embedder = make_embedder(args.embedder)
    if embedder is None:
        raise SystemExit("this comparison needs an embedder")
    embedder.load()
    load_s = time.perf_counter() - began
    store = ChromaStore(Path(args.vectors), embedder.model_id) if args.vectors else None
    if store:
        store.open()
    embed = Kept(embedder, store)
    sets = read_sets(Path(args.data), [s for s in args.sets.split(",") if s])
    crowd = list({t.key: t for s in sets for t in s.tools}.values())
    rows = []
    for data in sets:
        tools = crowd if args.crowd else data.tools
        router = Router(embedder, store)
        router.apply(tools, ())
        await router.start()
        await router.settled()
        rows.append(await evaluate(data, tools, router, embed))
        report(rows[-1])
        # The store is shared by all sets: the worker closes it with its router.
        await router.stop()
        if store:
            store.open()
    if store:
        store.close()
    return summary(rows, load_s)


def report(row: Row) -> None:
    cells = "  ".join(f"{n} {s['ndcg10']:5.1f} / {s['recall5']:5.1f}" for n, s in row.scores.items())
    print(f"{row.name:18s} {row.queries:5d} queries  {cells}  search p50 {row.search_ms_p50:.1f} ms", flush=True)


def summary(rows: Sequence[Row], load_s: float) -> dict[str, Any]:
    means = {
        name: {m: float(np.mean([r.scores[name][m] for r in rows])) for m in ("ndcg10", "recall5")}
        for name in rows[0].scores
    }
    right = [v for r in rows for v in r.answerable]
    lost = [v for r in rows for v in r.unanswerable]
    doubts = {
        label: {"right_first": share(right, level), "tool_taken_away": share(lost, level)}
        for label, level in (("high", 3.0), ("medium_or_more", 2.0), ("low_or_more", 1.0))
    }
    rss = psutil.Process().memory_info().rss / 1e6
    print(f"{'mean':18s} " + "  ".join(f"{n} {s['ndcg10']:5.2f} / {s['recall5']:5.2f}" for n, s in means.items()))
    print(f"confidence, % of queries: {json.dumps(doubts)}\nmodel loaded in {load_s:.2f} s, RSS {rss:.0f} MB")
    return {
        "sets": [{"name": r.name, "queries": r.queries, "scores": r.scores, "p50_ms": r.search_ms_p50} for r in rows],
        "mean": means,
        "confidence": doubts,
        "load_s": load_s,
        "rss_mb": rss,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="folder of sets")
    parser.add_argument("--sets", default="", help="names of sets, separated by commas; all of them by default")
    parser.add_argument("--embedder", default="minilm")
    parser.add_argument("--vectors", default="", help="folder where vectors are kept between runs")
    parser.add_argument("--crowd", action="store_true", help="search all corpora at once")
    parser.add_argument("--out", default="", help="file for the figures as JSON")
    args = parser.parse_args()
    logging.basicConfig(level=logging.WARNING)
    figures = asyncio.run(run(args))
    if args.out:
        Path(args.out).write_text(json.dumps(figures, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
