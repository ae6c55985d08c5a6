"""One node with every real server behind it, and agents of both eras that call through it."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mcp.client import Client
from mcp_types import (
    CreateMessageRequestParams,
    CreateMessageResult,
    ElicitRequestParams,
    ElicitResult,
    ListRootsResult,
    LoggingMessageNotificationParams,
    Root,
    TextContent,
)

from node.app import App
from node.config import parse
from node.demo.world import free_port
from node.upstreams.offer import Offer

HERE = Path(__file__).parent
NPM = HERE / "node_modules" / ".bin"
VENVS = HERE / ".venvs"
PYPI = HERE.parents[1] / ".venv" / "bin"

SQLITE = {"1.6.0": "2024-11-05", "1.9.4": "2025-03-26", "1.13.0": "2025-06-18", "1.30.0": "2025-11-25"}
"""Version of the SDK → the latest revision that it speaks."""
ERAS = ("legacy", "auto")
"""Modes of the SDK's client; `auto` finds out that the node speaks 2026-07-28."""
ASKS = "trigger-sampling-request"
"""A tool that is listed only for clients which can be asked: a survey finds it some time after the start."""
PATIENCE_S = 60.0


def lacking() -> str:
    """What is not installed here; empty if all is."""
    wanted = [NPM / "mcp-server-everything", *(VENVS / f"mcp-{v}" / ".ready" for v in SQLITE), PYPI / "mcp-server-time"]
    if shutil.which("node") is None or not all(path.exists() for path in wanted):
        return "the real servers are not installed: make servers"
    return ""


def sqlite(version: str) -> str:
    return f"sqlite-{version.replace('.', '-')}"


class World:
    """Built stopped. `url` is the node's; `files` is what the filesystem server may see."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.files = base / "files"
        self.app: App | None = None
        self._processes: list[subprocess.Popen[bytes]] = []

    @property
    def url(self) -> str:
        assert self.app is not None
        return self.app.url

    def command_of_sqlite(self, version: str, database: str) -> list[str]:
        return [str(VENVS / f"mcp-{version}" / "bin" / "mcp-server-sqlite"), "--db-path", str(self.base / database)]

    async def start(self) -> None:
        self.files.mkdir()
        repository = self.base / "repository"
        git = await asyncio.create_subprocess_exec("git", "init", "-q", "-b", "main", str(repository))
        assert await git.wait() == 0
        servers: dict[str, Any] = {sqlite(v): {"command": self.command_of_sqlite(v, f"{v}.db")} for v in SQLITE}
        servers |= {
            "everything": {"command": [str(NPM / "mcp-server-everything")]},
            "everything-http": {"url": f"http://127.0.0.1:{self._serve('streamableHttp')}/mcp"},
            "everything-sse": {"url": f"http://127.0.0.1:{self._serve('sse')}/sse"},
            "filesystem": {"command": [str(NPM / "mcp-server-filesystem"), str(self.files)]},
            "memory": {
                "command": [str(NPM / "mcp-server-memory")],
                "env": {"MEMORY_FILE_PATH": str(self.base / "memory.jsonl")},
            },
            "thinking": {"command": [str(NPM / "mcp-server-sequential-thinking")]},
            "time": {"command": [str(PYPI / "mcp-server-time"), "--local-timezone", "UTC"]},
            "git": {"command": [str(PYPI / "mcp-server-git"), "--repository", str(repository)]},
        }
        settings = {"http": {"listen": "127.0.0.1:0"}, "search": {"embedder": "none"}, "servers": servers}
        self.app = App(parse(settings, self.base))
        await self.app.start()
        async with asyncio.timeout(PATIENCE_S):
            for name in servers:
                await self.until_up(name)

    async def until_up(self, name: str) -> Offer:
        """What the server offers. Those at an address may be asked before they listen, and are then asked again."""
        return await self.until(name, lambda offer: offer.health.state == "up")

    async def until(self, name: str, holds: Callable[[Offer], bool]) -> Offer:
        assert self.app is not None
        upstream = self.app.hosting._upstreams[name]
        while not holds(upstream.offer):  # noqa: ASYNC110 - the offer is the hosting's to hear of
            await asyncio.sleep(0.05)
        return upstream.offer

    async def surveyed(self, name: str) -> None:
        """Until what the server lists only for clients that can be asked is offered too."""
        async with asyncio.timeout(PATIENCE_S):
            await self.until(name, lambda offer: any(t["name"] == ASKS for t in offer.tools))

    def _serve(self, kind: str) -> int:
        port = free_port(0)
        environment = {**os.environ, "PORT": str(port)}
        self._processes.append(
            subprocess.Popen(
                [str(NPM / "mcp-server-everything"), kind],
                env=environment,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
        )
        return port

    async def stop(self) -> None:
        if self.app is not None:
            await self.app.stop()
        for process in self._processes:
            process.kill()
            process.wait()


class Agent:
    """A client of the SDK that can be asked anything, and keeps what it was asked and told."""

    def __init__(self, url: str, era: str, *, can: bool = True) -> None:
        self.asked: list[Any] = []
        self.told: list[LoggingMessageNotificationParams] = []
        self.updated: asyncio.Queue[str] = asyncio.Queue()
        self.logged = asyncio.Event()
        asked = {
            "sampling_callback": self._sample,
            "elicitation_callback": self._elicit,
            "list_roots_callback": self._roots,
        }
        self.client = Client(
            url,
            mode=era,
            logging_callback=self._log,
            message_handler=self._hear,
            log_level="debug" if era != "legacy" else None,
            **(asked if can else {}),  # type: ignore[arg-type]
        )

    async def _sample(self, context: Any, params: CreateMessageRequestParams) -> CreateMessageResult:
        self.asked.append(params)
        return CreateMessageResult(
            role="assistant", content=TextContent(type="text", text="a sampled answer"), model="none"
        )

    async def _elicit(self, context: Any, params: ElicitRequestParams) -> ElicitResult:
        self.asked.append(params)
        return ElicitResult(action="accept", content={"name": "Ada"})

    async def _roots(self, context: Any) -> ListRootsResult:
        self.asked.append("roots")
        return ListRootsResult(roots=[Root(uri="file:///workspace/mesh", name="workspace")])

    async def _log(self, params: LoggingMessageNotificationParams) -> None:
        self.told.append(params)
        self.logged.set()

    async def _hear(self, message: Any) -> None:
        if getattr(message, "method", "") == "notifications/resources/updated":
            self.updated.put_nowait(str(message.params.uri))


def text_of(result: Any) -> str:
    """What a tool said, its texts joined; a result that is an error fails the test."""
    said = "\n".join(part.text for part in result.content if part.type == "text")
    assert not result.is_error, said
    return said
