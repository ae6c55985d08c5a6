"""Where settings come from: one YAML file, overlaid by `TOOLMESH_SECTION__KEY` from the environment."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, create_model
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, EnvSettingsSource

from proto.errors import Invalid

FILE_BYTES_MAX = 4 * 1024 * 1024
PREFIX = "TOOLMESH_"
DELIMITER = "__"
KeyPath = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Document:
    """Raw settings and where each stands: `lines` counts from 1; `overlay` is what the environment set."""

    name: str
    data: dict[str, Any]
    lines: dict[KeyPath, int] = field(default_factory=dict)
    overlay: dict[str, Any] = field(default_factory=dict)

    def place(self, path: KeyPath) -> str:
        """`file:line`, or `environment` where the value came from there."""
        if self._from_environment(path):
            return "environment"
        line = self.line_of(path)
        return f"{self.name}:{line}" if line else self.name

    def line_of(self, path: KeyPath) -> int:
        """Of the key itself or of what holds it; 0 where the file says nothing of it."""
        if self._from_environment(path):
            return 0
        return next((self.lines[path[:end]] for end in range(len(path), 0, -1) if path[:end] in self.lines), 0)

    def _from_environment(self, path: KeyPath) -> bool:
        at: Any = self.overlay
        for key in path:
            if not isinstance(at, dict) or key not in at:
                return False
            at = at[key]
            if not isinstance(at, dict):
                return True
        return False


def read_yaml(path: Path) -> Document:
    """One file. Raises `Invalid`: unreadable, too large, not YAML, duplicate keys (all of them), not a mapping."""
    name = path.name
    try:
        with path.open("rb") as f:
            raw = f.read(FILE_BYTES_MAX + 1)
    except OSError as e:
        raise Invalid(f"{path}: cannot be read: {e.strerror or e}; name a configuration with -c FILE") from None
    if len(raw) > FILE_BYTES_MAX:
        raise Invalid(f"{path}: is larger than {FILE_BYTES_MAX} bytes; this is no configuration")
    try:
        return _parse(name, raw)
    except yaml.MarkedYAMLError as e:
        mark = e.problem_mark or e.context_mark
        at = f"{name}:{mark.line + 1}" if mark else name
        raise Invalid(f"{at}: not valid YAML: {e.problem or e.context}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as e:
        raise Invalid(f"{name}: not valid YAML: {' '.join(str(e).split())}") from None
    except (ValueError, RecursionError) as e:
        # The safe loader builds dates and numbers itself and lets their errors through.
        raise Invalid(f"{name}: a value cannot be read ({e}); put it in quotes") from None


def _parse(name: str, raw: bytes) -> Document:
    loader = yaml.SafeLoader(raw)
    try:
        root = loader.get_single_node()
        if root is None:
            return Document(name, {})
        if not isinstance(root, yaml.MappingNode):
            raise Invalid(f"{name}:1: the top level must be a mapping of sections, such as 'node:' and 'servers:'")
        lines: dict[KeyPath, int] = {}
        duplicates = list(_walk(root, (), lines, set()))
        if duplicates:
            raise Invalid(
                "\n".join(
                    f"{name}:{line}: {dotted(path)}: duplicate key, first on line {lines[path]}; remove one of them"
                    for path, line in duplicates
                )
            )
        data = loader.construct_document(root)
    finally:
        loader.dispose()
    # `servers:` with nothing below it reads as null and means the same as leaving it out.
    return Document(name, {k: v for k, v in data.items() if v is not None}, lines)


def _walk(node: yaml.Node, path: KeyPath, lines: dict[KeyPath, int], seen: set[int]) -> Iterator[tuple[KeyPath, int]]:
    """Fill `lines`; yield duplicate keys. An aliased node is walked once: aliases may even be circular."""
    if id(node) in seen:
        return
    seen.add(id(node))
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            here = (*path, key.value) if isinstance(key, yaml.ScalarNode) else path
            line = key.start_mark.line + 1
            if here in lines and here != path and key.value != "<<":
                yield here, line
                continue
            lines[here] = line
            yield from _walk(value, here, lines, seen)
    elif isinstance(node, yaml.SequenceNode):
        for i, item in enumerate(node.value):
            lines[(*path, i)] = item.start_mark.line + 1
            yield from _walk(item, (*path, i), lines, seen)


def dotted(path: KeyPath) -> str:
    """`auth.keys[0].name`"""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text


class _Environment(EnvSettingsSource):
    def decode_complex_value(self, field_name: str, field: FieldInfo, value: Any) -> Any:
        # Left as text, the schema names the key and says what it wants; pydantic-settings would name the section.
        try:
            return json.loads(value)
        except ValueError:
            return value


def read_environment(schema: type[BaseModel]) -> dict[str, Any]:
    """What `TOOLMESH_SECTION__KEY` sets; lists and mappings are JSON. Raises `Invalid` for an unknown section."""
    sections = schema.model_fields
    strays = [
        f"environment: {name}: unknown section; known are {', '.join(sections)}"
        for name in sorted(os.environ)
        if name.upper().startswith(PREFIX)
        and DELIMITER in name[len(PREFIX) :]
        and name[len(PREFIX) :].lower().split(DELIMITER)[0] not in sections
    ]
    if strays:
        raise Invalid("\n".join(strays))
    fields: dict[str, Any] = {name: (section.annotation, section) for name, section in sections.items()}
    settings = create_model("Environment", __base__=BaseSettings, **fields)
    return dict(_Environment(settings, env_prefix=PREFIX, env_nested_delimiter=DELIMITER, case_sensitive=False)())


def overlay(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """Mappings are merged key by key; anything else is replaced."""
    merged = dict(below)
    for key, value in above.items():
        old = merged.get(key)
        merged[key] = overlay(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return merged
