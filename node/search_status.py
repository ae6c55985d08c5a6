"""What a search found, as operators are told: of what servers write as much as search itself reads. Pure."""

from __future__ import annotations

from dataclasses import asdict
from typing import cast

from node.operator.ports import SearchAnswer, SearchHit, WhyHit
from router.arguments import Search
from router.documents import DESCRIPTION_MAX
from router.findings import Findings, Placed, signature_of


def search_answer(asked: Search, found: Findings) -> SearchAnswer:
    result = found.result
    return {
        "query": asked.task,
        "mode": result.mode,
        "confidence": result.confidence,
        "took_ms": round(result.took_ms, 3),
        "searched": result.searched,
        "signals": {name: round(value, 3) for name, value in result.signals.items()},
        "hits": [search_hit(placed) for placed in found.usable],
        "unusable": [search_hit(placed) for placed in found.unusable],
        "instead": search_hit(found.instead) if found.instead else None,
    }


def search_hit(placed: Placed) -> SearchHit:
    hit, place = placed
    definition = hit.entry.definition
    shown: SearchHit = {
        "server": place.server,
        "tool": hit.entry.key.tool,
        "kind": hit.entry.key.kind,
        "title": str(definition.get("title") or "")[:DESCRIPTION_MAX],
        "description": str(definition.get("description") or "")[:DESCRIPTION_MAX],
        "signature": signature_of(hit)[:DESCRIPTION_MAX],
        "score": round(hit.score, 4),
        "owner": place.node,
        "region": place.region,
        "health": place.health,
        "replicas": sorted({key.owner for key in (hit.entry.key, *hit.replicas)}),
        "alike": list(place.also),
    }
    if place.why_not:
        shown["why_not"] = place.why_not
    if hit.why is not None:
        shown["why"] = cast(WhyHit, {k: round(v, 3) for k, v in asdict(hit.why).items()})
    return shown
