"""Weights of the confidence label, from sets of queries with known answers.

    python -m bench.calibrate --data DIR [--vectors DIR] [--plain] [--words] [--queries 60] [--signals a,b]

Each query is asked five ways: as it is; with its right tools taken away; of a foreign collection; and among a few
tools, with and without the right ones, so that small nodes are not called empty. A logistic regression says whether the
first hit is right, every set weighed alike; figures are of each set under weights fitted to the others. `--plain` is
without the adapter, `--words` without any model. DIR is as for `toolmesh eval`.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from router.backlog import Stage
from router.confidence import Signals
from router.dense import SENTENCES, Part
from router.documents import document, text_digest
from router.evaluation.models import make_models
from router.evaluation.running import spaced
from router.evaluation.sets import Corpus, Query, QuerySet, read
from router.evaluation.vectors import Kept
from router.index import Embedded, Index
from router.masks import View
from router.ports import EVERYTHING, Filter, ToolEntry, ToolKey
from router.queries import question
from router.retrieval import Task, search

FEW = (3, 8, 30)
SIGNALS = ("cosine", "lead", "outlying", "agreement", "few")
BY_WORDS = ("coverage", "asked")
RIDGE = 0.003
STEPS = 30
FEW_WITH = "among few"
KINDS = ("asked", "taken away", "foreign", FEW_WITH, "few, without")

Array = NDArray[np.float64]


class Case(NamedTuple):
    family: str
    kind: str
    signals: Signals
    right: bool


class Collection:
    """One corpus, indexed with all its vectors."""

    def __init__(self, corpus: Corpus, embed: Kept | None) -> None:
        self.name = corpus.name
        self.tools = corpus.tools
        self._embed = embed
        self._index = Index()
        for tool in corpus.tools:
            self._index.put(tool)
        if embed is not None:
            self._fill(embed)

    def _fill(self, embed: Kept) -> None:
        _, waiting = self._index.waiting(len(self.tools))
        for each in waiting:
            doc = document(each.entry)
            texts = {
                Part.NAMED: doc.named,
                Part.PLACED: doc.placed,
                **dict(zip(SENTENCES, doc.sentences, strict=False)),
            }
            vectors = embed([*texts.values(), *([doc.server] if doc.server else [])])
            server = (text_digest(doc.server), vectors[-1]) if doc.server else None
            parts = dict(zip(texts, vectors, strict=False))
            self._index.embedded([Embedded(each.row, each.key, Stage.ALL, parts, server)])

    def ask(self, query: str, only: Filter = EVERYTHING) -> tuple[Signals, ToolKey] | None:
        """What is known of the best hit, and which it is; None where nothing is found."""
        asked = question(query, (), 1)
        vectors = self._embed(asked.meanings) if self._embed else None
        found = search(self._index, [Task(asked.texts, asked.names, query, 1, vectors)], self._view(only))[0]
        if not found.hits or found.signals is None:
            return None
        return found.signals, found.hits[0].entry.key

    def _view(self, only: Filter) -> View:
        while True:
            view = self._index.masks.view(only, self._index.slots)
            if view is not None:
                return view


def name_of(key: ToolKey) -> str:
    return f"{key.server}/{key.tool}"


def cases(one: QuerySet, home: Collection, foreign: Sequence[Query], count: int) -> Iterator[Case]:
    chance = random.Random(one.name)
    ways = [(k, q, only) for q in spaced(one.queries, count) if q.relevant for k, only in _ways(q, home.tools, chance)]
    ways += [("foreign", query, EVERYTHING) for query in foreign]
    for kind, query, only in ways:
        answer = home.ask(query.text, only)
        if answer is not None:
            right = kind != "foreign" and name_of(answer[1]) in query.relevant
            yield Case(one.corpus.name, kind, answer[0], right)


def _ways(query: Query, tools: Sequence[ToolEntry], chance: random.Random) -> Iterator[tuple[str, Filter]]:
    yield "asked", EVERYTHING
    relevant = query.relevant
    yield "taken away", Filter(("without", query.text), lambda e: name_of(e.key) not in relevant)
    few = frozenset(name_of(e.key) for e in chance.sample(list(tools), min(len(tools), chance.choice(FEW))))
    yield FEW_WITH, Filter(("few", query.text), lambda e: name_of(e.key) in few | relevant)
    yield "few, without", Filter(("other", query.text), lambda e: name_of(e.key) in few - relevant)


def table(found: Sequence[Case], names: Sequence[str]) -> tuple[Array, Array, Array]:
    """(signals with a constant, whether right, weights that make every family and kind count alike)."""
    x = np.array([[1.0, *(float(getattr(c.signals, n) or 0.0) for n in names)] for c in found])
    y = np.array([c.right for c in found], dtype=float)
    groups = [(c.family, c.kind) for c in found]
    sizes = {g: groups.count(g) for g in set(groups)}
    weights = np.array([1 / sizes[g] for g in groups])
    return x, y, weights / weights.sum()


def fit(x: Array, y: Array, weights: Array) -> Array:
    """Logistic regression by Newton's method, a little held towards zero."""
    scale = np.maximum(x.std(axis=0), 1e-6)
    scale[0] = 1.0
    x = x / scale
    beta = np.zeros(x.shape[1])
    hold = np.full(x.shape[1], RIDGE)
    hold[0] = 0.0
    for _ in range(STEPS):
        p = 1 / (1 + np.exp(-x @ beta))
        slope = x.T @ (weights * (p - y)) + hold * beta
        curve = (x * (weights * p * (1 - p))[:, None]).T @ x + np.diag(hold)
        beta -= np.linalg.solve(curve, slope)
    return np.asarray(beta / scale)


def area(scores: Array, right: Array) -> float:
    """Of a right and a wrong answer, how often the right one is thought likelier."""
    good, bad = scores[right > 0], scores[right == 0]
    if not len(good) or not len(bad):
        return float("nan")
    higher = np.searchsorted(np.sort(bad), good, "left") + np.searchsorted(np.sort(bad), good, "right")
    return float(higher.mean() / 2 / len(bad))


def left_out(found: Sequence[Case], names: Sequence[str]) -> Array:
    """Each case's likelihood under weights fitted to the other corpora."""
    x, _, _ = table(found, names)
    likely = np.zeros(len(found))
    for family in {c.family for c in found}:
        others = [c for c in found if c.family != family]
        beta = fit(*table(others, names))
        mine = np.array([c.family == family for c in found])
        likely[mine] = 1 / (1 + np.exp(-x[mine] @ beta))
    return likely


def report(found: Sequence[Case], names: Sequence[str], levels: tuple[float, float, float]) -> None:
    x, y, weights = table(found, names)
    beta = fit(x, y, weights)
    likely = left_out(found, names)
    families = sorted({c.family for c in found})
    family, kind = np.array([c.family for c in found]), np.array([c.kind for c in found])
    print("weights", {n: round(float(b), 3) for n, b in zip(("constant", *names), beta, strict=True)})
    areas = {f: area(likely[family == f], y[family == f]) for f in families}
    print("area", f"{np.nanmean(list(areas.values())):.3f}", {f: round(a, 3) for f, a in areas.items()})
    rows = [("first hit right", y > 0), ("right, among few", (y > 0) & (kind == FEW_WITH))]
    for name, chosen in (*rows, *((k, (kind == k) & (y == 0)) for k in KINDS)):
        groups = [likely[chosen & (family == f)] for f in families]
        shares = [[float((g >= level).mean()) for level in levels] for g in groups if len(g)]
        cells = "  ".join(f"{100 * s:5.1f} %" for s in np.mean(shares, axis=0)) if shares else "-"
        print(f"{name:18s} {int(chosen.sum()):5d}  at least high, medium, low: {cells}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, type=Path)
    parser.add_argument("--vectors", type=Path, help="folder where vectors are kept between runs")
    parser.add_argument("--plain", action="store_true", help="without the adapter")
    parser.add_argument("--words", action="store_true", help="without a model")
    parser.add_argument("--queries", type=int, default=60, help="of each set")
    parser.add_argument("--sets", default="", help="names of sets, separated by commas; all of them by default")
    parser.add_argument("--signals", default="", help="of confidence.Signals, separated by commas")
    parser.add_argument("--levels", default="0.5,0.25,0.08", help="high, medium, low")
    args = parser.parse_args()
    names = args.signals.split(",") if args.signals else BY_WORDS if args.words else SIGNALS
    high, medium, low = map(float, args.levels.split(","))
    report(collect(args), names, (high, medium, low))


def collect(args: argparse.Namespace) -> list[Case]:
    sets = read(args.data, [s for s in args.sets.split(",") if s]).sets
    embed = None
    if not args.words:
        models = make_models(directory=args.vectors, adapter=not args.plain)
        models.open(plain=False)
        if models.router is not None and models.router_store is not None:
            embed = Kept(models.router, models.router_store)
    found: list[Case] = []
    homes: dict[str, Collection] = {}
    for one in sets:
        home = homes.get(one.corpus.name) or Collection(one.corpus, embed)
        homes[one.corpus.name] = home
        others = [q for s in sets if s.corpus.name != one.corpus.name for q in spaced(s.queries, args.queries // 4)]
        found += cases(one, home, spaced(others, args.queries), args.queries)
        print(f"{one.name}: {len(found)} cases so far", flush=True)
    if not args.words:
        models.close()
    return found


if __name__ == "__main__":
    main()
