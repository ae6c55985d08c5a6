"""FastMCP's client, in each of its modes, with servers of both eras behind both transports, near and far."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.node.mirrored.mirror import TOOLS
from tests.node.mirrored.test_clients import MODES, QUESTIONS
from tests.node.mirrored.world import PLACES, SERVERS, mirrors
from tests.servers.world import VENVS

PYTHON = VENVS / "fastmcp-4.1.6" / "bin" / "python"
CLIENT = Path(__file__).parent / "fastmcp_client.py"

pytestmark = [pytest.mark.servers, pytest.mark.asyncio(loop_scope="module")]


CELLS = [f"{mode} {server} {place}" for mode in MODES for server in SERVERS for place in PLACES]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the client saw in each cell."""
    if not PYTHON.exists():
        pytest.skip("FastMCP is not installed: make servers")
    async with mirrors(tmp_path_factory.mktemp("mirrors")) as world:
        cells = {}
        for cell in CELLS:
            mode, server, place = cell.split()
            cells[cell] = [world.url(place, f"/mcp/{server}"), mode]
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(PYTHON, CLIENT, stdin=pipe, stdout=pipe, stderr=pipe)
        orders = json.dumps({"cells": cells, "questions": QUESTIONS}).encode()
        out, err = await asyncio.wait_for(process.communicate(orders), 100)
        assert process.returncode == 0, err.decode()[-3_000:]
        seen: dict[str, Any] = json.loads(out)
        return seen


@pytest.mark.parametrize("cell", CELLS)
async def test_fastmcps_client_lists_calls_and_is_asked_everything(found: dict[str, Any], cell: str) -> None:
    seen = found[cell]
    assert "failed" not in seen, seen
    assert sorted(seen["tools"]) == sorted(str(tool["name"]) for tool in TOOLS)
    assert (seen["text"], seen["heard"]) == ("é", [1, 2])
    assert sorted(seen["asked"]) == ["a mesh?", "who?"]
    sampled, elicited, roots = seen["replies"]
    assert sampled["content"] == {"type": "text", "text": "sampled"}
    assert elicited == {"action": "accept", "content": {"name": "Ada"}}
    assert [root["uri"] for root in roots["roots"]] == ["file:///workspace"]
