"""Validation errors as lines that a person can act on: where, which key, what is wrong, how to mend it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from node.settings.source import Document, KeyPath, dotted
from node.settings.upstream_auth import KINDS
from proto.jsons import type_name

_NOT_KEYS = ("[key]", *KINDS)


def explain(error: ValidationError, schema: type[BaseModel], document: Document) -> list[str]:
    """One line for each error, in the order of the file; those from the environment come first."""
    found = []
    errors = error.errors(include_url=False)
    wrong = {e["loc"][:-1] for e in errors}
    for e in errors:
        # A list whose only item is wrong is not short of items as well.
        if e["type"] == "too_short" and e["loc"] in wrong:
            continue
        # A bad name of an entry is located at `[key]` below that entry, a key of `auth` below its kind.
        path = tuple(part for part in e["loc"] if part not in _NOT_KEYS)
        found.append((path, _message(e["type"], e["msg"], e.get("ctx", {}), e["input"], path, schema)))
    found.sort(key=lambda f: document.line_of(f[0]))
    return [line(document, path, message) for path, message in found]


def line(document: Document, path: KeyPath, message: str) -> str:
    return f"{document.place(path)}: {dotted(path)}: {message}"


def _message(kind: str, text: str, context: dict[str, Any], value: Any, path: KeyPath, schema: type[BaseModel]) -> str:
    match kind:
        case "extra_forbidden":
            return "unknown key; " + _suggest(str(path[-1]), _keys_at(schema, path[:-1]))
        case "missing":
            return "is required"
        case "value_error":
            return text.removeprefix("Value error, ")
        case "string_type":
            return f"must be text, not {type_name(value)}; put it in quotes"
        case "model_type" | "model_attributes_type" | "dict_type":
            return f"must be a mapping of keys, not {type_name(value)}"
        case "tuple_type" | "list_type":
            return f"must be a list, not {type_name(value)}"
        case "invalid_key":
            return "keys must be text; put them in quotes"
        case "literal_error":
            return f"must be one of {context['expected']}"
        case "too_long":
            return f"must hold at most {context['max_length']} items, not {context['actual_length']}"
        case "string_too_long":
            return f"must have at most {context['max_length']} characters"
        case "too_short":
            return f"must hold at least {context['min_length']}"
        case "string_too_short":
            least = context["min_length"]
            return "must not be empty" if least == 1 else f"must have at least {least} characters"
        case "string_pattern_mismatch":
            return f"may hold only characters that match {context['pattern']}"
    return text.removeprefix("Input ").replace("should be", "must be", 1).split(", unable to parse")[0]


def _suggest(word: str, known: Iterable[str]) -> str:
    known = sorted(known)
    close = difflib.get_close_matches(word.lower(), known, n=1, cutoff=0.6)
    return f"did you mean {close[0]!r}?" if close else f"known here: {', '.join(known)}"


def _keys_at(schema: type[BaseModel], path: KeyPath) -> list[str]:
    """The keys that the mapping at `path` may hold."""
    at: Any = schema
    for part in path:
        model = _model_in(at)
        if model is None:
            return []
        fields = {f.alias or name: f.annotation for name, f in model.model_fields.items()}
        # Below a mapping or a list of models, the part names an entry and the model stays the same.
        at = fields.get(str(part), model) if isinstance(part, str) and at is model else model
    model = _model_in(at)
    return [f.alias or name for name, f in model.model_fields.items()] if model else []


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for inner in get_args(annotation):
        model = _model_in(inner)
        if model is not None:
            return model
    return None
