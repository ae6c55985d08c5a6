"""A headless Chromium over its own debugging protocol (CDP), which clicks and types as a person does."""

from __future__ import annotations

import asyncio
import itertools
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--remote-debugging-port=0"),
)
START_S = 30.0
PATIENCE_S = 20.0


def lacking() -> str:
    return "" if shutil.which("chromium") else "chromium is missing: apt-get install chromium"


class Tab:
    """One page. `said` holds what the browser wrote to its console, refusals by a page's policy among it."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._ids = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._loaded = asyncio.Event()
        self.said: list[str] = []
        self._reading = asyncio.create_task(self._read())

    async def do(self, method: str, **params: Any) -> dict[str, Any]:
        n = next(self._ids)
        answer = self._waiting[n] = asyncio.get_running_loop().create_future()
        await self._socket.send_json({"id": n, "method": method, "params": params})
        async with asyncio.timeout(PATIENCE_S):
            return await answer

    async def open(self, url: str) -> None:
        self._loaded.clear()
        went = await self.do("Page.navigate", url=url)
        assert "errorText" not in went, went
        await self._wait()

    async def text(self) -> str:
        return str(await self.value("document.body.innerText"))

    async def url(self) -> str:
        return str(await self.value("location.href"))

    async def value(self, expression: str) -> Any:
        found = await self.do("Runtime.evaluate", expression=expression, returnByValue=True)
        return found["result"].get("value")

    async def type(self, selector: str, text: str) -> None:
        await self.do("DOM.focus", nodeId=await self._node(selector))
        await self.do("Input.insertText", text=text)

    async def click(self, selector: str, until: str) -> None:
        """Click, and wait for a page whose text holds `until`, over however many others."""
        node = await self._node(selector)
        await self.do("DOM.scrollIntoViewIfNeeded", nodeId=node)
        box = (await self.do("DOM.getBoxModel", nodeId=node))["model"]["content"]
        at = {"x": (box[0] + box[4]) / 2, "y": (box[1] + box[5]) / 2, "button": "left", "clickCount": 1}
        self._loaded.clear()
        for kind in ("mousePressed", "mouseReleased"):
            await self.do("Input.dispatchMouseEvent", type=kind, **at)
        async with asyncio.timeout(PATIENCE_S):
            while True:
                await self._wait()
                self._loaded.clear()
                if until in await self.text():
                    return

    async def close(self) -> None:
        self._reading.cancel()
        await asyncio.gather(self._reading, return_exceptions=True)
        await self._socket.close()

    async def _node(self, selector: str) -> int:
        root = (await self.do("DOM.getDocument"))["root"]["nodeId"]
        node = (await self.do("DOM.querySelector", nodeId=root, selector=selector))["nodeId"]
        assert node, f"there is no {selector} on {await self.url()}: {await self.text()}"
        return int(node)

    async def _wait(self) -> None:
        async with asyncio.timeout(PATIENCE_S):
            await self._loaded.wait()

    async def _read(self) -> None:
        async for message in self._socket:
            told = message.json()
            if "id" in told:
                waiting = self._waiting.pop(told["id"])
                if "error" in told:
                    waiting.set_exception(AssertionError(told["error"]))
                else:
                    waiting.set_result(told["result"])
            elif told["method"] == "Page.loadEventFired":
                self._loaded.set()
            elif told["method"] == "Log.entryAdded":
                self.said.append(told["params"]["entry"]["text"])


@asynccontextmanager
async def chromium(profile: Path) -> AsyncIterator[Tab]:
    """A fresh browser with one tab; its process is gone afterwards."""
    process = await asyncio.create_subprocess_exec(
        "chromium",
        *FLAGS,
        f"--user-data-dir={profile}",
        "about:blank",
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(START_S), aiohttp.ClientSession() as http:
            assert process.stderr is not None
            async for line in process.stderr:
                if b"DevTools listening on ws://" in line:
                    break
            port = line.decode().rpartition("127.0.0.1:")[2].partition("/")[0]
            async with http.get(f"http://127.0.0.1:{port}/json") as answer:
                page = next(t for t in await answer.json() if t["type"] == "page")
        draining = asyncio.create_task(process.stderr.read())
        async with aiohttp.ClientSession() as http:
            tab = Tab(await http.ws_connect(page["webSocketDebuggerUrl"], max_msg_size=0))
            for domain in ("Page", "DOM", "Log", "Runtime", "Network"):
                await tab.do(f"{domain}.enable")
            try:
                yield tab
            finally:
                await tab.close()
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
        await draining
