"""What a tool, prompt or resource takes, in one line. Pure and total: any JSON object gives a line."""

from __future__ import annotations

from itertools import chain, islice
from typing import Any

from proto import jsons

PARAMETERS_SHOWN = 12
CHOICES_SHOWN = 5
TYPE_LENGTH_MAX = 60
TYPE_DEPTH_MAX = 3
_MAPS = frozenset({"properties", "patternProperties", "$defs", "definitions", "dependentSchemas"})


def signature(definition: dict[str, Any], parameters: int = PARAMETERS_SHOWN) -> str:
    """`get_current_time(timezone: string, verbose?: boolean)`: required parameters first, at most so many."""
    schema = definition.get("inputSchema")
    properties = schema.get("properties") if isinstance(schema, dict) else None
    if not isinstance(properties, dict):
        properties = {}
    listed = schema.get("required") if isinstance(schema, dict) else None
    required = {r for r in listed if isinstance(r, str)} if isinstance(listed, list) else set()
    # A hostile schema has a hundred thousand: no more of them are looked at than are shown.
    first = islice((name for name in properties if name in required), parameters)
    then = (name for name in properties if name not in required)
    parts = [
        f"{name}{'' if name in required else '?'}: {_type(properties[name])}"
        for name in islice(chain(first, then), parameters)
    ]
    if len(properties) > parameters:
        parts.append("…")
    return one_line(f"{definition.get('name', '')}({', '.join(parts)})")


def prompt_signature(definition: dict[str, Any], parameters: int = PARAMETERS_SHOWN) -> str:
    """`prompts/get(name: "review", arguments: {page, depth?})`: as `use_tool` gets it."""
    listed = definition.get("arguments")
    names = []
    for argument in listed if isinstance(listed, list) else ():
        if isinstance(argument, dict) and isinstance(argument.get("name"), str):
            names.append(argument["name"] + ("" if argument.get("required") is True else "?"))
    if len(names) > parameters:
        names[parameters:] = ["…"]
    taken = f", arguments: {{{', '.join(names)}}}" if names else ""
    return one_line(f"prompts/get(name: {_literal(definition.get('name'))}{taken})")


def resource_signature(definition: dict[str, Any]) -> str:
    """`resources/read(uri: "file:///a.txt")`; a template's URI has its `{parts}` still open."""
    return one_line(f"resources/read(uri: {_literal(definition.get('uri') or definition.get('uriTemplate'))})")


def slim(schema: Any) -> Any:
    """A JSON schema without what only programs read: titles, `$schema`, the word that nothing else is allowed.

    Pydantic writes a title beside each parameter that says its name once more.
    """
    if isinstance(schema, list):
        return [slim(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    shown = {}
    for word, value in schema.items():
        if word in _MAPS and isinstance(value, dict):
            # Names in here are the tool's own, whatever they are.
            shown[word] = {name: slim(part) for name, part in value.items()}
        elif word in ("enum", "const", "default", "examples", "required"):
            shown[word] = value
        elif not (word in ("title", "$schema") or (word == "additionalProperties" and value is False)):
            shown[word] = slim(value)
    return shown


def one_line(text: str) -> str:
    return " ".join(text.split())


def _type(schema: Any, depth: int = 0) -> str:
    if not isinstance(schema, dict) or depth > TYPE_DEPTH_MAX:
        return "any"
    text = "any"
    choices, kind = schema.get("enum"), schema.get("type")
    options = schema.get("anyOf") or schema.get("oneOf")
    if "const" in schema:
        choices = [schema["const"]]
    if isinstance(choices, list) and choices:
        text = "|".join(_literal(c) for c in choices[:CHOICES_SHOWN]) + ("|…" if len(choices) > CHOICES_SHOWN else "")
    elif isinstance(options, list) and options:
        text = "|".join(dict.fromkeys(_type(o, depth + 1) for o in options))
    elif kind == "array":
        item = _type(schema.get("items"), depth + 1)
        text = f"({item})[]" if "|" in item else f"{item}[]"
    elif isinstance(kind, list):
        text = "|".join(str(k) for k in kind)
    elif isinstance(kind, str):
        text = kind
    return text if len(text) <= TYPE_LENGTH_MAX else text[: TYPE_LENGTH_MAX - 1] + "…"


def _literal(value: Any) -> str:
    return jsons.dumps(value).decode("utf-8")
