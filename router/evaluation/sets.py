"""Sets of queries with known answers, read from folders of JSON lines.

A set is a folder with `queries.jsonl` and, unless another set's corpus serves, `corpus.jsonl`:

    corpus.jsonl    one tool a line: `tool` and, as far as known, `server`, `description`, `input_schema` (JSON Schema),
                    `server_description`, `title`
    queries.jsonl   one query a line: `query`, and `relevant`, a list of "server/tool"; empty: nothing there answers it

DIR is a set itself or holds sets. A set without a corpus takes that of the set with the longest name that begins its
own (`mail-long` takes that of `mail`), else the one that lies in DIR itself. Other members are passed over.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from proto import jsons
from proto.errors import Invalid
from router.ports import ToolEntry, ToolKey
from router.queries import QUERY_MAX

CORPUS, QUERIES = "corpus.jsonl", "queries.jsonl"
OWNER = "eval"

Row = tuple[str, dict[str, Any]]
"""(where it stands, for messages; the object)"""


@dataclass(frozen=True, slots=True)
class Query:
    text: str
    relevant: frozenset[str]


@dataclass(frozen=True, slots=True)
class Corpus:
    """`name` is that of the folder."""

    name: str
    tools: tuple[ToolEntry, ...]


@dataclass(frozen=True, slots=True)
class QuerySet:
    name: str
    corpus: Corpus
    queries: tuple[Query, ...]


@dataclass(frozen=True, slots=True)
class Reading:
    """`remarks`: what was odd about the data and did not stop it from being read, a sentence each."""

    sets: tuple[QuerySet, ...]
    remarks: tuple[str, ...]


def name_of(entry: ToolEntry) -> str:
    return f"{entry.key.server}/{entry.key.tool}"


def read(directory: Path, names: Sequence[str] = ()) -> Reading:
    """All sets of `directory`, or those of `names`, in alphabetical order. Raises `Invalid` naming file and line."""
    folders = _folders(directory, names)
    remarks: list[str] = []
    corpora: dict[Path, Corpus] = {}
    sets = []
    for folder in folders:
        path = _corpus_of(folder, directory)
        if path not in corpora:
            corpora[path] = _corpus(path, remarks)
        corpus = corpora[path]
        queries = _queries(folder, corpus, remarks)
        if not queries or not corpus.tools:
            remarks.append(f"{folder.name} is left out: it has no {'tools' if queries else 'queries'}")
            continue
        sets.append(QuerySet(folder.name, corpus, queries))
    if not sets:
        raise Invalid(f"{directory}: every set is empty, so nothing can be measured")
    return Reading(tuple(sets), tuple(remarks))


def _folders(directory: Path, names: Sequence[str]) -> list[Path]:
    if not directory.is_dir():
        raise Invalid(f"{directory} is not a directory; give the folder that holds the sets")
    found = [directory] if (directory / QUERIES).is_file() else []
    found += sorted(p.parent for p in directory.glob(f"*/{QUERIES}"))
    if not found:
        raise Invalid(f"{directory} holds no set: neither {QUERIES} nor a folder with one")
    if unknown := sorted(set(names) - {f.name for f in found}):
        known = ", ".join(f.name for f in found)
        raise Invalid(f"{directory} has no set {', '.join(unknown)}; it has {known}")
    return [f for f in found if not names or f.name in names]


def _corpus_of(folder: Path, directory: Path) -> Path:
    if (folder / CORPUS).is_file():
        return folder / CORPUS
    beside = [p for p in folder.parent.glob(f"*/{CORPUS}") if folder.name.startswith(p.parent.name)]
    if beside:
        return max(beside, key=lambda p: len(p.parent.name))
    if (directory / CORPUS).is_file():
        return directory / CORPUS
    raise Invalid(f"{folder} has no {CORPUS}, and no set whose name begins its own has one; put the tools there")


def _corpus(path: Path, remarks: list[str]) -> Corpus:
    tools: dict[ToolKey, ToolEntry] = {}
    repeated = 0
    for where, row in _rows(path):
        entry = _entry(where, row)
        repeated += entry.key in tools
        tools.setdefault(entry.key, entry)
    if repeated:
        remarks.append(f"{path}: {repeated} lines repeat a server/tool; the first of each was taken")
    return Corpus(path.parent.name, tuple(tools.values()))


def _entry(where: str, row: dict[str, Any]) -> ToolEntry:
    tool = _text(where, row, "tool", required=True)
    definition: dict[str, Any] = {"name": tool, "description": _text(where, row, "description")}
    if schema := _schema(where, row):
        definition["inputSchema"] = schema
    if title := _text(where, row, "title"):
        definition["title"] = title
    return ToolEntry(
        ToolKey(OWNER, _text(where, row, "server"), tool),
        definition,
        digest=jsons.digest(definition),
        server_description=_text(where, row, "server_description"),
    )


def _schema(where: str, row: dict[str, Any]) -> dict[str, Any]:
    schema = row.get("input_schema", row.get("inputSchema"))
    if isinstance(schema, str) and schema.strip():
        return jsons.loads_object(schema, f"{where}, 'input_schema'")
    if schema and not isinstance(schema, dict):
        raise Invalid(f"{where}: 'input_schema' is {jsons.type_name(schema)}; give a JSON Schema object or none")
    return schema or {}


def _queries(folder: Path, corpus: Corpus, remarks: list[str]) -> tuple[Query, ...]:
    names = {name_of(t) for t in corpus.tools}
    by_tool = defaultdict(set)
    for entry in corpus.tools:
        by_tool[entry.key.tool].add(name_of(entry))
    unknown = Counter[str]()
    long = empty = 0
    queries = []
    for where, row in _rows(folder / QUERIES):
        text = _text(where, row, "query")
        if not text.strip():
            empty += 1
            continue
        relevant = set()
        for name in _relevant(where, row):
            # A bare tool name will do where only one server has it.
            same = by_tool.get(name, ())
            known = name if name in names or len(same) != 1 else next(iter(same))
            relevant.add(known)
            unknown[known] += known not in names
        long += len(text) > QUERY_MAX
        queries.append(Query(text[:QUERY_MAX], frozenset(relevant)))
    if missing := [name for name, count in unknown.items() if count]:
        shown = ", ".join(missing[:3]) + (", …" if len(missing) > 3 else "")
        remarks.append(
            f"{folder.name}: {len(missing)} relevant tools are not in the corpus, or a bare name of several ({shown}); "
            "they count as not found, as trec_eval counts them"
        )
    if long:
        remarks.append(f"{folder.name}: {long} queries longer than is searched for were cut to {QUERY_MAX} characters")
    if empty:
        remarks.append(f"{folder.name}: {empty} queries are empty and were left out")
    return tuple(queries)


def _relevant(where: str, row: dict[str, Any]) -> list[str]:
    value = row.get("relevant")
    if isinstance(value, str):
        value = [value]
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise Invalid(
            f"{where}: 'relevant' {_wrong(row, 'relevant', value)}; "
            'give a list of "server/tool" texts, an empty one where nothing answers the query'
        )
    return value


def _text(where: str, row: dict[str, Any], field: str, *, required: bool = False) -> str:
    value = row.get(field)
    if value is None and not required:
        return ""
    if not isinstance(value, str):
        raise Invalid(f"{where}: '{field}' {_wrong(row, field, value)}; give a text")
    if required and not value.strip():
        raise Invalid(f"{where}: '{field}' is empty; give a text, or take the line out")
    return value


def _wrong(row: dict[str, Any], field: str, value: Any) -> str:
    if field not in row:
        return "is missing"
    odd = [item for item in value if not isinstance(item, str)] if isinstance(value, list) else []
    return f"holds {jsons.type_name(odd[0])}" if odd else f"is {jsons.type_name(value)}"


def _rows(path: Path) -> Iterator[Row]:
    try:
        # A byte order mark is no part of the first line; only a line feed ends one, whatever else a text may hold.
        lines = path.read_text("utf-8-sig").split("\n")
    except OSError as e:
        raise Invalid(f"{path} cannot be read: {e.strerror}") from None
    except UnicodeDecodeError as e:
        raise Invalid(f"{path} is not UTF-8: {e.reason} at byte {e.start}; save it as UTF-8") from None
    for number, line in enumerate(lines, 1):
        if line.strip():
            where = f"{path} line {number}"
            yield where, _object(where, line)


def _object(where: str, line: str) -> dict[str, Any]:
    try:
        return jsons.loads_object(line, where)
    except Invalid:
        # What Python's json writes though JSON has no such thing: NaN becomes null, a lone surrogate a question mark.
        try:
            value = json.loads(line, parse_constant=lambda _: None)
            return jsons.loads_object(json.dumps(value, ensure_ascii=False).encode("utf-8", "replace"), where)
        except (ValueError, RecursionError):
            pass
        raise
