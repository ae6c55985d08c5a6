"""The router as a retriever that is measured like the others."""

from __future__ import annotations

from dataclasses import replace
from itertools import chain

from router.evaluation.baselines import Ranked
from router.evaluation.metrics import DEPTH
from router.evaluation.sets import name_of
from router.evaluation.tokens import counter, text_of
from router.findings import Findings, Place, Placed
from router.ports import EVERYTHING, Filter, Hit, SearchResult, ToolKey
from router.rendering import render_search
from router.router import Router

SHOWN = 5
"""How many hits an answer has by default; its tokens are counted."""


class Routed:
    """Asks one query at a time, as an idle node is asked."""

    def __init__(self, router: Router) -> None:
        self._router = router
        self._count = counter()

    async def rank(self, text: str) -> Ranked:
        """A hit's near-identical tools stand where an agent reads them: after it, each in a place of its own."""
        result = await self._router.search(text, k=DEPTH)
        names = dict.fromkeys(chain.from_iterable(_names(hit) for hit in result.hits))
        return Ranked(tuple(names)[:DEPTH], result.took_ms, result.confidence, self._tokens(result))

    async def label(self, text: str, only: Filter = EVERYTHING) -> str:
        """How sure the router says it is, of the tools that `only` lets through."""
        return (await self._router.search(text, k=SHOWN, only=only)).confidence

    def _tokens(self, result: SearchResult) -> int:
        hits = result.hits[:SHOWN]
        told = Findings(replace(result, hits=hits), [Placed(hit, _place(hit)) for hit in hits])
        return self._count(text_of(render_search(told)))


def _names(hit: Hit) -> list[str]:
    return [name_of(hit.entry), *(_name(key) for key in hit.alike)]


def _name(key: ToolKey) -> str:
    return f"{key.server}/{key.tool}"


def _place(hit: Hit) -> Place:
    also = tuple(key.server for key in hit.alike)
    return Place(hit.entry.key.server, region="eu", node="eu-1", also=also)
