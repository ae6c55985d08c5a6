"""Run by the Python of a venv that has FastMCP, once for all its cells, since it takes seconds to import.

`fastmcp_client.py` takes `{"cells": {name: [URL, MODE]}, "questions": […]}` on stdin, and says what its client saw in
each cell as one JSON object on stdout. The servers are mirrors (tests/node/mirrored/mirror.py), which ask it everything
that a server may ask.
"""

import asyncio
import json
import sys
import traceback

from fastmcp import Client
from mcp_types import CreateMessageResult, TextContent


async def use(url: str, mode: str, questions: list[dict]) -> dict:
    heard: list[float] = []
    asked: list[str] = []

    async def hear(progress: float, total: float | None, message: str | None) -> None:
        heard.append(progress)

    async def sample(messages: list, params: object, context: object) -> CreateMessageResult:
        asked.append(messages[0].content.text)
        return CreateMessageResult(role="assistant", content=TextContent(type="text", text="sampled"), model="none")

    async def elicit(message: str, response_type: object, params: object, context: object) -> dict:
        asked.append(message)
        return {"name": "Ada"}

    client = Client(
        url,
        mode=mode,
        progress_handler=hear,
        sampling_handler=sample,
        elicitation_handler=elicit,
        roots=["file:///workspace"],
    )
    async with client:
        tools = [tool.name for tool in await client.list_tools()]
        notify = [{"method": "notifications/progress", "params": {"progress": n}} for n in (1, 2)]
        text = {"content": [{"type": "text", "text": "é"}]}
        result = await client.call_tool("mirror", {"notify": notify, "answer": text})
        replies = await client.call_tool("mirror", {"ask": questions})
    return {
        "tools": tools,
        "text": result.content[0].text,
        "heard": heard,
        "asked": asked,
        "replies": replies.structured_content["replies"],
    }


async def main() -> None:
    orders = json.loads(sys.stdin.read())
    found = {}
    for name, (url, mode) in orders["cells"].items():
        try:
            found[name] = await use(url, mode, orders["questions"])
        except Exception:
            found[name] = {"failed": traceback.format_exc()}
    print(json.dumps(found))


asyncio.run(main())
