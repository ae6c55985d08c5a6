"""The training data: queries with the tools that answer them, and the tools' own texts.

A folder holds `pairs.jsonl`, one object a line: `src`, `query`, `pos` and `neg` (lists of tools: `server`, `tool`,
`description`, `input_schema`?, `server_description`?). Tools are told apart by all of their content.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from router.documents import Document, document
from router.ports import ToolEntry, ToolKey

HELD_OUT_OF = 10
"""One tool in this many is held out, with the queries whose first tool it is."""


@dataclass(frozen=True, slots=True)
class Pair:
    """`right` and `wrong` are numbers of tools in `Pairs.tools`."""

    source: str
    query: str
    right: tuple[int, ...]
    wrong: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Pairs:
    tools: tuple[Document, ...]
    training: tuple[Pair, ...]
    held_out: tuple[Pair, ...]
    digest: str


def read_pairs(folder: Path) -> Pairs:
    """Raises `SystemExit` naming the file if it is not there. A right tool that is held out is not trained on."""
    path = folder / "pairs.jsonl"
    if not path.is_file():
        raise SystemExit(f"no training data: {path} does not exist (its form is described in bench/adapter/pairs.py)")
    content = path.read_bytes()
    numbers: dict[str, int] = {}
    tools: list[Document] = []
    hidden: list[bool] = []

    def number(tool: dict[str, Any]) -> int:
        key = json.dumps(tool, sort_keys=True)
        if key not in numbers:
            numbers[key] = len(tools)
            tools.append(document(_entry(tool)))
            hidden.append(_held_out(tool))
        return numbers[key]

    training, held_out = [], []
    for line in content.decode().splitlines():
        row = json.loads(line)
        right, wrong = (tuple(dict.fromkeys(number(t) for t in row[side])) for side in ("pos", "neg"))
        if not right or not row["query"].strip():
            continue
        if hidden[right[0]]:
            held_out.append(Pair(row["src"], row["query"], right, wrong))
        elif seen := tuple(t for t in right if not hidden[t]):
            training.append(Pair(row["src"], row["query"], seen, wrong))
    return Pairs(tuple(tools), tuple(training), tuple(held_out), hashlib.sha256(content).hexdigest())


def _held_out(tool: dict[str, Any]) -> bool:
    named = f"{tool.get('server', '')}/{tool['tool']}"
    return int(hashlib.sha256(named.encode()).hexdigest()[:8], 16) % HELD_OUT_OF == 0


def _entry(tool: dict[str, Any]) -> ToolEntry:
    definition = {
        "name": tool["tool"],
        "description": tool.get("description"),
        "inputSchema": tool.get("input_schema"),
    }
    key = ToolKey("", tool.get("server", ""), tool["tool"])
    return ToolEntry(key, definition, server_description=tool.get("server_description") or "")
