"""From a tool's raw definition to the texts that are searched. Pure and total: any JSON object gives a document."""

from __future__ import annotations

import hashlib
import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from router.ports import ToolEntry

RECIPE = "1"
"""Version of how dense texts are made. Part of a vector's address: another recipe, other vectors."""

FIELDS = ("name", "description", "server", "server_description", "parameters")

NAME_MAX = 200
DESCRIPTION_MAX = 4_000
SERVER_DESCRIPTION_MAX = 2_000
PARAMETERS_MAX = 4_000
PARAMETER_DEPTH_MAX = 4
DENSE_MAX = 1_200
SENTENCES_MAX = 3
SENTENCE_MIN = 12

# Before a capital that follows a lower-case letter or digit, before the last capital of a run, around digits.
HUMPS = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_SEPARATORS = re.compile(r"[\W_]+")
_SPACES = re.compile(r"\s+")
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+|(?<=[。！？])|\n+")


@dataclass(frozen=True, slots=True)
class Document:
    """`fields` in the order of `FIELDS`. Dense texts: `named` is "readable name: description", `placed` the tool
    with its server's name, `sentences` parts of a longer description, `server` the server on its own (may be "")."""

    fields: tuple[str, ...]
    named: str
    placed: str
    sentences: tuple[str, ...]
    server: str


def readable(name: str) -> str:
    """`getCurrentTime`, `get_current_time` and `get-current-time` as `get current time`."""
    words = _SEPARATORS.sub(" ", HUMPS.sub(" ", name[:NAME_MAX])).split()
    return " ".join(w if w.isupper() and len(w) > 1 else w.lower() for w in words)


def text_digest(text: str) -> str:
    """SHA-256 of the text as 64 hex digits: the vector's address within (model, recipe)."""
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()


def first_sentence(text: str, limit: int = 160) -> str:
    """The first sentence on one line, at most `limit` characters, cut at a word where it has to be."""
    sentence = next(_sentences(text), "")
    if len(sentence) <= limit:
        return sentence
    return sentence[: limit - 1].rsplit(" ", 1)[0].rstrip(" ,;:") + "…"


def description_of(definition: dict[str, Any]) -> str:
    """The description, or the title where there is none; "" for anything that is not text."""
    description = _text(definition.get("description"), DESCRIPTION_MAX)
    return description or title_of(definition)


def title_of(definition: dict[str, Any]) -> str:
    annotations = definition.get("annotations")
    nested = annotations.get("title") if isinstance(annotations, dict) else None
    return _text(definition.get("title"), NAME_MAX) or _text(nested, NAME_MAX)


def document(entry: ToolEntry) -> Document:
    """The searchable form of a tool; every part is bounded by the constants above."""
    name, description = readable(entry.key.tool), description_of(entry.definition)
    title = title_of(entry.definition)
    server = readable(entry.key.server)
    about = _join(_text(entry.server_title, NAME_MAX), _text(entry.server_description, SERVER_DESCRIPTION_MAX))
    named = f"{name}: {description}" if description else name
    # From the raw text: line breaks end a sentence too, and `description` has none left.
    raw = entry.definition.get("description")
    parts = _sentences(raw) if isinstance(raw, str) else iter(())
    sentences = tuple(itertools.islice((s for s in parts if len(s) >= SENTENCE_MIN), SENTENCES_MAX))
    return Document(
        fields=(
            name if title.lower() in ("", name.lower(), description.lower()) else f"{name} {title}",
            description,
            server,
            about,
            _clip(" ".join(_parameters(entry.definition.get("inputSchema"), 0)), PARAMETERS_MAX),
        ),
        named=_clip(named, DENSE_MAX),
        placed=_clip(f"{server} {name}", DENSE_MAX),
        # A single sentence is the description itself, which `named` carries already.
        sentences=tuple(_clip(s, DENSE_MAX) for s in sentences) if len(sentences) > 1 else (),
        server=_clip(f"{server}: {about}" if about else "", DENSE_MAX),
    )


def _text(value: Any, limit: int) -> str:
    return _SPACES.sub(" ", value[:limit]).strip() if isinstance(value, str) else ""


def _clip(text: str, limit: int) -> str:
    # A lone surrogate, which no tokenizer takes, becomes a question mark.
    return text[:limit].encode("utf-8", "replace").decode("utf-8")


def _join(*parts: str) -> str:
    return ". ".join(p for p in parts if p)


def _sentences(text: str) -> Iterator[str]:
    for part in _SENTENCE_END.split(text[:DESCRIPTION_MAX]):
        sentence = _SPACES.sub(" ", part).strip()
        if sentence:
            yield sentence


def _parameters(schema: Any, depth: int) -> Iterator[str]:
    """Names and descriptions of properties, with those nested in objects, arrays and alternatives."""
    if not isinstance(schema, dict) or depth > PARAMETER_DEPTH_MAX:
        return
    properties = schema.get("properties")
    if isinstance(properties, dict):
        for name, sub in properties.items():
            yield readable(name)
            if isinstance(sub, dict):
                yield _text(sub.get("description"), DESCRIPTION_MAX)
            yield from _parameters(sub, depth + 1)
    yield from _parameters(schema.get("items"), depth + 1)
    for word in ("anyOf", "oneOf", "allOf"):
        options = schema.get(word)
        for option in options if isinstance(options, list) else ():
            yield from _parameters(option, depth + 1)
