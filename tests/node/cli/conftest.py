"""A node's HTTP side in a thread of its own: the real ingress and operator API over small in-memory twins."""

from __future__ import annotations

import asyncio
import hashlib
import os
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from aiohttp import web

from node.cli import main
from node.guard.keys import ApiKey
from node.ingress.http import IngressSettings, McpIngress
from node.operator.api import OperatorApi
from node.ports import Caller, ChangeListener
from proto.calls import Answer, Exchange
from proto.errors import Conflict, Invalid, Unknown
from router.arguments import Search
from tests.node.keyed import keyed

KEY = "key-of-the-operator"


@dataclass(frozen=True)
class Ran:
    status: int
    out: str
    err: str


Run = Callable[..., Ran]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run `toolmesh ARGS` in this process, without settings from the outside."""
    for name in [n for n in os.environ if n.startswith("TOOLMESH_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.setenv("COLUMNS", "200")

    def run_it(*args: str, **environment: str) -> Ran:
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(sys, "argv", ["toolmesh", *args])
        capsys.readouterr()
        status = 0
        try:
            main()
        except SystemExit as e:
            status = e.code if isinstance(e.code, int) else 1 if e.code else 0
        out, err = capsys.readouterr()
        assert "Traceback" not in out + err
        return Ran(status, out, err)

    return run_it


HIT = {
    "server": "weather",
    "tool": "forecast",
    "description": "What the sky will be like.\nMore.",
    "signature": "forecast(city: string)",
    "score": 0.8125,
    "owner": "ap-1",
    "region": "ap",
    "health": "up",
    "replicas": [],
}
WHY = {"words": 0.5, "meaning": 2.25, "name": 0.0, "preference": -0.05, "words_rank": 3, "meaning_rank": 1}
SERVER = {
    "name": "weather",
    "qualified": "weather--ap-1",
    "owner": "ap-1",
    "region": "ap",
    "state": "down",
    "cause": "exited with status 3 \x1b[2J",
    "tools": 4,
    "service": "",
    "stateless": True,
}


PEER = {
    "name": "ap-1", "region": "ap", "address": "127.0.0.1:3", "state": "suspect", "cause": "stream broke",
    "since_s": 75.0, "heard_s": 4.0, "epoch": 1, "seq": 2, "lag_changes": None, "lag_s": None, "lacks": 3, "tools": 4,
    "listed": True, "rejected": 2, "refused_there": 0, "view_matches": None, "last_error": "", "software": "toolmesh/1",
    "protocol": 1, "skew_ms": None, "rtt_ms": 0.51, "certificate_expires_at": "2099-01-01T00:00:00Z",
    "received_bytes_s": 1234.0, "sent_bytes_s": 10.0, "calls_s": 0.5,
}  # fmt: skip
REFUSAL = {
    "side": "here", "who": "10.0.0.9:7401", "reason": "certificate", "message": "a foreign CA\x1b[2J", "count": 7,
    "first_at": "2026-01-01T00:00:00Z", "last_at": "2026-01-01T00:01:00Z",
}  # fmt: skip
ALARM = {
    "about": "spiffe://m/region/ap/node/ap-1", "name": "clone", "message": "two processes speak as ap-1: stop one",
    "count": 2, "first_at": "2026-01-01T00:00:00Z", "last_at": "2026-01-01T00:01:00Z",
}  # fmt: skip
PEER_DETAIL = {
    **PEER, "id": "spiffe://m/region/ap/node/ap-1", "records": 5, "features": ["refuse"], "roles": ["authority"],
    "own_calls": 1.0, "own_lag_ms": 2.0,
    "rejected_records": [{"kind": "tool", "id": "weather/bad", "reason": "its body has 9 MiB"}],
    "refused_there_records": [],
    "history": [
        {"at": "2026-01-01T00:00:00Z", "state": "alive", "cause": ""},
        {"at": "2026-01-01T00:01:00Z", "state": "suspect", "cause": "stream broke"},
    ],
    "refusals": [REFUSAL], "alarms": [ALARM],
}  # fmt: skip
EXPLANATION = {
    "server": "weather", "tool": "forecast", "principal": "op", "visible": True, "callable": True,
    "verdict": "visible to op; a call now goes to ap-1 (another region)",
    "findings": [
        {"about": "name", "ok": True, "text": "tool 'forecast' of 'weather', a server of ap-1", "mend": ""},
        {"about": "owner", "ok": False, "text": "us-1 (us) is down\x1b[2J", "mend": "start it again"},
        {"about": "search", "ok": None, "text": "search finds it by its words only", "mend": ""},
    ],
    "owners": [
        {"node": "ap-1", "region": "ap", "qualified": "weather--ap-1", "state": "alive", "server": "up",
         "digest": "0a1b2c3d", "in_flight": 2, "latency_ms": 3.25, "warmth": 1.0, "why_not": ""},
        {"node": "us-1", "region": "us", "qualified": "weather--us-1", "state": "down", "server": "unknown",
         "digest": "", "in_flight": 0, "latency_ms": 0.0, "warmth": 1.0, "why_not": "it is not up"},
    ],
}  # fmt: skip


class Twin:
    """Operator and endpoint in one: what it was asked is in `asked`."""

    def __init__(self) -> None:
        self.asked: list[tuple[Any, ...]] = []
        self.result: dict[str, Any] = {"content": [{"type": "text", "text": "12 °C"}]}
        self.confidence = "high"

    def ready(self) -> str:
        return ""

    def status(self) -> Any:
        node = {
            "name": "eu-1", "id": "spiffe://m/region/eu/node/eu-1", "region": "eu", "zone": "", "mesh": "m",
            "version": "1", "started_at": "2026-01-01T00:00:00Z", "http": "127.0.0.1:1", "grpc": "127.0.0.1:2",
            "draining": False, "loaded": True, "certificate_expires_at": None,
        }  # fmt: skip
        search = {"mode": "lexical", "embedder": "", "tools": 4, "embedded": 0, "pending": 4, "problem": "no weights"}
        totals = {"servers": 1, "tools": 4, "calls": 9, "failed": 1}
        found = {"refusals": [REFUSAL], "alarms": [ALARM]}
        return {"node": node, "peers": [PEER], "servers": [SERVER], "search": search, "totals": totals, **found}

    def software(self) -> str:
        return "toolmesh/1"

    def peers(self) -> list[Any]:
        return [PEER]

    def peer(self, name: str) -> Any:
        if name != PEER["name"]:
            raise Invalid(f"no peer of this node is named {name!r}; there are: ap-1")
        return PEER_DETAIL

    def explain(self, server: str, tool: str, principal: str, asker: Any) -> Any:
        self.asked.append((server, tool, principal, asker.subject))
        return {**EXPLANATION, "callable": self.confidence == "high"}

    async def metrics(self) -> tuple[bytes, str]:
        return b"", "text/plain"

    async def drain(self, on: bool, wait_s: float) -> Any:
        self.asked.append((on, wait_s))
        return {"draining": on, "in_flight": 0, "for_peers": 0, "sessions": 0, "done": on}

    async def leave(self, wait_s: float, cut: bool) -> Any:
        self.asked.append((wait_s, cut))
        return {"left": False, "in_flight": 1, "for_peers": 0, "sessions": 0, "told": [], "untold": []}

    def calls(self, most: int) -> list[dict[str, Any]]:
        return []

    async def search(self, asked: Search, k: int, principal: Any, *, explain: bool = False) -> Any:
        query = asked.task
        self.asked.append((query, k, principal.subject))
        self.searched = asked, explain
        hits = [{**HIT, **({"why": WHY} if explain else {})}] if query != "nothing" else []
        return {"query": query, "mode": "hybrid", "confidence": self.confidence, "took_ms": 1.0, "hits": hits}

    def servers(self, principal: Any) -> list[Any]:
        return [SERVER]

    def endpoint(self, name: str | None) -> Any:
        return self

    def subscribe_changes(self, listener: ChangeListener) -> None: ...

    def unsubscribe_changes(self, listener: ChangeListener) -> None: ...

    def describe(self, caller: Caller) -> dict[str, Any]:
        return {"serverInfo": {"name": "twin", "version": "1"}, "capabilities": {"tools": {}}}

    def header_schema(self, tool: str, caller: Caller) -> dict[str, Any] | None:
        return None

    async def handle(self, method: str, params: dict[str, Any], caller: Caller, exchange: Exchange) -> Answer:
        assert method == "tools/call"
        assert params["name"] == "use_tool"
        arguments = params["arguments"]
        self.asked.append((arguments, caller.principal.subject, caller.era))
        match arguments["mcp_server_name"]:
            case "nowhere":
                raise Unknown("no server named 'nowhere'")
            case "twofold":
                raise Conflict("'twofold' is ambiguous: use twofold--eu-1 or twofold--ap-1")
            case "foreign":
                return {"error": {"code": -32050, "message": "the upstream's own"}}
            case "slow":
                # The ingress turns a POST that is not answered at once into a stream.
                await asyncio.sleep(0.05)
        return {"result": self.result}


@dataclass
class Node:
    url: str
    twin: Twin
    key: str = KEY
    environment: dict[str, str] = field(default_factory=dict)


@pytest.fixture
def node() -> Iterator[Node]:
    twin = Twin()
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    async def start() -> tuple[web.AppRunner, McpIngress]:
        digest = hashlib.sha256(KEY.encode()).digest()
        authenticator = keyed([ApiKey("op", digest, scopes=("operator",))], "m")
        ingress = McpIngress(twin, authenticator, IngressSettings(promote_after_s=0.01))
        app = web.Application()
        app.add_routes(ingress.routes())
        app.add_routes(OperatorApi(twin, authenticator).routes())
        runner = web.AppRunner(app, handler_cancellation=True)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        return runner, ingress

    async def stop(runner: web.AppRunner, ingress: McpIngress) -> None:
        await ingress.close()
        await runner.cleanup()

    runner, ingress = asyncio.run_coroutine_threadsafe(start(), loop).result(10)
    try:
        url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        yield Node(url, twin, environment={"TOOLMESH_URL": url, "TOOLMESH_KEY": KEY})
    finally:
        asyncio.run_coroutine_threadsafe(stop(runner, ingress), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()
