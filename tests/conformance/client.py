"""The client that the suite tests: our upstream client, as the gateway uses it, in front of the suite's servers.

`python -m tests.conformance.client URL` plays the scenario named in MCP_CONFORMANCE_SCENARIO, in the revision of
MCP_CONFORMANCE_PROTOCOL_VERSION; what it is to call may be in MCP_CONFORMANCE_CONTEXT, as JSON. Exit status 1: a
scenario that is not ours.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Awaitable, Callable
from typing import Any

SCENARIO = os.environ.get("MCP_CONFORMANCE_SCENARIO", "")
REVISION = os.environ.get("MCP_CONFORMANCE_PROTOCOL_VERSION", "2025-11-25")
CONTEXT: dict[str, Any] = json.loads(os.environ.get("MCP_CONFORMANCE_CONTEXT") or "{}")

SIGNS_IN = SCENARIO.startswith("auth/")
if SCENARIO in ("auth/dpop", "auth/dpop-nonce", "auth/enterprise-managed-authorization", "auth/wif-jwt-bearer"):
    # Said at once, before anything is imported: these are extensions that a node has not.
    sys.exit(f"{SCENARIO} is not something that the upstream client does")

# The scenario is looked at before these are: they take half a second.
from node.bridge.bridge import Bridge  # noqa: E402
from node.sealing import Sealer  # noqa: E402
from node.upstreams.offer import Offer  # noqa: E402
from node.upstreams.spec import UpstreamSpec  # noqa: E402
from node.upstreams.upstream import Upstream  # noqa: E402
from proto.calls import Answer, Call, Notification  # noqa: E402
from proto.errors import MeshError  # noqa: E402
from proto.records import ANONYMOUS, Principal  # noqa: E402

UP_S = 20.0
CAPABILITIES: dict[str, Any] = {"elicitation": {"form": {}}, "sampling": {}, "roots": {}}
LEGACY = "2025-11-25"


class Agreeing:
    """An agent whose user accepts every form with the values that it proposes."""

    def event(self, notification: Notification) -> None:
        print("heard", notification["method"])

    async def request(self, request: Notification) -> Answer:
        schema = request.get("params", {}).get("requestedSchema", {})
        fields: dict[str, Any] = schema.get("properties", {})
        content = {name: field.get("default", field.get("type") == "boolean") for name, field in fields.items()}
        return {"result": {"action": "accept", "content": content}}


class Client:
    """The suite's server, as one that this node has, called by agents of the revision under test."""

    def __init__(self, spec: UpstreamSpec, principal: Principal) -> None:
        self._up = asyncio.Event()
        self._principal = principal
        self._down = ""
        self._upstream = Upstream(spec, self._offered)
        self._target = Bridge("conformance", Sealer.alone()).target(self._upstream)
        self._calls = 0

    async def __aenter__(self) -> Client:
        await self._upstream.start()
        async with asyncio.timeout(UP_S):
            await self._up.wait()
        if self._down:
            await self._upstream.stop()
            sys.exit(f"the server could not be signed in to: {self._down}")
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._upstream.stop()

    def _offered(self, offer: Offer) -> None:
        print(offer, offer.health.cause)
        if offer.health.state == "up" or (SIGNS_IN and offer.health.state == "down"):
            self._down = "" if offer.health.state == "up" else offer.health.cause
            self._up.set()

    @property
    def tools(self) -> dict[str, dict[str, Any]]:
        return {tool["name"]: tool for tool in self._upstream.offer.tools}

    async def ask(self, method: str, params: dict[str, Any], era: str = REVISION) -> Answer:
        self._calls += 1
        call = Call(
            str(self._calls),
            "suite",
            method,
            params,
            principal=self._principal,
            era=era,
            client_capabilities=CAPABILITIES,
        )
        answer = await self._target.call(call, Agreeing())
        print(method, json.dumps(params), "->", json.dumps(answer)[:500])
        return answer

    async def call(self, name: str, arguments: dict[str, Any], era: str = REVISION) -> Answer:
        return await self.ask("tools/call", {"name": name, "arguments": arguments}, era)


async def calls_every_tool(client: Client) -> None:
    """Every tool that may be called at all: those with headers that no request could bear are not offered."""
    for name, tool in client.tools.items():
        required = tool["inputSchema"].get("required", [])
        properties = tool["inputSchema"].get("properties", {})
        await client.call(name, {key: _sample(properties.get(key, {})) for key in required})


def _sample(schema: dict[str, Any]) -> Any:
    return {"number": 2, "integer": 2, "boolean": True}.get(str(schema.get("type")), "x")


async def signs_in_and_calls(client: Client) -> None:
    """Twice: what a server demands may change between two calls. It may refuse for good, which a call then says."""
    for _ in range(2):
        try:
            await calls_every_tool(client)
        except MeshError as e:
            print("refused:", e.message)


async def calls_what_it_is_told(client: Client) -> None:
    for told in CONTEXT["toolCalls"]:
        await client.call(told["name"], told["arguments"])


async def uses_every_method(client: Client) -> None:
    await calls_every_tool(client)
    offer = client._upstream.offer
    for resource in offer.resources:
        await client.ask("resources/read", {"uri": resource["uri"]})
    for prompt in offer.prompts:
        await client.ask("prompts/get", {"name": prompt["name"]})


async def answers_in_rounds(client: Client) -> None:
    """For a legacy agent: then it is our client that takes the rounds, with another call between two of them."""
    await asyncio.gather(
        client.call("test_mrtr_echo_state", {}, LEGACY),
        client.call("test_mrtr_unrelated", {}, LEGACY),
        client.call("test_mrtr_no_state", {}, LEGACY),
    )
    await client.call("test_mrtr_no_result_type", {}, LEGACY)


async def echoes_a_schema(client: Client) -> None:
    schema = client.tools["json_schema_2020_12_tool"]["inputSchema"]
    await client.call("json_schema_echo", {"schema": schema})


async def lists(client: Client) -> None:
    """Has been done: whoever is up has listed."""


PLAYS: dict[str, Callable[[Client], Awaitable[None]]] = {
    "initialize": lists,
    "json-schema-ref-no-deref": lists,
    "request-metadata": lists,
    "tools_call": calls_every_tool,
    "elicitation-sep1034-client-defaults": calls_every_tool,
    "sse-retry": calls_every_tool,
    "http-invalid-tool-headers": calls_every_tool,
    "http-standard-headers": uses_every_method,
    "http-custom-headers": calls_what_it_is_told,
    "sep-2322-client-request-state": answers_in_rounds,
    "json-schema-2020-12-preservation": echoes_a_schema,
}


async def main(url: str) -> None:
    spec, principal = UpstreamSpec("suite", url=url, start_timeout_s=UP_S), ANONYMOUS
    if SIGNS_IN:
        from tests.conformance import signing_in

        spec, principal = await signing_in.spec(url, SCENARIO, CONTEXT, UP_S), signing_in.AGENT
    async with Client(spec, principal) as client:
        await (signs_in_and_calls if SIGNS_IN else PLAYS[SCENARIO])(client)


if __name__ == "__main__":
    if SCENARIO not in PLAYS and not SIGNS_IN:
        sys.exit(f"scenario {SCENARIO!r} is not known here")
    asyncio.run(main(sys.argv[-1]))
