"""Servers of revision 2026-07-28: no handshake, no session; each request says who asks and in which revision."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

from node.sdk import inbound
from node.upstreams.backoff import Backoff
from node.upstreams.channel import LIST_CHANGED, Channel
from node.upstreams.handshake import Agreement, Declined, agreement, client_info, say_error
from node.upstreams.http import HttpWire
from node.upstreams.listing import Items
from node.upstreams.questions import METHOD_NOT_FOUND
from node.upstreams.wire import Message, logger
from proto.errors import MeshError

MODERN_VERSION = "2026-07-28"

_META = "io.modelcontextprotocol/"
_CLIENT_CAPABILITIES = f"{_META}clientCapabilities"
_NAME_MEMBER = {
    "tools/call": "name",
    "prompts/get": "name",
    "resources/read": "uri",
    "tasks/get": "taskId",
    "tasks/update": "taskId",
    "tasks/cancel": "taskId",
}
"""Which member of params the header `Mcp-Name` repeats."""

_KEPT_CHARS = 200
"""Header values that long are kept as they were written last time, those of 1,000 names; longer ones never."""
_kept = lru_cache(maxsize=1_000)(inbound.encode_header_value)


def envelope(message: Message) -> dict[str, str]:
    """The headers that repeat a message's body, for those who route by headers."""
    method = message.get("method")
    if method is None:
        return {}
    headers = {"Mcp-Method": _header_value(method)}
    member = _NAME_MEMBER.get(method)
    if member is not None and isinstance(name := message.get("params", {}).get(member), str):
        headers["Mcp-Name"] = _header_value(name)
    return headers


def _header_value(text: str) -> str:
    return _kept(text) if len(text) <= _KEPT_CHARS else inbound.encode_header_value(text)


def stamp() -> dict[str, Any]:
    """The members of `_meta` that are the same in every request of ours."""
    return {f"{_META}protocolVersion": MODERN_VERSION, f"{_META}clientInfo": client_info()}


def discover_message() -> Message:
    """`server/discover` as the first and only request on a connection."""
    meta = {**stamp(), _CLIENT_CAPABILITIES: {}}
    return {"jsonrpc": "2.0", "id": 1, "method": "server/discover", "params": {"_meta": meta}}


class Modern:
    """Speaks 2026-07-28 over a channel that was opened for the handshake and had it declined."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._param_headers: dict[str, Mapping[tuple[str, ...], str]] = {}
        self._stamp = stamp()

    async def discover(self) -> Agreement:
        """Change the channel over and ask `server/discover`. Raises `Declined` if that is not answered so."""
        channel = self._channel
        channel.wire.renew()
        channel.dress = self.dress
        if isinstance(channel.wire, HttpWire):
            channel.wire.envelope = self.envelope
            channel.cancel_by_notification = False
        await channel.wire.agreed(MODERN_VERSION)
        answer = await channel.request("server/discover", {})
        if "error" in answer:
            raise Declined(f"server {channel.name!r} declined 'server/discover': {say_error(answer['error'])}")
        result = answer["result"] if isinstance(answer["result"], dict) else {}
        versions = result.get("supportedVersions")
        if not isinstance(versions, list) or MODERN_VERSION not in versions:
            raise Declined(f"server {channel.name!r} supports the revisions {versions!r}, and not {MODERN_VERSION}")
        meta = result.get("_meta")
        info = result.get("serverInfo") or (meta.get(f"{_META}serverInfo") if isinstance(meta, dict) else None)
        return agreement(MODERN_VERSION, info, result, "server/discover")

    def dress(self, params: dict[str, Any], capabilities: dict[str, Any]) -> dict[str, Any]:
        """Params with our envelope, and what the client can do, in `_meta`; whatever else is there stays."""
        meta = params.get("_meta")
        own = {**(meta if isinstance(meta, dict) else {}), **self._stamp, _CLIENT_CAPABILITIES: capabilities}
        return {**params, "_meta": own}

    def envelope(self, message: Message) -> dict[str, str]:
        """As `envelope`, with those arguments that the tool's schema wants repeated."""
        headers = envelope(message)
        if self._param_headers and message.get("method") == "tools/call":
            params = message["params"]
            learnt = self._param_headers.get(params.get("name"))
            arguments = params.get("arguments")
            if learnt is not None and isinstance(arguments, dict):
                headers.update(inbound.mcp_param_headers(learnt, arguments))
        return headers

    def adopt_tools(self, tools: Items) -> Items:
        """Learn which arguments become headers; tools whose `x-mcp-header` is invalid are left out (MUST over HTTP)."""
        if not isinstance(self._channel.wire, HttpWire):
            return tools
        kept: list[dict[str, Any]] = []
        learnt: dict[str, Mapping[tuple[str, ...], str]] = {}
        for tool in tools:
            schema = tool.get("inputSchema")
            problem = inbound.find_invalid_x_mcp_header(schema)
            if problem is not None:
                logger.warning("server %s: dropped tool %r: %s", self._channel.name, tool["name"], problem)
                continue
            kept.append(tool)
            if header_map := inbound.x_mcp_header_map(schema):
                learnt[tool["name"]] = header_map
        self._param_headers = learnt
        return tuple(kept)

    async def listen(self, capabilities: dict[str, Any], on_changed: Callable[[str], None]) -> None:
        """Hear of changed lists until cancelled; what changed while nobody listened is listed again."""
        wanted = {
            f"{kind}ListChanged": True
            for kind in LIST_CHANGED.values()
            if isinstance(capabilities.get(kind), dict) and capabilities[kind].get("listChanged")
        }
        if not wanted:
            return
        backoff = Backoff(first_s=1.0)
        while not self._channel.gone.done():
            try:
                answer = await self._channel.request("subscriptions/listen", {"notifications": wanted})
            except MeshError as e:
                logger.debug("server %s: its subscription broke: %s", self._channel.name, e)
            else:
                error = answer.get("error")
                if isinstance(error, dict) and error.get("code") == METHOD_NOT_FOUND:
                    return
            await asyncio.sleep(backoff.next_s())
            for member in wanted:
                on_changed(member.removesuffix("ListChanged"))
