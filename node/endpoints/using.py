"""`use_tool`: one tool of one server, or one of its prompts or resources, run by the gateway as if asked directly."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from node.catalog import Catalog, Route
from node.endpoints.near import did_you_mean, near
from node.endpoints.relay import Relay
from node.experience import Experience
from node.hints import Hints
from node.ports import Action, Caller, Guard, Visibility
from proto.calls import Answer, Exchange
from proto.errors import Invalid, MeshError, Unknown
from proto.records import Kind
from router.arguments import Use
from router.findings import GET_PROMPT, READ_RESOURCE
from router.metatools import READ, USE

_NOT_TOOLS = frozenset({GET_PROMPT, READ_RESOURCE})


class Using:
    """One for all callers of a node."""

    def __init__(self, catalog: Catalog, guard: Guard, relay: Relay, hints: Hints, experience: Experience) -> None:
        self._catalog = catalog
        self._guard = guard
        self._relay = relay
        self._hints = hints
        self._experience = experience

    async def run(
        self, asked: Use, outer: dict[str, Any], caller: Caller, exchange: Exchange, *, read_only: bool = False
    ) -> Answer:
        """The server's own answer. `outer` are the params of the call that wraps this one.

        `read_only`: raises `Invalid` for a tool of which nobody who is believed says that it only reads. Raises any
        other `MeshError`.
        """
        # Progress token, trace context, a task or a further round belong to the call that is made, not to the wrapper.
        params = {key: value for key, value in outer.items() if key not in ("name", "arguments")}
        method, wrap = "tools/call", None
        if asked.tool in _NOT_TOOLS and not self._is_tool(asked, caller):
            method = asked.tool
            params = {**asked.params, **params}
            wrap = _prompt if method == GET_PROMPT else _resource
        else:
            params = {"name": asked.tool, "arguments": asked.params, **params}
        try:
            if read_only:
                # Until the call itself nothing is awaited: what is looked at here is what is called.
                self._refuse_writing(asked, method, caller)
            answer = await self._relay.call(asked.server, method, params, caller, exchange)
        except Unknown as e:
            raise Unknown(e.message + did_you_mean(self._near(asked, method, caller)), **e.data) from None
        if wrap is not None:
            return _as_tool(answer, wrap)
        self._experience.called(caller, asked.server, asked.tool, answer)
        return answer

    def _is_tool(self, asked: Use, caller: Caller) -> bool:
        try:
            route = self._catalog.route(asked.server, self._visible(caller))
        except MeshError:
            # Which the call itself, that follows, says better.
            return False
        return route.shown(Kind.TOOL, asked.tool, self._visible(caller)) is not None

    def _refuse_writing(self, asked: Use, method: str, caller: Caller) -> None:
        route = self._catalog.route(asked.server, self._visible(caller))
        if method in _NOT_TOOLS:
            # That these two only read is the protocol's word; that the server keeps to it is the server's.
            reads = self._hints.on and self._hints.believes(route.servers)
        else:
            member = route.shown(Kind.TOOL, asked.tool, self._visible(caller))
            if member is None:
                # There is none: the call is refused for that, in its own words.
                return
            reads = self._hints.reads_only(route.servers, member.definition)
        if not reads:
            raise Invalid(
                f"{READ} runs only what a search marks read-only, and {asked.tool[:100]!r} of {asked.server!r} is not: "
                f"run it with {USE}"
            )

    def _near(self, asked: Use, method: str, caller: Caller) -> list[str]:
        """What may have been meant by a name that there is none of, of what the caller may see."""
        visibility = self._visible(caller)
        try:
            route = self._catalog.route(asked.server, visibility)
        except MeshError:
            names = (self._catalog.shown_name(s, visibility) for s in self._catalog.servers(visibility))
            return near(asked.server, names)
        if method == READ_RESOURCE:
            return []
        if method == GET_PROMPT:
            return near(str(asked.params.get("name")), _names(route, Kind.PROMPT, visibility))
        return near(asked.tool, _names(route, Kind.TOOL, visibility))

    def _visible(self, caller: Caller) -> Visibility:
        return self._guard.visible(caller.principal, Action.CALL)


def _names(route: Route, kind: Kind, visibility: Visibility) -> list[str]:
    return [name for name in route.names(kind) if route.shown(kind, name, visibility) is not None]


def _as_tool(answer: Answer, wrap: Callable[[dict[str, Any]], list[Any]]) -> Answer:
    """A result of another method as a tool's; errors and questions to the client pass as they are."""
    result = answer.get("result")
    if not isinstance(result, dict) or result.get("resultType", "complete") != "complete":
        return answer
    shown: dict[str, Any] = {"content": wrap(result), "isError": False}
    shown |= {key: value for key, value in result.items() if key in ("_meta", "resultType")}
    return {**answer, "result": shown}


def _prompt(result: dict[str, Any]) -> list[Any]:
    """Each message's content as a block; who speaks is said where it is not the user."""
    blocks: list[Any] = []
    for message in _list(result, "messages"):
        content, role = message.get("content"), message.get("role")
        if not isinstance(content, dict):
            continue
        if role != "user":
            blocks.append({"type": "text", "text": f"[{role}]"})
        blocks.append(content)
    return blocks


def _resource(result: dict[str, Any]) -> list[Any]:
    return [{"type": "resource", "resource": part} for part in _list(result, "contents")]


def _list(result: dict[str, Any], field: str) -> list[dict[str, Any]]:
    found = result.get(field)
    return [item for item in found if isinstance(item, dict)] if isinstance(found, list) else []
