"""One way to ask for each transport, so that the same row of a table can be asked over all of them.

`opened(world, who, transport, path)` gives a road, or what the node said instead. Every answer is a `Said`.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import secrets
import sys
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import aiohttp

from federation.ca import issue
from federation.tls import MeshTls
from proto import mesh_pb2 as pb
from proto.names import NodeId
from tests.matrix.world import ISSUER, MESH, PATIENCE_S, PEOPLE, World
from tests.wire.raw import Up, dialling

MODERN, LEGACY, BATCHES = "2026-07-28", "2025-11-25", "2025-03-26"
META = "io.modelcontextprotocol/"
BOTH = "application/json, text/event-stream"
ROOT = Path(__file__).parents[2]
TASKS = "io.modelcontextprotocol/tasks"


def envelope(method: str, params: dict[str, Any]) -> dict[str, Any]:
    """Tasks are declared where they are asked for, and nowhere else: who declares something has a session of his own
    with a server that needs sessions, and what he changes there the node's own session does not see."""
    about_tasks = method.startswith("tasks/") or params.get("name") == "task"
    capabilities = {"extensions": {TASKS: {}}} if about_tasks else {}
    return {META + "protocolVersion": MODERN, META + "clientCapabilities": capabilities}


@dataclass
class Said:
    """What came back: the HTTP status (0 where there is none), the message, and everything else that was heard.

    `raw` is all of it as bytes, headers too: what must not differ between what is hidden and what is not there.
    """

    status: int
    message: dict[str, Any]
    raw: bytes
    events: list[dict[str, Any]] = field(default_factory=list)


class Road(Protocol):
    async def ask(self, method: str, params: dict[str, Any]) -> Said: ...


def sse(text: str) -> list[dict[str, Any]]:
    """The messages of a stream; a batch is given apart."""
    said = [json.loads(line[6:]) for line in text.splitlines() if line.startswith(("data: {", "data: ["))]
    return [message for one in said for message in (one if isinstance(one, list) else [one])]


def initialize(version: str = LEGACY) -> dict[str, Any]:
    params = {"protocolVersion": version, "capabilities": {}, "clientInfo": {"name": "m", "version": "1"}}
    return {"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params}


class _Http:
    def __init__(self, world: World, who: str, path: str, at: str) -> None:
        self.world, self.who, self.path, self.at = world, who, path, at
        self.more: dict[str, str] = {}

    async def post(self, message: Any, **headers: str) -> Said:
        asked = {"Accept": BOTH, **self.more, **headers}
        status, told, body = await self.world.ask(self.who, "POST", self.path, message, at=self.at, **asked)
        told.pop("mcp-session-id", None)
        text = body.decode()
        heard = sse(text) if told.get("content-type", "").startswith("text/event-stream") else []
        if not heard and text.startswith(("{", "[")):
            said = json.loads(text)
            heard = said if isinstance(said, list) else [said]
        return Said(status, heard[-1] if heard else {}, json.dumps([status, sorted(told.items())]).encode() + body,
                    heard[:-1])  # fmt: skip


class Modern(_Http):
    """Streamable HTTP of 2026-07-28: each POST for itself."""

    async def ask(self, method: str, params: dict[str, Any]) -> Said:
        meta = {**params.get("_meta", {}), **envelope(method, params)}
        message = {"jsonrpc": "2.0", "id": 1, "method": method, "params": {**params, "_meta": meta}}
        headers = {"MCP-Protocol-Version": MODERN, "Mcp-Method": method}
        named = params.get("name", params.get("uri", params.get("taskId")))
        if isinstance(named, str):
            headers["Mcp-Name"] = named
        if method == "subscriptions/listen":
            return await self._listened(message, headers)
        return await self.post(message, **headers)

    async def _listened(self, message: dict[str, Any], headers: dict[str, str]) -> Said:
        """The first thing said on a stream that has no end."""
        sent = {**self.world.headers(self.who), "Accept": BOTH, **headers}
        url = self.world.nodes[self.at].url + self.path
        async with asyncio.timeout(PATIENCE_S), self.world.http.post(url, json=message, headers=sent) as answer:
            if answer.content_type != "text/event-stream":
                body = await answer.read()
                return Said(answer.status, json.loads(body), b"%d" % answer.status + body)
            async for line in answer.content:
                if line.startswith(b"data: {"):
                    first = json.loads(line[6:])
                    told = first if "id" in first else {"result": first.get("params")}
                    return Said(answer.status, told, line)
        raise AssertionError("nothing was said")


class Session(_Http):
    """Streamable HTTP before 2026-07-28."""

    def __init__(self, world: World, who: str, path: str, at: str, version: str = LEGACY) -> None:
        super().__init__(world, who, path, at)
        self.version = version
        self._ids = itertools.count(1)

    async def open(self) -> Said:
        sent = {"Accept": BOTH}
        status, told, body = await self.world.ask(
            self.who, "POST", self.path, initialize(self.version), at=self.at, **sent
        )
        session = told.pop("mcp-session-id", "")
        self.more = {"Mcp-Session-Id": session, "MCP-Protocol-Version": self.version}
        said = json.loads(body) if body.startswith(b"{") else {}
        return Said(status, said, json.dumps([status, sorted(told.items())]).encode() + body)

    async def ask(self, method: str, params: dict[str, Any]) -> Said:
        # One id for all, so that answers can be compared.
        return await self.post({"jsonrpc": "2.0", "id": 1, "method": method, "params": params})

    async def close(self) -> None:
        await self.world.ask(self.who, "DELETE", self.path, at=self.at, **self.more)


class _Duplex(ABC):
    """One conversation in which answers come among notifications."""

    def __init__(self, modern: bool = False) -> None:
        self.modern = modern
        self._id = 0

    @abstractmethod
    async def say(self, message: dict[str, Any]) -> None: ...

    @abstractmethod
    async def hear(self) -> dict[str, Any]: ...

    async def open(self) -> Said:
        if self.modern:
            return Said(0, {"result": {}}, b"")
        await self.say(initialize())
        said = await self.hear()
        if "result" in said:
            await self.say({"jsonrpc": "2.0", "method": "notifications/initialized"})
        return Said(0, said, json.dumps(said).encode())

    async def ask(self, method: str, params: dict[str, Any]) -> Said:
        self._id += 1
        if self.modern:
            params = {**params, "_meta": {**params.get("_meta", {}), **envelope(method, params)}}
        await self.say({"jsonrpc": "2.0", "id": self._id, "method": method, "params": params})
        events = []
        async with asyncio.timeout(PATIENCE_S):
            while (said := await self.hear()).get("id") != self._id:
                events.append(said)
                if self.modern and method == "subscriptions/listen":
                    said = {"result": said.get("params")}
                    break
        told = {**said, "id": 0}
        return Said(0, told, json.dumps(told).encode(), events)


class WebSocket(_Duplex):
    def __init__(self, socket: aiohttp.ClientWebSocketResponse, modern: bool) -> None:
        super().__init__(modern)
        self.socket = socket

    async def say(self, message: dict[str, Any]) -> None:
        await self.socket.send_str(json.dumps(message))

    async def hear(self) -> dict[str, Any]:
        frame = await self.socket.receive(PATIENCE_S)
        assert frame.type is aiohttp.WSMsgType.TEXT, frame
        told: dict[str, Any] = json.loads(frame.data)
        return told


class Sse(_Duplex):
    def __init__(self, world: World, who: str, at: str, stream: aiohttp.ClientResponse) -> None:
        super().__init__()
        self.world, self.who, self.at, self._stream = world, who, at, stream
        self.address = ""

    async def data(self) -> str:
        async for line in self._stream.content:
            if line.startswith(b"data: "):
                return line[6:].decode().strip()
        raise AssertionError("the stream has ended")

    async def say(self, message: dict[str, Any]) -> None:
        status, _, said = await self.world.ask(self.who, "POST", self.address, message, at=self.at)
        assert status == 202, said

    async def hear(self) -> dict[str, Any]:
        told: dict[str, Any] = json.loads(await self.data())
        return told


class Pipe(_Duplex):
    """`toolmesh stdio`, a process of its own."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        super().__init__()
        self._process = process

    async def say(self, message: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(message).encode() + b"\n")
        await self._process.stdin.drain()

    async def hear(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        async with asyncio.timeout(PATIENCE_S):
            line = await self._process.stdout.readline()
        told: dict[str, Any] = json.loads(line) if line else {"error": {"data": {"kind": "unauthenticated"}}}
        return told


class Forward:
    """A peer's stream of calls to the owner itself: an honest node that says for whom it asks."""

    def __init__(self, up: Up, who: str, server: str, peer: str) -> None:
        self._up, self._who, self._server, self._peer = up, who, server, peer
        # An owner answers an id that it knows with what it answered before.
        self._life = secrets.token_hex(8)
        self._ids = itertools.count(1)

    async def ask(self, method: str, params: dict[str, Any]) -> Said:
        call_id = f"{self._life}-{next(self._ids)}"
        opening = pb.Open(
            server=self._server, method=method, params=json.dumps(params).encode(), session_key=call_id,
            client_capabilities=b"{}", era=LEGACY, principal=principal_of(self._who), budget_ms=20_000,
            via=[self._peer],
        )  # fmt: skip
        await self._up.say(pb.CallUp(call_id=call_id, open=opening).SerializeToString())
        events: list[dict[str, Any]] = []
        while True:
            data = await self._up.hear()
            assert data is not None, "the stream has ended"
            down = pb.CallDown.FromString(data)
            if down.call_id != call_id:
                continue
            match down.WhichOneof("frame"):
                case "event":
                    events.append(json.loads(down.event.notification))
                    if method == "subscriptions/listen":
                        await self._up.say(pb.CallUp(call_id=call_id, cancel=pb.Cancel()).SerializeToString())
                        return Said(0, {"result": {}}, down.event.notification, events)
                case "result":
                    return Said(0, json.loads(down.result.answer), down.result.answer, events)
                case "error":
                    kind = pb.ErrorKind.Name(down.error.kind).removeprefix("ERROR_KIND_").lower()
                    data = json.loads(down.error.data or b"{}")
                    told = {"error": {"message": down.error.message, "data": {**data, "kind": kind}}}
                    return Said(0, told, down.error.SerializeToString(), events)


def principal_of(who: str) -> pb.Principal:
    """As `east` would vouch for them."""
    if who == "none":
        return pb.Principal(subject="anonymous", kind="anonymous")
    said = PEOPLE["user" if who in ("wrong", "expired") else "admin" if who == "revoked" else who]
    token = who in ("user", "wrong", "expired")
    return pb.Principal(
        subject="user" if token else who,
        issuer=ISSUER if token else MESH,
        tenant=said.get("tenant", ""),
        groups=said["groups"],
        scopes=said.get("scopes", []),
        kind="user" if token or who == "reader" else "key",
        credential="jti/1" if token else f"user/{who}" if who == "reader" else f"key/{who}",
        expires_s=1_600_000_000 if who == "expired" else 0,
    )


@asynccontextmanager
async def peering(world: World, name: str = "honest") -> AsyncIterator[Any]:
    """A dialler with a certificate of the mesh, connected to the owner."""
    folder = world.base / name
    if not folder.exists():
        issue(world.base / "mesh", NodeId.of(MESH, "eu", name), folder, hosts=["127.0.0.1"])
    found = {what: next(folder.glob(f"*{what}.pem")) for what in ("ca", "-key")}
    cert = next(f for f in folder.glob("*.pem") if f not in found.values())
    tls = MeshTls.load(found["ca"], cert, found["-key"])
    assert world.owner.federation is not None
    address = f"127.0.0.1:{world.owner.federation.bound_port}"
    async with dialling(tls, address, NodeId.of(MESH, "eu", "west")) as dialler:
        yield dialler


TRANSPORTS = ("modern", "legacy", "sse", "ws", "ws-modern")
_ROOTS = {"sse": "/sse", "ws": "/ws", "ws-modern": "/ws"}


def path_of(transport: str, path: str) -> str:
    """Of `/mcp…` under another transport."""
    return _ROOTS[transport] + path.removeprefix("/mcp") if transport in _ROOTS else path


async def opened(
    stack: AsyncExitStack, world: World, who: str, transport: str, path: str, at: str = "east"
) -> Road | Said:
    """A road to ask on, or what was said instead of opening one."""
    path = path_of(transport, path)
    if transport == "modern":
        return Modern(world, who, path, at)
    if transport == "legacy":
        session = Session(world, who, path, at)
        said = await session.open()
        if "result" in said.message:
            stack.push_async_callback(session.close)
            return session
        return said
    url, headers = world.nodes[at].url + path, world.headers(who)
    road: _Duplex
    if transport == "sse":
        stream = await stack.enter_async_context(world.http.get(url, headers=headers))
        if stream.status != 200:
            return Said(stream.status, json.loads(await stream.read()), b"")
        road = sse_road = Sse(world, who, at, stream)
        sse_road.address = await sse_road.data()
    else:
        try:
            socket = await stack.enter_async_context(world.http.ws_connect(url, headers=headers))
        except aiohttp.WSServerHandshakeError as e:
            return Said(e.status, {"error": {"data": {"kind": "unauthenticated"}}}, b"")
        road = WebSocket(socket, transport == "ws-modern")
    said = await road.open()
    return road if "result" in said.message else said


async def piped(stack: AsyncExitStack, world: World, who: str) -> Road | Said:
    """`toolmesh stdio` of the authority's node, which serves without TLS."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("TOOLMESH_")}
    key = {"TOOLMESH_KEY": world.bearer(who)} if world.bearer(who) else {}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "node.cli", "stdio", "--url", world.nodes["lord"].url,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        env={**clean, "PYTHONPATH": str(ROOT), "XDG_DATA_HOME": str(world.base), **key}, cwd=world.base, limit=2**24,
    )  # fmt: skip

    async def end() -> None:
        assert process.stdin is not None
        process.stdin.close()
        async with asyncio.timeout(PATIENCE_S):
            await process.communicate()

    stack.push_async_callback(end)
    road = Pipe(process)
    try:
        said = await road.open()
    except (ConnectionError, BrokenPipeError):
        return Said(401, {"error": {"data": {"kind": "unauthenticated"}}}, b"")
    return road if "result" in said.message else said
