"""The configurations that the README gives agents, as they stand there, taken up by the inspector, which reads such."""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.node.test_inspector import ROOT, found, inspected, pytestmark, url

__all__ = ["pytestmark", "url"]

SECTION = (ROOT / "README.md").read_text().split("## Connecting an agent", 1)[1].split("\n## ", 1)[0]
BLOCKS = [json.loads(block) for block in re.findall(r"```json\n(.*?)```", SECTION, re.DOTALL)]
SERVERS = [(name, server) for block in BLOCKS for name, server in (block.get("mcpServers") or block["servers"]).items()]
COMMANDS = re.findall(r"^npx @modelcontextprotocol/inspector --cli (.*)$", SECTION, re.MULTILINE)


def test_the_readme_shows_every_way_in() -> None:
    kinds = {server.get("type") or server["args"][0] for _, server in SERVERS}
    assert kinds == {"http", "sse", "stdio"}
    assert len(COMMANDS) == 3


def here(text: str, url: str, home: Path) -> str:
    """The same with this test's node, its server and its file."""
    node = home / "node.yaml"
    node.write_text(json.dumps({"http": {"listen": url.partition("://")[2]}}))
    return (
        text.replace("http://127.0.0.1:7400", url)
        .replace("/home/me/node.yaml", str(node))
        .replace("/files", "/units")
        .replace('"files"', '"units"')
    )


@pytest.mark.parametrize(("name", "server"), SERVERS, ids=lambda v: v if isinstance(v, str) else json.dumps(v))
async def test_a_server_of_the_readme_can_be_used(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, server: dict[str, Any]
) -> None:
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    file = tmp_path / "mcp.json"
    file.write_text(here(json.dumps({"mcpServers": {"it": server}}), url, tmp_path))
    listed = await inspected(["--config", str(file), "--server", "it"], "auto", "--method", "tools/list")
    expected = {"files": "convert_unit", "everything": "units__convert_unit"}.get(name, "use_tool")
    assert expected in [tool["name"] for tool in found(listed)["tools"]]


@pytest.mark.parametrize("command", COMMANDS)
async def test_a_command_of_the_readme_lists_the_tools(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    listed = await inspected(here(command, url, tmp_path).split(), "auto")
    assert "use_tool" in [tool["name"] for tool in found(listed)["tools"]]
