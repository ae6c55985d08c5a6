"""Whether a caller can tell by the clock that there is a tool that he may not see.

He asks for tools by name: for those that are there and hidden from him, and for others that nowhere exist.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Any

from bench.search import made
from bench.search.rig import Size, embedder, filled, spread, timed, warm
from proto import jsons
from router.evaluation.metrics import percentile
from router.ports import Filter, ToolEntry, ToolKey
from router.router import Router

TOOLS = 10_000
SERVER = "airships"
ABSENT, AGAIN, HIDDEN = "absent", "absent_again", "hidden"


async def hidden(size: Size) -> dict[str, Any]:
    """Milliseconds by what was asked for, and `told`: how often the slower of two searches is the one for what is
    hidden (0.5: a coin would do as well), beside the same of two searches for what is absent, which is noise.

    Each round asks one search of each kind, in an order by chance.
    """
    rng = Random(1)
    names = list(dict.fromkeys(_name(rng) for _ in range(4 * size.pairs)))[: 3 * size.pairs]
    asked = {kind: names[i::3] for i, kind in enumerate((HIDDEN, ABSENT, AGAIN))}
    count = min(TOOLS, size.tools[-1])
    tools = [*made.tools(count), *map(_tool, asked[HIDDEN])]
    guest = Filter("guest", lambda entry: entry.key.server != SERVER)
    times: dict[str, list[float]] = {kind: [] for kind in asked}
    async with filled(embedder(size), tools) as router:
        await _known(router, asked[HIDDEN][0])
        await timed(router, made.queries(20, seed=99), guest)
        await warm(router)
        for each in range(len(asked[AGAIN])):
            for kind in rng.sample(list(asked), len(asked)):
                times[kind] += await timed(router, [f"moor the airship {asked[kind][each]} at its mast"], guest)
    return {
        "tools": len(tools),
        "searches": len(times[HIDDEN]),
        **{kind: spread(taken) for kind, taken in times.items()},
        "difference_ms": round(percentile(times[HIDDEN], 0.5) - percentile(times[ABSENT], 0.5), 3),
        "difference_of_absent_ms": round(percentile(times[AGAIN], 0.5) - percentile(times[ABSENT], 0.5), 3),
        "told": told(times[HIDDEN], times[ABSENT]),
        "told_of_absent": told(times[AGAIN], times[ABSENT]),
    }


def _name(rng: Random) -> str:
    return "_".join(made.maker(rng).lower() for _ in range(2))


def _tool(name: str) -> ToolEntry:
    definition = {"name": name, "description": f"Moors the airship {name} at its mast. Needs calm air."}
    return ToolEntry(ToolKey("bench-1", SERVER, name), definition, jsons.digest(definition))


async def _known(router: Router, name: str) -> None:
    """Who may see it finds it: it is there."""
    hits = (await router.search(name, k=1)).hits
    assert hits[0].entry.key.tool == name, hits


def told(some: Sequence[float], others: Sequence[float]) -> float:
    """The share of pairs in which `some` took longer, an equal time counted as half: the area under the curve."""
    longer = sum((a > b) + (a == b) / 2 for a in some for b in others)
    return round(longer / (len(some) * len(others)), 3)
