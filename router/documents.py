"""From a raw definition (tool, prompt, resource, template) to the texts that are searched.

Pure and total: any JSON object gives a document.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from router import prose
from router.ports import ToolEntry

RECIPE = "2"
"""Version of how dense texts are made. Part of a vector's address: another recipe, other vectors."""

FIELDS = ("name", "description", "server", "server_description", "parameters")

NAME_MAX = 200
DESCRIPTION_MAX = 4_000
SERVER_DESCRIPTION_MAX = 2_000
PARAMETERS_MAX = 4_000
PARAMETER_DEPTH_MAX = 4
# About what a model of 256 tokens reads; the main point of a longer description has a sentence vector of its own.
DENSE_MAX = 1_200
SENTENCES_MAX = 2
BARE_PARAMETERS_MAX = 12

# Before a capital that follows a lower-case letter or digit, before the last capital of a run, around digits.
HUMPS = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_SEPARATORS = re.compile(r"[\W_]+")
# What programmers shorten in names and people do not in questions.
_SHORT = {
    "addr": "address",
    "auth": "authentication",
    "calc": "calculate",
    "cfg": "configuration",
    "cmd": "command",
    "config": "configuration",
    "ctx": "context",
    "db": "database",
    "del": "delete",
    "desc": "description",
    "dir": "directory",
    "dirs": "directories",
    "doc": "document",
    "docs": "documents",
    "env": "environment",
    "exec": "execute",
    "fn": "function",
    "img": "image",
    "imgs": "images",
    "msg": "message",
    "msgs": "messages",
    "org": "organization",
    "pkg": "package",
    "qty": "quantity",
    "repo": "repository",
    "repos": "repositories",
    "tx": "transaction",
    "txn": "transaction",
    "usr": "user",
}


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
    sentence = next(prose.sentences(text[:DESCRIPTION_MAX]), "")
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
    """The searchable form of an entry; every part is bounded by the constants above."""
    definition = entry.definition
    raw = definition.get("description")
    told, details = prose.sections(prose.plain(raw[:DESCRIPTION_MAX])) if isinstance(raw, str) else ("", "")
    title = title_of(definition)
    description = prose.spaced(told) or title
    name, server = readable(entry.key.tool), readable(entry.key.server)
    whole = unabridged(name)
    about = _join(_text(entry.server_title, NAME_MAX), prose.spaced(prose.plain(_about(entry))))
    parameters = [p for p in _parameters(definition.get("inputSchema"), 0) if p]
    parameters += [p for p in _arguments(definition) if p]
    sentences = prose.telling(told, SENTENCES_MAX)
    return Document(
        fields=(
            " ".join(dict.fromkeys((name, *_added(name, whole), *_unless_said(title, name, description)))),
            description,
            server,
            about,
            _clip(" ".join((*parameters, prose.spaced(details))), PARAMETERS_MAX).strip(),
        ),
        # Of a tool that says nothing its parameters must speak.
        named=_clip(f"{whole}: {description or ', '.join(parameters[:BARE_PARAMETERS_MAX])}".rstrip(": "), DENSE_MAX),
        placed=_clip(f"{server} {whole}", DENSE_MAX),
        # A single sentence is the description itself, which `named` carries already.
        sentences=tuple(_clip(s, DENSE_MAX) for s in sentences) if sentences != [description] else (),
        server=_clip(f"{server}: {about}" if about else "", DENSE_MAX),
    )


def unabridged(words: str) -> str:
    """A readable name with its usual abbreviations written out: `list repo dirs` as `list repository directories`."""
    return " ".join(_SHORT.get(word, word) for word in words.split())


def _added(name: str, whole: str) -> Iterator[str]:
    """Words that the unabridged name has besides: by words either spelling finds it."""
    yield from (word for word in whole.split() if word not in name.split())


def _unless_said(title: str, name: str, description: str) -> Iterator[str]:
    if title.lower() not in ("", name.lower(), description.lower()):
        yield title


def _about(entry: ToolEntry) -> str:
    return entry.server_description[:SERVER_DESCRIPTION_MAX]


def _arguments(definition: dict[str, Any]) -> Iterator[str]:
    """What a prompt asks for, and where a resource or a template of resources is and what it holds."""
    arguments = definition.get("arguments")
    for argument in arguments if isinstance(arguments, list) else ():
        if isinstance(argument, dict):
            yield readable(argument["name"]) if isinstance(argument.get("name"), str) else ""
            yield _text(argument.get("description"), DESCRIPTION_MAX)
    for word in ("uri", "uriTemplate", "mimeType"):
        value = definition.get(word)
        if isinstance(value, str):
            yield readable(value)


def _text(value: Any, limit: int) -> str:
    return prose.spaced(value[:limit]) if isinstance(value, str) else ""


def _clip(text: str, limit: int) -> str:
    # A lone surrogate, which no tokenizer takes, becomes a question mark.
    return text[:limit].encode("utf-8", "replace").decode("utf-8")


def _join(*parts: str) -> str:
    return ". ".join(p for p in parts if p)


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
