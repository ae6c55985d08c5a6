"""`toolmesh demo`: three regions, one story told by a real agent's client, then the mesh stays up for you.

Exit status 0 if every step came out as told, 1 if any failed, 130 if it was interrupted before the end.
"""

from __future__ import annotations

import asyncio
import json
import logging
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path
from textwrap import shorten
from typing import Any

import aiohttp
from mcp.client import Client
from rich.console import Console
from rich.panel import Panel
from rich.table import Table

from node.demo.world import World
from proto.errors import MeshError, Unavailable

STEP_S = 60.0
TOOLS_MIN, SERVERS_MIN = 30, 5
WHAT_CHARS_MAX = 78
INTERRUPTED = 130
console = Console(highlight=False)


def main(once: bool) -> int:
    """Run the story; without `once`, keep the mesh up until Ctrl-C."""
    # The agent's client logs each HTTP request at INFO; the story is the output here.
    logging.basicConfig(level=logging.WARNING)
    directory = Path(tempfile.mkdtemp(prefix="toolmesh-demo-"))
    try:
        return asyncio.run(_run(World(directory), once))
    except KeyboardInterrupt:
        return INTERRUPTED
    except (MeshError, BaseExceptionGroup) as e:
        console.print(f"[red bold]The demo failed:[/] {_reason(e)}", soft_wrap=True)
        return 1
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _reason(error: BaseException) -> str:
    """The agent's client wraps what happens inside it in groups, often one in another."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error.message if isinstance(error, MeshError) else f"{type(error).__name__}: {error}"


async def _run(world: World, once: bool) -> int:
    interrupted = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, interrupted.set)
    async with aiohttp.ClientSession() as session:
        try:
            story = asyncio.create_task(_story(world, session))
            stop = asyncio.create_task(interrupted.wait())
            await asyncio.wait({story, stop}, return_when=asyncio.FIRST_COMPLETED)
            if not story.done():
                story.cancel()
                await asyncio.gather(story, return_exceptions=True)
                return INTERRUPTED
            await story
            if not once:
                _addresses(world)
                console.print("The mesh stays up. [bold]Ctrl-C[/] ends it.")
                await stop
            stop.cancel()
            return 0
        finally:
            await world.stop()


async def _story(world: World, session: aiohttp.ClientSession) -> None:
    began = time.perf_counter()
    console.rule("[bold]toolmesh: three regions, one registry")
    _wait("Making certificates and starting three nodes.")
    await world.prepare()
    await asyncio.gather(*(world.start(region) for region in world.nodes))
    await asyncio.gather(*(world.ready(region, session) for region in world.nodes))
    _say(
        1,
        f"Three nodes serve after {time.perf_counter() - began:.1f} s. They found each other by mDNS and speak "
        "gRPC over mutual TLS.",
    )
    _wait("Connecting their servers and indexing the tools.")
    status = await _until(world, session, "eu", _whole_mesh, "eu sees every server of us and ap, and has indexed them")
    _table(status)

    eu = world.nodes["eu"].url
    async with Client(f"{eu}/mcp") as agent:
        listed = [t.name for t in (await agent.list_tools()).tools]
        _say(2, f"An agent connects to eu ({agent.protocol_version}) and sees just these tools: {', '.join(listed)}.")

        # Without a model the story goes on with words that the tool itself uses.
        by_meaning = bool(status["search"]["embedder"])
        task = TASK if by_meaning else TASK_IN_THE_TOOLS_WORDS
        hits = await _search(agent, task)
        _say(3, f"It searches by {'meaning' if by_meaning else 'words alone'}: [italic]“{task}”[/]")
        _hits(hits)
        best = hits[0]
        _expect(best["region"] == "ap", "the best hit lives in ap")

        text, call = await _use(
            world, session, agent, best["mcp_server_name"], best["mcp_tool_name"], WEATHER_ARGUMENTS
        )
        _say(4, f"It uses [bold]{best['mcp_server_name']} / {best['mcp_tool_name']}[/] as if it were next door.")
        _result(text, call)
        _expect(call["region"] == "ap", "the call ran in ap")

        conversion = {"value": 26.2, "from_unit": "mile", "to_unit": "kilometre"}
        text, call = await _use(world, session, agent, "units", "convert_unit", conversion)
        served = call["region"]
        _say(5, f"[bold]units[/] is one service with replicas in us and ap. This call ran in [bold]{served}[/]:")
        _result(text, call)

        await world.kill(served)
        killed = time.perf_counter()
        # A call written to a node in the very moment of its death may have run: it would be told so, not moved.
        await _until(world, session, "eu", lambda s: _state(s, f"{served}-1") != "alive", f"eu suspects {served}-1")
        noticed_ms = (time.perf_counter() - killed) * 1000
        text, call = await _use(world, session, agent, "units", "convert_unit", conversion)
        _say(
            6,
            f"Node {served}-1 is killed without a goodbye. eu has noticed within {noticed_ms:.0f} ms; "
            "the agent calls again:",
        )
        _result(text, call)
        _expect(call["region"] != served, f"the other replica answered, not {served}")

    _wait(f"Waiting until eu calls {served}-1 down; then it is started again.")
    status = await _until(
        world, session, "eu", lambda s: _state(s, f"{served}-1") in ("down", "unreachable"), f"eu calls {served}-1 down"
    )
    await world.start(served)
    await world.ready(served, session)
    status = await _until(world, session, "eu", _whole_mesh, f"{served}-1 is back and its servers with it")
    _say(7, f"{served}-1 was called down, was started again, and is back: alive, with all of its tools.")
    _table(status)
    console.rule(f"[bold green]The story came out as told, in {time.perf_counter() - began:.1f} s")


TASK = "could a downpour spoil our picnic in Singapore tomorrow"
TASK_IN_THE_TOOLS_WORDS = "chance of rain in Singapore tomorrow"
WEATHER_ARGUMENTS = {"city": "Singapore"}


async def _search(agent: Client, task: str) -> list[dict[str, Any]]:
    result = await agent.call_tool("search_mcp_server", {"task_description": task})
    _expect(not result.is_error, f"search answers: {result.content}")
    return list((result.structured_content or {})["tools"])


async def _use(
    world: World, session: aiohttp.ClientSession, agent: Client, server: str, tool: str, params: dict[str, Any]
) -> tuple[str, dict[str, Any]]:
    result = await agent.call_tool("use_tool", {"mcp_server_name": server, "mcp_tool_name": tool, "params": params})
    text = " ".join(getattr(block, "text", "") for block in result.content)
    _expect(not result.is_error, f"{server} / {tool} answers: {text}")
    calls = await _get(session, f"{world.nodes['eu'].url}/api/v1/calls")
    return text, calls["calls"][0]


async def _get(session: aiohttp.ClientSession, url: str) -> Any:
    async with session.get(url) as response:
        response.raise_for_status()
        return await response.json()


async def _until(world: World, session: aiohttp.ClientSession, region: str, holds: Any, what: str) -> dict[str, Any]:
    url = f"{world.nodes[region].url}/api/v1/status"
    status: dict[str, Any] = {}
    try:
        async with asyncio.timeout(STEP_S):
            while True:
                status = await _get(session, url)
                if holds(status):
                    return status
                await asyncio.sleep(0.05)
    except TimeoutError:
        raise Unavailable(
            f"within {STEP_S:g} s it did not come true that {what}; last status: {json.dumps(status)[:2000]}"
        ) from None


def _state(status: dict[str, Any], node: str) -> str:
    return next((p["state"] for p in status["peers"] if p["name"] == node), "")


def _whole_mesh(status: dict[str, Any]) -> bool:
    states = [p["state"] for p in status["peers"]]
    up = [s for s in status["servers"] if s["state"] == "up"]
    totals, search = status["totals"], status["search"]
    return (
        states == ["alive", "alive"]
        and len(up) == len(status["servers"]) >= SERVERS_MIN
        and totals["tools"] >= TOOLS_MIN
        and not search["pending"]
    )


def _say(step: int, text: str) -> None:
    console.print(f"\n[bold cyan]{step}[/] {text}", soft_wrap=True)


def _wait(text: str) -> None:
    console.print(text, style="dim", soft_wrap=True)


def _table(status: dict[str, Any]) -> None:
    table = Table("node", "region", "state", "servers", "tools", title=None, pad_edge=False, box=None)
    servers = status["servers"]
    me = status["node"]
    for name, region, state in [(me["name"], me["region"], "this node")] + [
        (p["name"], p["region"], p["state"]) for p in status["peers"]
    ]:
        own = [s for s in servers if s["owner"] == name]
        names = ", ".join(f"{s['name']}{'*' if s['service'] else ''}" for s in own)
        table.add_row(name, region, state, names, str(sum(s["tools"] for s in own)))
    console.print(table)
    search = status["search"]
    how = f"{search['mode']}, {search['embedder']}" if search["embedder"] else f"{search['mode']}: {search['problem']}"
    console.print(
        f"{status['totals']['tools']} tools; search is {how}. * replicated service", style="dim", soft_wrap=True
    )


def _hits(hits: list[dict[str, Any]]) -> None:
    table = Table("score", "server", "tool", "region", "what it does", box=None, pad_edge=False)
    for hit in hits[:3]:
        what = shorten(str(hit.get("description") or "").partition("\n")[0], WHAT_CHARS_MAX, placeholder=" …")
        table.add_row(f"{hit['score']:.2f}", hit["mcp_server_name"], hit["mcp_tool_name"], hit["region"], what)
    console.print(table)


def _result(text: str, call: dict[str, Any]) -> None:
    route = f"agent → {call['entry']} (eu) → {call['owner']} ({call['region']}), {call['took_ms']:.1f} ms"
    if call["attempts"] > 1:
        route += f", {call['attempts']} owners tried"
    console.print(Panel(text[:600], title=route, title_align="left", border_style="green"))


def _addresses(world: World) -> None:
    console.print("\nTry it by hand:")
    for node in world.nodes.values():
        console.print(f"  {node.name}  {node.url}/mcp   servers: {', '.join(node.servers)}", soft_wrap=True)
    block = {"mcpServers": {"toolmesh": {"type": "http", "url": f"{world.nodes['eu'].url}/mcp"}}}
    console.print("\nFor an agent's configuration:")
    console.print_json(json.dumps(block))
    url = world.nodes["eu"].url
    called = Path(sys.argv[0])
    on_path = shutil.which(called.name)
    program = called.name if on_path and Path(on_path).samefile(called) else str(called)
    console.print(f"  {program} status --url {url}\n  {program} search 'convert units' --url {url}", soft_wrap=True)


def _expect(value: Any, what: str) -> Any:
    if not value:
        raise Unavailable(f"not as told: {what}")
    return value
