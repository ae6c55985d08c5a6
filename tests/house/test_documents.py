"""What can be set, typed or fetched is in docs/operations.md, and nothing else is."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args, get_origin

import pytest
import typer
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from federation.refusals import Reason
from node.cli import app
from node.config import NodeConfig
from node.operator.api import OperatorApi
from node.operator.approving import ApprovalsApi
from node.operator.auditing import AuditApi
from node.operator.governing import GoverningApi
from node.operator.grants import GrantsApi
from node.operator.policies import PolicyApi
from node.settings.auth import AuthSection
from node.settings.servers import ServerConfig
from node.verbs.remote import KEY_VARIABLE, URL_VARIABLE

ROOT = Path(__file__).parents[2]
OPERATIONS = (ROOT / "docs" / "operations.md").read_text()


def rows(heading: str) -> dict[str, str]:
    """Key → default, of the table below one heading; a row may name several keys."""
    section = OPERATIONS.split(f"\n### {heading}\n", 1)[1].split("\n##", 1)[0]
    found: dict[str, str] = {}
    for line in section.splitlines():
        if line.startswith("| `"):
            keys, default, *_ = (cell.strip() for cell in line.strip("|").split(" | "))
            for key in re.findall(r"`([^`]+)`", keys):
                found[key] = default
    return found


def model_of(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((m for inner in get_args(annotation) if (m := model_of(inner))), None)


def leaves(model: type[BaseModel], prefix: str) -> Iterator[tuple[str, FieldInfo]]:
    for name, info in model.model_fields.items():
        path = f"{prefix}{info.alias or name}"
        below = model_of(info.annotation)
        if below is not None:
            named = "NAME." if get_origin(info.annotation) is dict else ""
            yield from leaves(below, f"{path}.{named}")
        else:
            yield path, info


def shown(default: Any) -> str:
    match default:
        case None:
            return "none"
        case True | False:
            return f"`{str(default).lower()}`"
        case int() | float():
            return f"{default}"
        case "":
            return "empty"
        case ():
            return "`[]`"
        case {}:
            return "`{}`"
        case (*items,):
            return "`[" + ", ".join(f'"{i}"' for i in items) + "]`"
    return f"`{default}`"


PLAIN = [name for name, info in NodeConfig.model_fields.items() if name not in ("servers", "catalogue", "auth")]


@pytest.mark.parametrize("section", PLAIN)
def test_every_setting_and_its_default_is_documented(section: str) -> None:
    model = model_of(NodeConfig.model_fields[section].annotation)
    assert model is not None
    told = rows(section)
    fields = dict(leaves(model, f"{section}."))
    assert told.keys() == fields.keys()
    for key, info in fields.items():
        if info.default is PydanticUndefined:
            assert told[key] == "none"
        elif key == "federation.advertise":
            assert told[key] == "`federation.listen`"
        else:
            assert told[key] == shown(info.default), key


def test_every_setting_of_a_server_is_documented() -> None:
    told = rows("servers, catalogue")
    assert told.keys() == ServerConfig.model_fields.keys()
    for key, info in ServerConfig.model_fields.items():
        if key not in ("command", "url", "cwd"):
            assert told[key] == shown(info.get_default(call_default_factory=True)), key


def entries(model: type[BaseModel], prefix: str) -> Iterator[tuple[str, FieldInfo]]:
    """Like `leaves`, into lists too: their own row, and one for each key of an entry."""
    for name, info in model.model_fields.items():
        below = model_of(info.annotation)
        listed = get_origin(info.annotation) is tuple
        if below is None or listed:
            yield f"{prefix}{name}", info
        if below is not None:
            yield from entries(below, f"{prefix}{name}{'[]' if listed else ''}.")


def test_every_setting_of_callers_is_documented() -> None:
    told = rows("auth")
    fields = dict(entries(AuthSection, "auth."))
    assert told.keys() == fields.keys()
    for key, info in fields.items():
        assert told[key] == ("required" if info.default is PydanticUndefined else shown(info.default)), key


def commands(group: Any, prefix: str = "toolmesh") -> Iterator[tuple[str, Any]]:
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, f"{prefix} {name}")
        else:
            yield f"{prefix} {name}", command


def test_every_verb_and_every_option_is_documented() -> None:
    found = dict(commands(typer.main.get_command(app)))
    assert len(found) >= 10
    table = OPERATIONS.split("## Command line", 1)[1].split("\n## ", 1)[0]
    assert {m.strip() for m in re.findall(r"^\| `(toolmesh(?: [a-z]+)+)", table, re.MULTILINE)} == found.keys()
    for name, command in found.items():
        for parameter in command.params:
            for option in parameter.opts:
                if option.startswith("-") and option not in ("--help", "--config"):
                    assert f"`{option}" in table or f" {option} " in table, f"{name} {option}"


def test_the_variables_of_the_command_line_are_documented() -> None:
    assert f"`{URL_VARIABLE}`" in OPERATIONS
    assert f"`{KEY_VARIABLE}`" in OPERATIONS


def test_every_route_of_the_operators_is_documented() -> None:
    # Every part's routes for operators; what they are given is asked for nothing here.
    apis = (
        OperatorApi(None, None),  # type: ignore[arg-type]
        PolicyApi(None, None, None, None, None),  # type: ignore[arg-type]
        GoverningApi(None, None),  # type: ignore[arg-type]
        AuditApi(None, None, None),  # type: ignore[arg-type]
        ApprovalsApi(None, None, None, None),  # type: ignore[arg-type]
        GrantsApi(None, None, lambda _: True),  # type: ignore[arg-type]
    )
    routes = {r.path for api in apis for r in api.routes()} - {"/api/{tail:.*}"}
    table = OPERATIONS.split("## HTTP for operators", 1)[1]
    assert set(re.findall(r"^\| `(/[a-z0-9/{}]+)", table, re.MULTILINE)) == routes


def test_every_reason_of_a_refusal_has_its_mend() -> None:
    table = OPERATIONS.split("| reason of a refusal |", 1)[1].split("\n\n", 1)[0]
    reasons = [cell for line in table.splitlines() if line.startswith("| `") for cell in [line.split(" | ")[0]]]
    assert {word for cell in reasons for word in re.findall(r"`([^`]+)`", cell)} == set(Reason)


def test_a_torch_without_cuda_is_explained() -> None:
    project = (ROOT / "pyproject.toml").read_text()
    wanted = re.search(r'"(torch[^"]+)"', project)
    assert wanted is not None
    assert f"'{wanted[1]}'" in OPERATIONS


def test_documents_link_to_documents_that_exist() -> None:
    for document in (*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")):
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", document.read_text()):
            assert (document.parent / target).exists(), f"{document.name}: {target}"
