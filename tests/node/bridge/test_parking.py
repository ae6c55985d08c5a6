"""A modern client at a legacy server: asked between two calls, never in one."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from proto.calls import Answer, Call, Exchange
from proto.errors import Conflict, Exhausted, Expired, Invalid, MeshError, Unavailable
from tests.node.bridge.twins import ANNE, BERT, MODERN, WAIT_S, Client, Mesh, mesh_of

NAME: dict[str, Any] = {"method": "elicitation/create", "params": {"message": "name?", "requestedSchema": {}}}
ROOTS: dict[str, Any] = {"method": "roots/list"}
PARAMS: dict[str, Any] = {"name": "ask", "arguments": {"n": 1}, "_meta": {"progressToken": "t1", "trace": 1}}
ANNE_SAYS = {"action": "accept", "content": {"name": "Anne"}}


async def asks_the_name(call: Call, exchange: Exchange) -> Answer:
    answer = await exchange.request(NAME)
    return {"result": {"content": [], "said": answer}}


def asked(answer: Answer) -> dict[str, Any]:
    assert answer["result"]["resultType"] == "input_required"
    requests: dict[str, Any] = answer["result"]["inputRequests"]
    return requests


def retry(mesh: Mesh, answer: Answer, responses: Any, **more: Any) -> Call:
    params = more.pop("params", PARAMS)
    state = answer["result"]["requestState"]
    return mesh.call(MODERN, {**params, "inputResponses": responses, "requestState": state}, **more)


async def test_a_question_ends_the_call_and_its_answer_goes_on_with_it() -> None:
    mesh = mesh_of(asks_the_name)
    first = await mesh.run(mesh.call(MODERN, PARAMS))
    ((key, question),) = asked(first).items()
    assert question == NAME
    assert len(mesh.bridge.parked) == 1
    last = await mesh.run(retry(mesh, first, {key: ANNE_SAYS}))
    assert last == {"result": {"content": [], "said": {"result": ANNE_SAYS}}}
    assert len(mesh.server.calls) == 1
    assert mesh.server.calls[0].params == PARAMS
    assert len(mesh.bridge.parked) == 0


async def test_a_call_that_asks_nothing_is_answered_at_once() -> None:
    async def answers(call: Call, exchange: Exchange) -> Answer:
        return {"result": {"content": []}}

    mesh = mesh_of(answers)
    assert await mesh.run(mesh.call(MODERN, PARAMS)) == {"result": {"content": []}}
    assert len(mesh.bridge.parked) == 0


async def test_an_error_of_the_server_passes() -> None:
    async def fails(call: Call, exchange: Exchange) -> Answer:
        await exchange.request(NAME)
        raise Unavailable("it went away")

    mesh = mesh_of(fails)
    first = await mesh.run(mesh.call(MODERN, PARAMS))
    with pytest.raises(Unavailable, match="went away"):
        await mesh.run(retry(mesh, first, {"q1": ANNE_SAYS}))
    assert len(mesh.bridge.parked) == 0


async def test_questions_that_come_together_are_put_together() -> None:
    async def asks_both(call: Call, exchange: Exchange) -> Answer:
        answers = await asyncio.gather(exchange.request(NAME), exchange.request(ROOTS))
        return {"result": {"said": answers}}

    mesh = mesh_of(asks_both)
    first = await mesh.run(mesh.call(MODERN, PARAMS))
    assert asked(first) == {"q1": NAME, "q2": ROOTS}
    last = await mesh.run(retry(mesh, first, {"q2": {"roots": []}, "q1": ANNE_SAYS}))
    assert last["result"]["said"] == [{"result": ANNE_SAYS}, {"result": {"roots": []}}]


async def test_a_partial_answer_is_taken_and_the_rest_asked_again() -> None:
    async def asks_both(call: Call, exchange: Exchange) -> Answer:
        answers = await asyncio.gather(exchange.request(NAME), exchange.request(ROOTS))
        return {"result": {"said": answers}}

    mesh = mesh_of(asks_both)
    first = await mesh.run(mesh.call(MODERN, PARAMS))
    second = await mesh.run(retry(mesh, first, {"q1": ANNE_SAYS}))
    assert asked(second) == {"q2": ROOTS}
    third = await mesh.run(retry(mesh, second, {}))
    assert asked(third) == {"q2": ROOTS}
    last = await mesh.run(retry(mesh, third, {"q2": {"roots": []}, "q1": {"action": "decline"}}))
    assert last["result"]["said"] == [{"result": ANNE_SAYS}, {"result": {"roots": []}}]


async def test_one_question_follows_another() -> None:
    async def asks_twice(call: Call, exchange: Exchange) -> Answer:
        return {"result": {"said": [await exchange.request(NAME), await exchange.request(ROOTS)]}}

    mesh = mesh_of(asks_twice)
    first = await mesh.run(mesh.call(MODERN, PARAMS))
    second = await mesh.run(retry(mesh, first, {"q1": ANNE_SAYS}))
    assert asked(second) == {"q2": ROOTS}
    assert second["result"]["requestState"] != first["result"]["requestState"]
    last = await mesh.run(retry(mesh, second, {"q2": {"roots": []}}))
    assert last["result"]["said"] == [{"result": ANNE_SAYS}, {"result": {"roots": []}}]


@pytest.mark.parametrize(
    ("capabilities", "request_", "may"),
    [
        ({}, NAME, False),
        ({"sampling": {}}, NAME, False),
        ({"elicitation": {}}, NAME, True),
        ({"elicitation": {"form": {}}}, NAME, True),
        ({"elicitation": {"url": {}}}, NAME, False),
        ({"elicitation": {}}, {"method": "elicitation/create", "params": {"mode": "url"}}, False),
        ({"elicitation": {"url": {}}}, {"method": "elicitation/create", "params": {"mode": "url"}}, True),
        ({"roots": {}}, ROOTS, True),
        ({"sampling": {}}, {"method": "sampling/createMessage", "params": {"tools": []}}, False),
        ({"sampling": {"tools": {}}}, {"method": "sampling/createMessage", "params": {"tools": []}}, True),
        ({"roots": {}}, {"method": "vendor/question"}, False),
    ],
)
async def test_a_client_is_never_asked_what_it_did_not_declare(
    capabilities: dict[str, Any], request_: dict[str, Any], may: bool
) -> None:
    async def asks_it(call: Call, exchange: Exchange) -> Answer:
        try:
            return {"result": {"said": await exchange.request(request_)}}
        except Unavailable:
            return {"result": {"said": "refused"}}

    mesh = mesh_of(asks_it)
    answer = await mesh.run(mesh.call(MODERN, PARAMS, client_capabilities=capabilities))
    if may:
        assert asked(answer) == {"q1": request_}
    else:
        said = answer["result"]["said"]
        assert said == "refused" or said["error"]["code"] == -32601
    await mesh.bridge.close()


# ---- what a retry may not do ------------------------------------------------------------------


async def parked(**bounds: Any) -> tuple[Mesh, Answer]:
    mesh = mesh_of(asks_the_name, **bounds)
    return mesh, await mesh.run(mesh.call(MODERN, PARAMS))


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"principal": BERT}, "another caller"),
        ({"params": {**PARAMS, "arguments": {"n": 2}}}, "other params"),
        ({"params": {**PARAMS, "more": None}}, "other params"),
        ({"method": "prompts/get"}, "other params"),
    ],
)
async def test_a_state_is_good_for_its_own_call_alone(changed: dict[str, Any], why: str) -> None:
    mesh, first = await parked()
    with pytest.raises(Invalid, match=why):
        await mesh.run(retry(mesh, first, {"q1": ANNE_SAYS}, **changed))
    assert "Anne" in str(await mesh.run(retry(mesh, first, {"q1": ANNE_SAYS})))


async def test_a_retry_may_be_traced_and_reported_otherwise() -> None:
    mesh, first = await parked()
    params = {**PARAMS, "_meta": {"traceparent": "x"}}
    assert "Anne" in str(await mesh.run(retry(mesh, first, {"q1": ANNE_SAYS}, params=params)))


@pytest.mark.parametrize("state", ["", "junk", "tm1.junk", 7, None])
async def test_a_state_that_is_none_of_ours_is_refused(state: Any) -> None:
    mesh, _ = await parked()
    with pytest.raises(Invalid, match=r"params\.requestState cannot be used.*call without"):
        await mesh.run(mesh.call(MODERN, {**PARAMS, "inputResponses": {}, "requestState": state}))
    assert len(mesh.server.calls) == 1


async def test_responses_without_a_state_answer_nothing() -> None:
    mesh = mesh_of(asks_the_name)
    first = await mesh.run(mesh.call(MODERN, {**PARAMS, "inputResponses": {"q1": ANNE_SAYS}}))
    assert asked(first) == {"q1": NAME}
    assert mesh.server.calls[0].params == PARAMS
    assert "Anne" in str(await mesh.run(retry(mesh, first, {"q1": ANNE_SAYS})))


@pytest.mark.parametrize("responses", [{"q2": {}}, {"name": "Anne"}, {"q01": None}, {}, None])
async def test_what_was_not_asked_is_ignored_and_the_question_asked_again(responses: Any) -> None:
    mesh, first = await parked()
    second = await mesh.run(retry(mesh, first, responses))
    assert asked(second) == {"q1": NAME}
    assert "Anne" in str(await mesh.run(retry(mesh, second, {"q1": ANNE_SAYS})))


@pytest.mark.parametrize(
    ("responses", "why"),
    [({"q1": "Anne"}, r"\['q1'\] must be an object"), ([], "must be an object: a member for each key")],
)
async def test_responses_that_do_not_fit_are_refused_and_the_state_stays_good(responses: Any, why: str) -> None:
    mesh, first = await parked()
    with pytest.raises(Invalid, match=why):
        await mesh.run(retry(mesh, first, responses))
    assert "Anne" in str(await mesh.run(retry(mesh, first, {"q1": ANNE_SAYS})))


async def test_at_a_full_server_the_call_that_has_waited_longest_gives_way_after_a_while() -> None:
    mesh = mesh_of(asks_the_name)
    first = await mesh.run(mesh.call(MODERN, PARAMS))
    mesh.timers.go(10)
    second = await mesh.run(mesh.call(MODERN, PARAMS))
    first = await mesh.run(retry(mesh, first, {}))
    mesh.timers.go(29)
    assert not mesh.bridge.parked.give_way("ask")
    mesh.timers.go(1)
    assert not mesh.bridge.parked.give_way("other")
    assert mesh.bridge.parked.give_way("ask")
    with pytest.raises(Invalid, match="given up for others"):
        await mesh.run(retry(mesh, second, {"q1": ANNE_SAYS}))
    assert "Anne" in str(await mesh.run(retry(mesh, first, {"q1": ANNE_SAYS})))
    assert mesh.server.cancelled == 1


async def test_a_state_is_used_once() -> None:
    async def asks_twice(call: Call, exchange: Exchange) -> Answer:
        return {"result": {"said": [await exchange.request(NAME), await exchange.request(ROOTS)]}}

    mesh = mesh_of(asks_twice)
    first = await mesh.run(mesh.call(MODERN, PARAMS))
    second = await mesh.run(retry(mesh, first, {"q1": ANNE_SAYS}))
    with pytest.raises(Conflict, match="used already"):
        await mesh.run(retry(mesh, first, {"q1": ANNE_SAYS}))
    await mesh.run(retry(mesh, second, {"q2": {"roots": []}}))
    with pytest.raises(Invalid, match="has been answered"):
        await mesh.run(retry(mesh, second, {"q2": {"roots": []}}))


async def test_of_two_retries_at_once_one_wins() -> None:
    end = asyncio.Event()

    async def asks_and_works(call: Call, exchange: Exchange) -> Answer:
        answer = await exchange.request(NAME)
        await end.wait()
        return {"result": {"said": answer}}

    mesh = mesh_of(asks_and_works)
    first = await mesh.run(mesh.call(MODERN, PARAMS))
    tasks = [asyncio.create_task(mesh.run(retry(mesh, first, {"q1": ANNE_SAYS}))) for _ in range(2)]
    done, _ = await asyncio.wait(tasks, timeout=WAIT_S, return_when=asyncio.FIRST_COMPLETED)
    (loser,) = done
    assert isinstance(loser.exception(), Conflict)
    end.set()
    (winner,) = {*tasks} - done
    assert "Anne" in str(await winner)


# ---- what becomes of it meanwhile --------------------------------------------------------------


async def test_progress_follows_the_token_of_the_round() -> None:
    def progress(token: Any, n: int) -> dict[str, Any]:
        return {"method": "notifications/progress", "params": {"progressToken": token, "progress": n}}

    async def reports(call: Call, exchange: Exchange) -> Answer:
        exchange.event(progress("t1", 1))
        await exchange.request(NAME)
        exchange.event(progress("t1", 3))
        return {"result": {}}

    mesh = mesh_of(reports)
    one, two = Client(), Client()
    first = await mesh.run(mesh.call(MODERN, PARAMS), one)
    await mesh.run(retry(mesh, first, {"q1": ANNE_SAYS}, params={**PARAMS, "_meta": {"progressToken": 7}}), two)
    assert one.heard == [progress("t1", 1)]
    assert two.heard == [progress(7, 3)]


async def test_what_is_told_between_two_rounds_waits_for_the_next_one() -> None:
    told, done = asyncio.Event(), asyncio.Event()
    log = {"method": "notifications/message", "params": {"level": "info", "data": "x"}}

    async def tells(call: Call, exchange: Exchange) -> Answer:
        question = asyncio.create_task(exchange.request(NAME))
        await told.wait()
        for n in range(100):
            exchange.event({**log, "params": {**log["params"], "n": n}})
        done.set()
        return {"result": {"said": await question}}

    mesh = mesh_of(tells)
    first = await mesh.run(mesh.call(MODERN, PARAMS))
    told.set()
    async with asyncio.timeout(WAIT_S):
        await done.wait()
    client = Client()
    await mesh.run(retry(mesh, first, {"q1": ANNE_SAYS}), client)
    assert [n["params"]["n"] for n in client.heard] == list(range(36, 100))


async def test_a_call_whose_client_does_not_come_back_is_cancelled() -> None:
    mesh, first = await parked(parked_s=60)
    mesh.timers.go(59)
    assert (len(mesh.bridge.parked), mesh.server.cancelled) == (1, 0)
    mesh.timers.go(1)
    assert len(mesh.bridge.parked) == 0
    async with asyncio.timeout(WAIT_S):
        await mesh.server.idle.wait()
    assert mesh.server.cancelled == 1
    with pytest.raises(Invalid, match="expired"):
        await mesh.run(retry(mesh, first, {"q1": ANNE_SAYS}))
    mesh.timers.go(60)
    with pytest.raises(Invalid, match="its time is over"):
        await mesh.run(retry(mesh, first, {"q1": ANNE_SAYS}))


async def test_while_a_round_runs_its_time_stands_still() -> None:
    mesh, first = await parked(parked_s=60)
    mesh.timers.go(50)
    second = await mesh.run(retry(mesh, first, {}))
    mesh.timers.go(50)
    assert mesh.server.cancelled == 0
    assert "Anne" in str(await mesh.run(retry(mesh, second, {"q1": ANNE_SAYS})))


async def test_a_disconnect_in_any_round_cancels_the_call_at_the_server() -> None:
    begun = asyncio.Event()

    async def asks_and_works(call: Call, exchange: Exchange) -> Answer:
        await exchange.request(NAME)
        begun.set()
        return await asyncio.get_running_loop().create_future()

    mesh = mesh_of(asks_and_works)
    first = await mesh.run(mesh.call(MODERN, PARAMS))
    task = asyncio.create_task(mesh.run(retry(mesh, first, {"q1": ANNE_SAYS})))
    async with asyncio.timeout(WAIT_S):
        await begun.wait()
        task.cancel()
        await asyncio.wait({task})
    assert task.cancelled()
    assert (mesh.server.cancelled, mesh.server.running, len(mesh.bridge.parked)) == (1, 0, 0)


async def test_a_round_ends_with_its_budget() -> None:
    async def works(call: Call, exchange: Exchange) -> Answer:
        return await asyncio.get_running_loop().create_future()

    mesh = mesh_of(works)
    with pytest.raises(Expired, match="neither ended nor asked"):
        await mesh.run(mesh.call(MODERN, PARAMS, budget_ms=20))
    assert (mesh.server.cancelled, mesh.server.running) == (1, 0)


async def test_a_later_round_ends_with_its_budget_too() -> None:
    async def asks_and_works(call: Call, exchange: Exchange) -> Answer:
        await exchange.request(NAME)
        return await asyncio.get_running_loop().create_future()

    mesh = mesh_of(asks_and_works)
    first = await mesh.run(mesh.call(MODERN, PARAMS))
    with pytest.raises(Expired, match="neither ended nor asked"):
        await mesh.run(retry(mesh, first, {"q1": ANNE_SAYS}, budget_ms=20))
    assert (mesh.server.cancelled, len(mesh.bridge.parked)) == (1, 0)
    with pytest.raises(Invalid, match="expired"):
        await mesh.run(retry(mesh, first, {"q1": ANNE_SAYS}))


async def test_questions_of_one_breath_need_not_come_in_one_turn() -> None:
    async def asks_both(call: Call, exchange: Exchange) -> Answer:
        one = asyncio.create_task(exchange.request(NAME))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        two = asyncio.create_task(exchange.request(ROOTS))
        return {"result": {"said": [await one, await two]}}

    mesh = mesh_of(asks_both)
    first = await mesh.run(mesh.call(MODERN, PARAMS))
    assert asked(first) == {"q1": NAME, "q2": ROOTS}
    await mesh.bridge.close()


async def test_a_question_that_the_server_takes_back_is_asked_no_more() -> None:
    back, gone = asyncio.Event(), asyncio.Event()

    async def takes_back(call: Call, exchange: Exchange) -> Answer:
        question = asyncio.create_task(exchange.request(NAME))
        other = asyncio.create_task(exchange.request(ROOTS))
        await back.wait()
        question.cancel()
        await asyncio.wait({question})
        gone.set()
        return {"result": {"said": await other}}

    mesh = mesh_of(takes_back)
    first = await mesh.run(mesh.call(MODERN, PARAMS))
    assert len(asked(first)) == 2
    back.set()
    async with asyncio.timeout(WAIT_S):
        await gone.wait()
    second = await mesh.run(retry(mesh, first, {"q1": ANNE_SAYS}))
    assert asked(second) == {"q2": ROOTS}
    await mesh.bridge.close()


@pytest.mark.parametrize(
    ("bounds", "who", "why"),
    [
        ({"parked_max": 2}, (ANNE, BERT, BERT), "2 calls wait"),
        ({"per_principal_max": 2}, (ANNE, ANNE, ANNE), "2 calls of this caller wait"),
    ],
)
async def test_beyond_the_bound_no_further_call_is_parked(bounds: dict[str, int], who: Any, why: str) -> None:
    mesh = mesh_of(asks_the_name, **bounds)
    answers = [await mesh.run(mesh.call(MODERN, PARAMS, principal=p)) for p in who[:2]]
    with pytest.raises(Exhausted, match=why):
        await mesh.run(mesh.call(MODERN, PARAMS, principal=who[2]))
    assert mesh.server.cancelled == 1
    await mesh.run(retry(mesh, answers[0], {"q1": ANNE_SAYS}, principal=who[0]))
    assert asked(await mesh.run(mesh.call(MODERN, PARAMS, principal=who[2])))
    await mesh.bridge.close()
    assert (mesh.server.running, len(mesh.bridge.parked)) == (0, 0)


async def test_an_end_that_nobody_waits_for_reaches_the_next_round() -> None:
    go = asyncio.Event()

    async def gives_up(call: Call, exchange: Exchange) -> Answer:
        question = asyncio.create_task(exchange.request(NAME))
        await go.wait()
        question.cancel()
        raise Unavailable("it went away")

    mesh = mesh_of(gives_up)
    first = await mesh.run(mesh.call(MODERN, PARAMS))
    mesh.server.idle.clear()
    go.set()
    async with asyncio.timeout(WAIT_S):
        await mesh.server.idle.wait()
    with pytest.raises(Unavailable, match="went away"):
        await mesh.run(retry(mesh, first, {"q1": ANNE_SAYS}))


# ---- URLs to open first ------------------------------------------------------------------------

OPEN_FIRST: Answer = {
    "error": {
        "code": -32042,
        "message": "open this first",
        "data": {"elicitations": [{"mode": "url", "elicitationId": "e", "url": "https://x.test/", "message": "open"}]},
    }
}


async def test_urls_to_open_first_are_asked_and_the_call_is_made_again() -> None:
    opened = False

    async def wants_it_opened(call: Call, exchange: Exchange) -> Answer:
        return {"result": {"params": call.params}} if opened else OPEN_FIRST

    mesh = mesh_of(wants_it_opened)
    first = await mesh.run(mesh.call(MODERN, PARAMS))
    ((key, question),) = asked(first).items()
    assert question["method"] == "elicitation/create"
    assert question["params"]["url"] == "https://x.test/"
    assert len(mesh.bridge.parked) == 0
    with pytest.raises(Invalid, match="another caller"):
        await mesh.run(retry(mesh, first, {key: {"action": "accept"}}, principal=BERT))
    assert asked(await mesh.run(retry(mesh, first, {key: {"action": "accept"}})))
    opened = True
    last = await mesh.run(retry(mesh, first, {key: {"action": "accept"}}))
    assert last == {"result": {"params": PARAMS}}


@pytest.mark.parametrize("action", ["decline", "cancel"])
async def test_who_refuses_to_open_a_url_is_not_asked_again_but_told_what_the_server_says(action: str) -> None:
    async def wants_it_opened(call: Call, exchange: Exchange) -> Answer:
        return OPEN_FIRST

    mesh = mesh_of(wants_it_opened)
    first = await mesh.run(mesh.call(MODERN, PARAMS))
    ((key, _),) = asked(first).items()
    assert await mesh.run(retry(mesh, first, {key: {"action": action}})) == OPEN_FIRST


@pytest.mark.parametrize("capabilities", [{}, {"elicitation": {}}, {"sampling": {}}])
async def test_a_client_that_opens_no_urls_gets_the_servers_error(capabilities: dict[str, Any]) -> None:
    async def wants_it_opened(call: Call, exchange: Exchange) -> Answer:
        return OPEN_FIRST

    mesh = mesh_of(wants_it_opened)
    assert await mesh.run(mesh.call(MODERN, PARAMS, client_capabilities=capabilities)) == OPEN_FIRST


async def test_a_state_of_another_server_or_node_is_refused() -> None:
    mesh, first = await parked()
    call = retry(mesh, first, {"q1": ANNE_SAYS})
    with pytest.raises(MeshError, match="another server"):
        await mesh.run(replace(call, server="other"))
    await mesh.bridge.close()
