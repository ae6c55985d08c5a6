"""What an agent says reaches its server as it was said, and the other way: generated messages through two real nodes.

In each era of the client and of the server, over pipes and HTTP, on one node and across a hop.
`TOOLMESH_EXAMPLES=500` tries more.
"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given

from tests.node.mirrored.agents import META, MODERN, Clients, as_told, bare, heard_meta, saw
from tests.node.mirrored.messages import ANY_TEXT, LOG, OBJECTS, PROGRESS, RESULTS, VALUES, VENDOR, generated, same
from tests.node.mirrored.world import CELLS

pytestmark = pytest.mark.asyncio(loop_scope="module")


@CELLS
@generated
@given(value=VALUES, beside=VENDOR, meta=VENDOR, answer=RESULTS)
async def test_params_reach_the_server_and_its_result_the_client_unchanged(
    clients: Clients,
    era: str,
    server: str,
    place: str,
    value: Any,
    beside: dict[str, Any],
    meta: dict[str, Any],
    answer: dict[str, Any],
) -> None:
    agent = await clients.of(era, server, place)
    arguments = {"value": value, "answer": answer}
    told = await agent.tool("mirror", arguments, **beside, _meta=meta)
    heard = saw(told)
    assert same(heard["arguments"], arguments)
    assert same({k: v for k, v in heard.items() if k not in ("name", "arguments", "_meta")}, beside)
    assert same(heard_meta(heard), meta)
    assert same(as_told(told), answer)


@CELLS
@generated
@given(params=OBJECTS, answer=OBJECTS)
async def test_methods_that_no_revision_knows_pass_unchanged(
    clients: Clients,
    era: str,
    server: str,
    place: str,
    params: dict[str, Any],
    answer: dict[str, Any],
) -> None:
    agent = await clients.of(era, server, place)
    # What means something to MCP, or to the mirror, is generated elsewhere.
    params = {**{f"x-{k}": v for k, v in params.items()}, "answer": {f"x {k}": v for k, v in answer.items()}}
    told = await agent.ask("vendor/é 😀", params)
    heard = saw(told)
    assert same({k: v for k, v in heard.items() if k != "_meta"}, params)
    assert same(as_told(told), {"content": [], **params["answer"]})


@CELLS
@generated
@given(data=VALUES, message=ANY_TEXT, more=VENDOR)
async def test_a_servers_error_reaches_the_client_unchanged(
    clients: Clients,
    era: str,
    server: str,
    place: str,
    data: Any,
    message: str,
    more: dict[str, Any],
) -> None:
    agent = await clients.of(era, server, place)
    error = {**more, "code": -31999, "message": message, "data": data}
    told = await agent.tool("mirror", {"error": error})
    assert same(told.error, error)


@CELLS
@generated
@given(progress=PROGRESS, log=LOG)
async def test_progress_and_logs_reach_the_client_unchanged(
    clients: Clients, era: str, server: str, place: str, progress: dict[str, Any], log: dict[str, Any]
) -> None:
    agent = await clients.of(era, server, place)
    level = {META + "logLevel": "debug"} if era == MODERN else {}
    token = "t-é"
    told = await agent.tool("mirror", {"notify": [progress, log]}, _meta={"progressToken": token, **level})
    params = {**progress["params"], "progressToken": token}
    assert same([bare(e) for e in told.events], [{**progress, "params": params}, log])
