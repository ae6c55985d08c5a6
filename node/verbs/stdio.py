"""`toolmesh stdio`: a server for desktop agents, which start what they talk to.

It dials a running node; where none answers, it may be the node itself. Standard output belongs to MCP alone.
"""

from __future__ import annotations

import asyncio
import ipaddress
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from node.verbs.address import URL_VARIABLE, key_of, url_of
from node.verbs.descriptors import Sink, Source
from node.verbs.pipe import Ending, Pipe
from node.verbs.websocket import MESSAGE_BYTES_MAX, NoNode, WebSocket
from proto.errors import Unavailable

if TYPE_CHECKING:
    from node.config import NodeConfig

DATA_DIR_VARIABLE = "TOOLMESH_NODE__DATA_DIR"
SETTLED_AWAITED_S = 20.0
"""So long may the servers that are asked for take to come up, at a node that is started here, before the agent is
served; one that is asked for by name is then waited for as at any node (`http.start_wait_s`)."""
TAKEN_EVERY_S = 0.2
TAKEN_TRIES = 25
"""Another process may be starting the same node: it is looked for as often."""


def path_of(server: str, everything: bool) -> str:
    """The WebSocket address of the three meta-tools, of one server, or of everything."""
    return "/ws-all" if everything else f"/ws/{quote(server, safe='')}" if server else "/ws"


def run(url: str | None, key_file: Path | None, config: Path | None, path: str) -> int:
    """The exit status: 0 once the agent has left, 1 if the node was lost. Raises `MeshError` before that."""
    # Whatever else this process prints must not reach the agent.
    output = os.dup(sys.stdout.fileno())
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    return asyncio.run(_run(url, key_of(key_file), config, path, output))


async def _run(url: str | None, key: str, config: Path | None, path: str, output: int) -> int:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    agent = Agent(Source(sys.stdin.fileno(), MESSAGE_BYTES_MAX), Sink(output), stop)
    named = url or os.environ.get(URL_VARIABLE)
    # The address of a configured node is in its configuration, which takes a while to load.
    loaded = _load(config) if config is not None and not named else None
    address = url_of(named) if loaded is None else _address_of(loaded, loaded.http.port)
    if address:
        try:
            return await agent.converse(await WebSocket.dial(address, path, key))
        except NoNode as e:
            if named and config is None:
                # Who names a node wants that one.
                raise
            _say(f"{e.message}; starting one in this process")
    return await _serve(loaded or _load(config), named or "", path, key, agent)


class Agent:
    """Who started this process. It is left to itself once `stop` is set."""

    def __init__(self, source: Source, sink: Sink, stop: asyncio.Event) -> None:
        self._source = source
        self._sink = sink
        self.stop = stop

    async def converse(self, socket: WebSocket) -> int:
        """The whole conversation; closes the socket. The exit status."""
        loop = asyncio.get_running_loop()
        pipe = Pipe(socket, self._source, self._sink)
        running, stopping = loop.create_task(pipe.run()), loop.create_task(self.stop.wait())
        try:
            await asyncio.wait((running, stopping), return_when=asyncio.FIRST_COMPLETED)
            if not running.done() or running.result() is Ending.AGENT_LEFT:
                return 0
            _say("the connection to the node was lost")
            await pipe.fail_open()
            return 1
        finally:
            for task in (running, stopping):
                task.cancel()
            await asyncio.wait((running, stopping))
            await socket.close()


async def _serve(config: NodeConfig, named: str, path: str, key: str, agent: Agent) -> int:
    """Be the node, for this agent and whoever else dials it, until the agent leaves."""
    from node import log

    log.set_up(config.log.level, as_json=config.log.as_json)
    from node.app import App

    app = App(config)
    try:
        try:
            await app.start()
        except Unavailable:
            # The port or the directory is taken, perhaps by a node that another agent has just started.
            socket = await _dialled_late(named or _address_of(config, config.http.port), path, key)
            if socket is None:
                raise
            return await agent.converse(socket)
        ending = asyncio.create_task(app.ending.wait())
        ending.add_done_callback(lambda _: agent.stop.set())
        if path != "/ws":
            # Asked before that, servers have nothing to say of themselves yet. One is not kept waiting for the others.
            with suppress(TimeoutError):
                async with asyncio.timeout(SETTLED_AWAITED_S):
                    await app.hosting.settled(path.removeprefix("/ws/") if path.startswith("/ws/") else "")
        status = await agent.converse(await WebSocket.dial(named or _address_of(config, app.http_port), path, key))
        ending.cancel()
        await app.finish()
        return status
    finally:
        await app.stop()


async def _dialled_late(address: str, path: str, key: str) -> WebSocket | None:
    """The node that is coming up at `address`; None if none does in time."""
    for _ in range(TAKEN_TRIES if address else 0):
        try:
            return await WebSocket.dial(address, path, key)
        except NoNode:
            await asyncio.sleep(TAKEN_EVERY_S)
    return None


def _load(config: Path | None) -> NodeConfig:
    """The configuration; without a file, the defaults, with a directory of this user's own."""
    from node.config import load

    if config is None:
        home = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
        os.environ.setdefault(DATA_DIR_VARIABLE, str(Path(home) / "toolmesh"))
    return load(config)


def _address_of(config: NodeConfig, port: int) -> str:
    """Where a node of this configuration is dialled on this machine; empty if the system is to choose the port."""
    if not port:
        return ""
    host = config.http.host
    with suppress(ValueError):
        ip = ipaddress.ip_address(host)
        if ip.is_unspecified:
            host = "127.0.0.1" if ip.version == 4 else "::1"
    scheme = "https" if config.http.tls else "http"
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}"


def _say(line: str) -> None:
    print(f"toolmesh: {line}", file=sys.stderr, flush=True)
