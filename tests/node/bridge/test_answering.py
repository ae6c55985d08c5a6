"""A legacy client at a modern server: what the server asks between two calls is asked in one."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from proto.calls import Answer, Call, Exchange, Notification
from proto.errors import Exhausted, Unavailable
from tests.node.bridge.twins import LEGACY, MODERN, WAIT_S, Client, Mesh, mesh_of

NAME: dict[str, Any] = {"method": "elicitation/create", "params": {"message": "name?", "requestedSchema": {}}}
ROOTS: dict[str, Any] = {"method": "roots/list"}
ANNE_SAYS = {"action": "accept", "content": {"name": "Anne"}}
PARAMS: dict[str, Any] = {"name": "ask", "arguments": {}, "_meta": {"progressToken": 1}}


def wants(requests: dict[str, Any] | None, state: Any = "s1") -> Answer:
    result: dict[str, Any] = {"resultType": "input_required"}
    if requests is not None:
        result["inputRequests"] = requests
    if state is not None:
        result["requestState"] = state
    return {"result": result}


def modern(*answers: Answer) -> Mesh:
    """A server that gives these answers, one a round."""
    left = list(answers)

    async def serve(call: Call, exchange: Exchange) -> Answer:
        return left.pop(0)

    return mesh_of(serve, modern=True)


DONE: Answer = {"result": {"resultType": "complete", "content": []}}


async def test_a_question_between_two_calls_is_asked_in_one() -> None:
    mesh = modern(wants({"who": NAME, "where": ROOTS}), DONE)
    client = Client({"elicitation/create": ANNE_SAYS, "roots/list": {"roots": []}})
    assert await mesh.run(mesh.call(LEGACY, PARAMS), client) == DONE
    assert client.asked == [NAME, ROOTS]
    first, second = mesh.server.calls
    assert first.params == PARAMS
    responses = {"who": ANNE_SAYS, "where": {"roots": []}}
    assert second.params == {**PARAMS, "inputResponses": responses, "requestState": "s1"}


async def test_each_round_brings_its_own_state_and_responses_alone() -> None:
    mesh = modern(wants({"a": NAME}, "s1"), wants({"b": ROOTS}, None), DONE)
    await mesh.run(mesh.call(LEGACY, PARAMS), Client({"elicitation/create": ANNE_SAYS, "roots/list": {"roots": []}}))
    assert mesh.server.calls[2].params == {**PARAMS, "inputResponses": {"b": {"roots": []}}}


async def test_a_server_that_only_wants_to_be_reminded_is() -> None:
    mesh = modern(wants(None), wants({}, "s2"), DONE)
    assert await mesh.run(mesh.call(LEGACY, PARAMS)) == DONE
    assert [c.params.get("requestState") for c in mesh.server.calls] == [None, "s1", "s2"]
    assert all("inputResponses" not in c.params for c in mesh.server.calls)


async def test_questions_are_asked_at_once() -> None:
    asked = asyncio.Event()

    class Slow(Client):
        async def request(self, request: Notification) -> Answer:
            self.asked.append(request)
            if len(self.asked) == 2:
                asked.set()
            await asked.wait()
            return {"result": {}}

    mesh = modern(wants({"a": NAME, "b": ROOTS}), DONE)
    assert await mesh.run(mesh.call(LEGACY, PARAMS), Slow()) == DONE


async def test_a_client_that_refuses_ends_the_call_with_its_own_error() -> None:
    refused = {"error": {"code": -1, "message": "user rejected", "data": None}}

    class Waits(Client):
        cancelled = False

        async def request(self, request: Notification) -> Answer:
            if request == NAME:
                return refused
            try:
                return await asyncio.get_running_loop().create_future()
            except asyncio.CancelledError:
                self.cancelled = True
                raise

    mesh, client = modern(wants({"b": ROOTS, "a": NAME})), Waits()
    assert await mesh.run(mesh.call(LEGACY, PARAMS), client) == refused
    assert client.cancelled


async def test_a_client_that_cannot_be_asked_ends_the_call() -> None:
    mesh = modern(wants({"a": NAME}))
    with pytest.raises(Unavailable, match="nobody is to be asked"):
        await mesh.run(mesh.call(LEGACY, PARAMS), Client())


@pytest.mark.parametrize("requests", [[], {"a": 1}, {"a": {"params": {}}}, {"a": NAME, "b": None}])
async def test_what_is_no_map_of_requests_is_refused(requests: Any) -> None:
    mesh = modern(wants(requests or [1]))
    with pytest.raises(Unavailable, match="no map of requests"):
        await mesh.run(mesh.call(LEGACY, PARAMS), Client())


async def test_a_server_that_asks_on_and_on_is_left() -> None:
    mesh = modern(*[wants({"a": NAME})] * 20)
    with pytest.raises(Exhausted, match="at most 10 rounds"):
        await mesh.run(mesh.call(LEGACY, PARAMS), Client({"elicitation/create": ANNE_SAYS}))
    assert len(mesh.server.calls) == 11


async def test_a_server_that_asks_too_much_at_once_is_left() -> None:
    mesh = modern(wants({f"q{n}": NAME for n in range(17)}))
    with pytest.raises(Exhausted, match="17 things at once; at most 16"):
        await mesh.run(mesh.call(LEGACY, PARAMS), Client())


async def test_a_cancelled_call_takes_its_question_back() -> None:
    begun, gone = asyncio.Event(), asyncio.Event()

    class Waits(Client):
        async def request(self, request: Notification) -> Answer:
            begun.set()
            try:
                return await asyncio.get_running_loop().create_future()
            finally:
                gone.set()

    mesh = modern(wants({"a": NAME}))
    task = asyncio.create_task(mesh.run(mesh.call(LEGACY, PARAMS), Waits()))
    async with asyncio.timeout(WAIT_S):
        await begun.wait()
        task.cancel()
        await asyncio.wait({task})
    assert gone.is_set()


async def test_a_url_to_open_bears_an_id_for_legacy_clients() -> None:
    url = {"method": "elicitation/create", "params": {"mode": "url", "url": "https://x.test/", "message": "open"}}
    mesh, client = modern(wants({"a": url}), DONE), Client({"elicitation/create": {"action": "accept"}})
    await mesh.run(mesh.call(LEGACY, PARAMS), client)
    (asked,) = client.asked
    assert asked["params"].pop("elicitationId")
    assert asked == url


@pytest.mark.parametrize(
    ("declared", "told"),
    [
        ({"elicitation": {}, "sampling": {}}, {"elicitation": {"form": {}}, "sampling": {}}),
        ({"elicitation": {"url": {}}}, {"elicitation": {"url": {}}}),
        ({"roots": {"listChanged": True}, "tasks": {"list": {}}}, {"roots": {}}),
        ({"experimental": {"x": {"y": None}}}, {"experimental": {"x": {"y": None}}}),
    ],
)
async def test_the_server_is_told_what_the_client_declared_in_its_own_words(
    declared: dict[str, Any], told: dict[str, Any]
) -> None:
    mesh = modern(DONE)
    await mesh.run(mesh.call(LEGACY, PARAMS, client_capabilities=declared))
    assert mesh.server.calls[0].client_capabilities == told


@pytest.mark.parametrize(("method", "code"), [("resources/read", -32002), ("tools/call", -32602)])
async def test_a_resource_that_is_not_there_has_the_code_of_the_clients_era(method: str, code: int) -> None:
    mesh = modern({"error": {"code": -32602, "message": "no such", "data": {"uri": "x:y"}}})
    answer = await mesh.run(mesh.call(LEGACY, {"uri": "x:y"}, method))
    assert answer == {"error": {"code": code, "message": "no such", "data": {"uri": "x:y"}}}


# ---- modern clients at modern servers ----------------------------------------------------------


async def test_between_modern_ones_everything_passes_as_it_is() -> None:
    mesh = modern(wants({"a": NAME}), DONE)
    first = await mesh.run(mesh.call(MODERN, PARAMS))
    assert first == wants({"a": NAME})
    retry = {**PARAMS, "inputResponses": {"a": ANNE_SAYS}, "requestState": "s1"}
    assert await mesh.run(mesh.call(MODERN, retry)) == DONE
    assert mesh.server.calls[1].params == retry
    assert mesh.bridge.states.place("s1") is None


@pytest.mark.parametrize("state", ["s1", None])
async def test_one_of_several_owners_has_its_name_in_the_state(state: str | None) -> None:
    left = [wants({"a": NAME}, state), DONE]

    async def serve(call: Call, exchange: Exchange) -> Answer:
        return left.pop(0)

    mesh = mesh_of(serve, modern=True, service="ask")
    first = await mesh.run(mesh.call(MODERN, PARAMS))
    sealed = first["result"]["requestState"]
    assert first["result"]["inputRequests"] == {"a": NAME}
    assert mesh.bridge.states.place(sealed) == ("eu-1", "ask")
    mesh.timers.go(1_000_000)
    retry = {**PARAMS, "inputResponses": {"a": ANNE_SAYS}, "requestState": sealed}
    assert await mesh.run(mesh.call(MODERN, retry)) == DONE
    inner = {**PARAMS, "inputResponses": {"a": ANNE_SAYS}}
    assert mesh.server.calls[1].params == (inner if state is None else {**inner, "requestState": state})


async def test_a_state_that_is_not_ours_is_its_servers_to_judge() -> None:
    async def serve(call: Call, exchange: Exchange) -> Answer:
        return DONE

    mesh = mesh_of(serve, modern=True, service="ask")
    retry = {**PARAMS, "inputResponses": {}, "requestState": "tm1.of-a-mesh-behind-this-one"}
    await mesh.run(mesh.call(MODERN, retry))
    assert mesh.server.calls[0].params == retry


@pytest.mark.parametrize("era", [LEGACY, MODERN])
async def test_a_server_of_both_eras_is_spoken_to_in_its_clients(era: str) -> None:
    left = [wants({"a": NAME}), DONE]

    async def serve(call: Call, exchange: Exchange) -> Answer:
        if call.era == MODERN:
            return left.pop(0)
        return {"result": {"said": await exchange.request(NAME)}}

    mesh = mesh_of(serve, modern=True)
    mesh.server.legacy = True
    answer = await mesh.run(mesh.call(era, PARAMS), Client({"elicitation/create": ANNE_SAYS}))
    assert answer == (wants({"a": NAME}) if era == MODERN else {"result": {"said": {"result": ANNE_SAYS}}})


@pytest.mark.parametrize("legacy", [True, False])
async def test_a_server_of_unknown_era_is_asked_for_it_before_a_legacy_call(legacy: bool) -> None:
    left = [wants({"a": NAME}), DONE]

    async def serve(call: Call, exchange: Exchange) -> Answer:
        return {"result": {"said": await exchange.request(NAME)}} if legacy else left.pop(0)

    mesh = mesh_of(serve, modern=True)
    mesh.server.legacy, mesh.server.legacy_learns = None, legacy
    answer = await mesh.run(mesh.call(LEGACY, PARAMS), Client({"elicitation/create": ANNE_SAYS}))
    assert answer == ({"result": {"said": {"result": ANNE_SAYS}}} if legacy else DONE)


@pytest.mark.parametrize("modern_", [True, False])
async def test_a_server_of_unknown_era_is_asked_for_it_before_a_modern_call(modern_: bool) -> None:
    async def serve(call: Call, exchange: Exchange) -> Answer:
        return wants({"a": NAME}) if modern_ else {"result": {"said": await exchange.request(NAME)}}

    mesh = mesh_of(serve)
    mesh.server.modern, mesh.server.legacy, mesh.server.learns = None, True, modern_
    answer = await mesh.run(mesh.call(MODERN, PARAMS))
    assert list(answer["result"]["inputRequests"]) == (["a"] if modern_ else ["q1"])
    await mesh.bridge.close()
