"""Answers of the meta-tools: a text that costs an agent few tokens, and the same as structured content."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple, TypeVar

from proto import jsons
from router import budget
from router.documents import description_of, first_sentence
from router.findings import Findings, Placed, address, name_of, schema_of, signature_of
from router.ports import Hit
from router.signatures import PARAMETERS_SHOWN, one_line, signature, slim

TOKENS_DEFAULT = 600
HITS_BUDGETED = 5
SCHEMAS_COST = 4
ADDED_SHOWN = 100
UNUSABLE_SHOWN = 3
ALSO_SHOWN = 2
REASON_MAX = 120

_RUN = "use_tool(mcp_server_name, mcp_tool_name, params)"
HEADS = {
    "high": f"Confidence high. Run it with {_RUN}:",
    "medium": f"Confidence medium: check that the first does what you need. Run it with {_RUN}:",
    "low": f"Confidence low: these may not fit; search again in other words, or run one with {_RUN}:",
    "none": "Nothing seems to fit. Search again in other words or do without; the nearest, in case one does:",
}
NOTHING_AT_ALL = "Nothing fits, and nothing is near. Search again in other words."
SCHEMA_BYTES_MAX = 16_000
"""Of one that is shown; a longer one says no more to a model."""
SLIMMED_MAX = 4
LINE_MAX = 800
"""Characters of one hit's line: what a server writes of itself takes no more room than that."""
LINE_TOKENS = 40
"""Of a line where the whole would be too long, so that no hit drives out the others."""
NAME_SHARE = 3
"""A name takes at most a third of an answer. A longer one cannot be told: cut, it would name nothing."""

T = TypeVar("T")


class _Fit(NamedTuple):
    """How much is told: so many `hits`, of so many the schema, descriptions and parameters so long, lines of so many
    tokens. `lost` says what was left out."""

    hits: int
    schemas: int
    sentence: int
    parameters: int
    lost: str = ""
    line: int = LINE_MAX


def render_search(found: Findings, *, detail: str = "signatures", token_budget: int = TOKENS_DEFAULT) -> dict[str, Any]:
    """An MCP tool result. Text and structured content are each cut to `token_budget` tokens for every five hits, four
    times as many with schemas: first schemas go, then words, then hits, which one line says."""
    room = token_budget * max(1.0, len(found.usable) / HITS_BUDGETED) * (SCHEMAS_COST if detail == "schemas" else 1)
    found, lost = _tellable(found, room / NAME_SHARE)
    fits = list(_fits(len(found.usable), detail, lost))
    schemas = [_schema(p.hit) for p in found.usable] if detail == "schemas" else []
    text = _first_within(room, fits, lambda fit: _text(found, detail, fit, schemas), str)
    structured = _first_within(
        room, fits, lambda fit: _structured(found, detail, fit, schemas), lambda s: jsons.dumps(s).decode("utf-8")
    )
    return _result(text, structured)


def render_added(
    server_name: str, tools: Sequence[dict[str, Any]], *, token_budget: int = TOKENS_DEFAULT
) -> dict[str, Any]:
    """What a server offers, at most 100 tools of it, as an MCP tool result. A list that is asked for may cost four
    times what a search may; beyond that descriptions are left out, then tools."""
    shown = tools[:ADDED_SHOWN]
    room = token_budget * SCHEMAS_COST
    fits = [_Fit(len(shown), 0, 160, PARAMETERS_SHOWN), _Fit(len(shown), 0, 60, 4), _Fit(len(shown), 0, 0, 2)]
    fits += [_Fit(n, 0, 0, 2) for n in range(len(shown) - 1, -1, -1)]

    def text(fit: _Fit) -> str:
        if not tools:
            return f"Server {server_name} is ready but offers no tools."
        lines = [f"Server {server_name} is ready with {len(tools)} tool{'' if len(tools) == 1 else 's'}:"]
        lines += [_described(signature(tool, fit.parameters), tool, fit) for tool in shown[: fit.hits]]
        if len(tools) > fit.hits:
            lines.append(f"… and {len(tools) - fit.hits} more; find them with search_mcp_server")
        return "\n".join(lines)

    def structured(fit: _Fit) -> dict[str, Any]:
        listed = [
            {
                "mcp_tool_name": str(tool.get("name", "")),
                "signature": signature(tool, fit.parameters),
                **_sentence(tool, fit),
            }
            for tool in shown[: fit.hits]
        ]
        return {"mcp_server_name": server_name, "total": len(tools), "tools": listed}

    return _result(
        _first_within(room, fits, text, str),
        _first_within(room, fits, structured, lambda s: jsons.dumps(s).decode("utf-8")),
    )


# ---- how much is told ----------------------------------------------------------------------------


def _tellable(found: Findings, tokens_max: float) -> tuple[Findings, str]:
    """Without what has a name, or an address, of more tokens; and what is to be said of that."""

    def told(placed: Placed) -> bool:
        return budget.fits(placed.hit.entry.key.tool, tokens_max)

    usable, unusable = [p for p in found.usable if told(p)], [p for p in found.unusable if told(p)]
    instead = found.instead if found.instead is not None and told(found.instead) else None
    nameless = len(found.usable) - len(usable)
    lost = f"{nameless} left out: too long a name to be shown" if nameless else ""
    return replace(found, usable=usable, unusable=unusable, instead=instead), lost


def _fits(hits: int, detail: str, lost: str) -> Iterator[_Fit]:
    """From all that was asked for to the least that is worth saying. `lost`: what is left out of all of them."""

    def also(more: str) -> str:
        return ", ".join(filter(None, (lost, more)))

    if detail == "schemas":
        for schemas in range(hits, 0, -1):
            left = f"{hits - schemas} of {hits} schemas left out" if schemas < hits else ""
            yield _Fit(hits, schemas, 160, PARAMETERS_SHOWN, also(left))
    without = "schemas left out" if detail == "schemas" else ""
    shortened = ", ".join(filter(None, (without, "lines shortened")))
    yield _Fit(hits, 0, 160, PARAMETERS_SHOWN, also(without))
    yield _Fit(hits, 0, 80, 6, also(shortened))
    yield _Fit(hits, 0, 40, 3, also(shortened), LINE_TOKENS)
    for fewer in range(hits - 1, -1, -1):
        left = f"{hits - fewer} of {hits} left out; ask for names, or for fewer"
        yield _Fit(fewer, 0, 40, 3, also(left), LINE_TOKENS)


def _first_within(room: float, fits: Sequence[_Fit], make: Callable[[_Fit], T], written: Callable[[T], str]) -> T:
    """What is made for the first of `fits`, each of which tells less than the one before, that costs no more."""

    first = make(fits[0])
    if budget.fits(written(first), room):
        return first
    found = bisect_left(fits, True, lo=1, hi=len(fits) - 1, key=lambda fit: budget.fits(written(make(fit)), room))
    return make(fits[found])


# ---- the parts -----------------------------------------------------------------------------------


def _text(found: Findings, detail: str, fit: _Fit, schemas: Sequence[str]) -> str:
    lines = [HEADS[found.result.confidence] if found.usable else NOTHING_AT_ALL]
    for i, placed in enumerate(found.usable[: fit.hits]):
        lines.append(_line(placed, detail, fit))
        if i < fit.schemas and schemas[i]:
            lines.append(f"  {schemas[i]}")
    if fit.lost:
        lines.append(f"({fit.lost})")
    if (instead := found.instead) is not None:
        what = "prompt" if instead.hit.entry.key.kind == "prompt" else "resource"
        lines.append(f"A {what} seems to fit, though (search with kind {what!r} for more):")
        lines.append(_line(instead, "signatures", fit))
    if found.unusable:
        named = [
            f"{p.place.server} · {_short(name_of(p.hit))} ({_short(p.place.why_not)})"
            for p in found.unusable[:UNUSABLE_SHOWN]
        ]
        more = len(found.unusable) - UNUSABLE_SHOWN
        lines.append(f"Near too, but not usable now: {'; '.join(named)}{f'; and {more} more' if more > 0 else ''}")
    return "\n".join(lines)


def _line(placed: Placed, detail: str, fit: _Fit) -> str:
    hit, place = placed
    facts = [f"{hit.score:.2f}", "/".join(filter(None, (place.region, place.node)))]
    if place.replicas > 1:
        facts.append(f"{place.replicas} replicas")
    if place.health != "up":
        facts.append(place.health)
    if place.read_only:
        facts.append("read-only")
    if place.also:
        facts.append(f"nearly the same at {', '.join(place.also[:ALSO_SHOWN])}")
    told = (
        name_of(hit) if detail == "names" else _described(signature_of(hit, fit.parameters), hit.entry.definition, fit)
    )
    return f"- {place.server} · {budget.cut(_short(told, LINE_MAX), fit.line)} [{', '.join(filter(None, facts))}]"


def _described(line: str, definition: dict[str, Any], fit: _Fit) -> str:
    sentence = first_sentence(description_of(definition), fit.sentence) if fit.sentence else ""
    return f"{line}: {sentence}" if sentence else line


def _sentence(definition: dict[str, Any], fit: _Fit) -> dict[str, str]:
    sentence = first_sentence(description_of(definition), fit.sentence) if fit.sentence else ""
    return {"description": sentence} if sentence else {}


def _structured(found: Findings, detail: str, fit: _Fit, schemas: Sequence[str]) -> dict[str, Any]:
    told: dict[str, Any] = {
        "confidence": found.result.confidence,
        "mode": found.result.mode,
        "tookMs": round(found.result.took_ms, 2),
        "tools": [
            _member(placed, detail, fit, schema=i < fit.schemas and bool(schemas[i]))
            for i, placed in enumerate(found.usable[: fit.hits])
        ],
    }
    if fit.lost:
        told["leftOut"] = fit.lost
    if found.instead is not None:
        told["instead"] = _member(found.instead, "signatures", fit, schema=False)
    if found.unusable:
        told["unusable"] = [{**address(p), "reason": _short(p.place.why_not)} for p in found.unusable[:UNUSABLE_SHOWN]]
    return told


def _member(placed: Placed, detail: str, fit: _Fit, *, schema: bool) -> dict[str, Any]:
    hit, place = placed
    shown: dict[str, Any] = address(placed)
    if detail != "names":
        shown["signature"] = budget.cut(_short(signature_of(hit, fit.parameters), LINE_MAX), fit.line)
        shown |= _sentence(hit.entry.definition, fit)
    shown["score"] = round(hit.score, 3)
    shown |= {key: value for key, value in (("region", place.region), ("node", place.node)) if value}
    shown["health"] = place.health
    if place.replicas > 1:
        shown["replicas"] = place.replicas
    if place.read_only:
        shown["readOnly"] = True
    if place.also:
        shown["alike"] = list(place.also[:ALSO_SHOWN])
    if schema:
        shown["inputSchema"] = schema_of(hit)
    return shown


def _schema(hit: Hit) -> str:
    """Its text, as far as a model needs it; empty where there is none, or one that is too long."""
    schema = schema_of(hit)
    # What is left out of it is a part; of a very large one it is not worth looking for.
    if schema is None or len(jsons.dumps(schema)) > SLIMMED_MAX * SCHEMA_BYTES_MAX:
        return ""
    written = jsons.dumps(slim(schema))
    return written.decode("utf-8") if len(written) <= SCHEMA_BYTES_MAX else ""


def _short(text: str, most: int = REASON_MAX) -> str:
    line = one_line(text)
    return line if len(line) <= most else f"{line[: most - 1]}…"


def _result(text: str, structured: dict[str, Any]) -> dict[str, Any]:
    return {"content": [{"type": "text", "text": text}], "structuredContent": structured, "isError": False}
