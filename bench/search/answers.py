"""What search costs the agent that reads it: the tokens of a default answer, and of the meta-tools' definitions."""

from __future__ import annotations

from typing import Any

from bench.search import made
from bench.search.rig import Size, embedder, filled
from proto import jsons
from router.evaluation.metrics import percentile
from router.evaluation.routed import Routed
from router.evaluation.tokens import counter
from router.metatools import META_TOOLS

SHOWN_TO_MODELS = ("name", "description", "inputSchema")


async def answers(size: Size) -> dict[str, Any]:
    """WordPieces: strict, for what large models read is counted in fewer."""
    count = counter()
    shown = [{name: tool[name] for name in SHOWN_TO_MODELS} for tool in META_TOOLS]
    async with filled(embedder(size), made.tools(size.tools[0])) as router:
        routed = Routed(router)
        tokens = [(await routed.rank(query)).tokens for query in made.queries(size.searches)]
    return {
        "definitions": sum(count(jsons.dumps(tool).decode()) for tool in shown),
        "of_five_hits": {"mean": round(sum(tokens) / len(tokens)), "p95": percentile(tokens, 0.95)},
    }
