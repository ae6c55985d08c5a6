"""A tool that runs as a task only, called by a client that asks for no task."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from proto.calls import Answer, Call, Exchange
from proto.errors import Expired, Unknown
from tests.node.bridge.twins import LEGACY, MODERN, WAIT_S, Client, Lists, Mesh, mesh_of

TOOLS = ({"name": "long", "execution": {"taskSupport": "required"}}, {"name": "short"}, {"name": "odd", "execution": 1})
NAME: dict[str, Any] = {"method": "elicitation/create", "params": {"message": "name?"}}


@dataclass
class Tasks:
    """A legacy server with one task, which goes through `states`, one a look."""

    states: list[str]
    interval: Any = 1
    asks: bool = False
    looked: asyncio.Event = field(default_factory=asyncio.Event)

    async def serve(self, call: Call, exchange: Exchange) -> Answer:
        match call.method:
            case "tools/call" if "task" in call.params:
                return {"result": {"task": self._task()}}
            case "tasks/get":
                self.looked.set()
                return {"result": self._task()}
            case "tasks/result":
                said = await exchange.request(NAME) if self.asks else None
                return {"result": {"content": [], "said": said}}
            case "tasks/cancel":
                return {"result": self._task()}
        return {"result": {"content": [], "direct": True}}

    def _task(self) -> dict[str, Any]:
        state = self.states.pop(0) if len(self.states) > 1 else self.states[0]
        return {"taskId": "t", "status": state, "pollInterval": self.interval}

    def mesh(self) -> Mesh:
        mesh = mesh_of(self.serve)
        mesh.server.offer = Lists(TOOLS)
        return mesh


def methods(mesh: Mesh) -> list[str]:
    return [call.method for call in mesh.server.calls]


@pytest.mark.parametrize("era", [LEGACY, MODERN])
async def test_its_client_gets_the_result_as_if_there_were_no_task(era: str) -> None:
    mesh = Tasks(["working", "working", "completed"]).mesh()
    answer = await mesh.run(mesh.call(era, {"name": "long", "arguments": {"a": 1}}))
    assert answer == {"result": {"content": [], "said": None}}
    assert methods(mesh) == ["tools/call", "tasks/get", "tasks/get", "tasks/result"]
    assert mesh.server.calls[0].params == {"name": "long", "arguments": {"a": 1}, "task": {}}
    assert {str(call.params) for call in mesh.server.calls[1:]} == {"{'taskId': 't'}"}


@pytest.mark.parametrize("params", [{"name": "short"}, {"name": "odd"}, {"name": 1}, {}])
async def test_other_tools_are_called_as_they_are(params: dict[str, Any]) -> None:
    mesh = Tasks(["working"]).mesh()
    params = {**params, "arguments": {}}
    assert (await mesh.run(mesh.call(LEGACY, params)))["result"]["direct"]
    assert mesh.server.calls[0].params == params


async def test_a_client_that_asks_for_a_task_gets_one() -> None:
    mesh = Tasks(["working"]).mesh()
    answer = await mesh.run(mesh.call(LEGACY, {"name": "long", "task": {"ttl": 1}}))
    assert answer["result"]["task"]["taskId"] == "t"
    assert methods(mesh) == ["tools/call"]


@pytest.mark.parametrize("interval", [None, "x", -1, 0, True, 1.5])
async def test_an_odd_interval_is_bounded(interval: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("node.bridge.polling.POLL_S", 0.03)
    mesh = Tasks(["working", "completed"], interval).mesh()
    assert "result" in await mesh.run(mesh.call(LEGACY, {"name": "long"}))


async def test_a_task_that_needs_an_answer_asks_a_legacy_client_in_mid_call() -> None:
    mesh = Tasks(["working", "input_required"], asks=True).mesh()
    client = Client({"elicitation/create": {"action": "decline"}})
    answer = await mesh.run(mesh.call(LEGACY, {"name": "long"}), client)
    assert answer["result"]["said"] == {"result": {"action": "decline"}}


async def test_a_task_that_needs_an_answer_is_parked_for_a_modern_client() -> None:
    mesh = Tasks(["working", "input_required"], asks=True).mesh()
    first = await mesh.run(mesh.call(MODERN, {"name": "long"}))
    assert first["result"]["inputRequests"] == {"q1": NAME}
    more = {"inputResponses": {"q1": {"action": "decline"}}, "requestState": first["result"]["requestState"]}
    last = await mesh.run(mesh.call(MODERN, {"name": "long", **more}))
    assert last["result"]["said"] == {"result": {"action": "decline"}}


async def test_cancelling_the_call_cancels_the_task() -> None:
    tasks = Tasks(["working"])
    mesh = tasks.mesh()
    running = asyncio.create_task(mesh.run(mesh.call(LEGACY, {"name": "long"})))
    async with asyncio.timeout(WAIT_S):
        await tasks.looked.wait()
        running.cancel()
        await asyncio.wait({running})
    assert running.cancelled()
    assert methods(mesh)[-1] == "tasks/cancel"


async def test_a_task_beyond_its_budget_is_cancelled() -> None:
    mesh = Tasks(["working"]).mesh()
    with pytest.raises(Expired, match="its task was cancelled"):
        await mesh.run(mesh.call(LEGACY, {"name": "long"}, budget_ms=100))
    assert methods(mesh)[-1] == "tasks/cancel"


async def test_a_person_may_take_longer_to_answer_a_task_than_its_work_may_take() -> None:
    class Person(Client):
        async def request(self, request: Any) -> Answer:
            asked.set()
            await thought.wait()
            return await super().request(request)

    asked, thought = asyncio.Event(), asyncio.Event()
    person = Person({"elicitation/create": {"action": "decline"}})
    mesh = Tasks(["input_required"], asks=True).mesh()
    call = mesh.call(LEGACY, {"name": "long"}, budget_ms=100)
    async with asyncio.timeout(WAIT_S):
        running = asyncio.create_task(mesh.run(call, person))
        await asked.wait()
        # Another call with the same time runs out of it meanwhile.
        with pytest.raises(Expired):
            await Tasks(["working"]).mesh().run(replace(call, budget_ms=150))
        thought.set()
        assert (await running)["result"]["said"] == {"result": {"action": "decline"}}


async def test_a_tool_that_runs_without_a_task_after_all_is_answered() -> None:
    async def serve(call: Call, exchange: Exchange) -> Answer:
        return {"error": {"code": -32601, "message": "no tasks here"}}

    mesh = mesh_of(serve)
    mesh.server.offer = Lists(TOOLS)
    assert "error" in await mesh.run(mesh.call(LEGACY, {"name": "long"}))


async def test_a_task_that_is_lost_is_told() -> None:
    async def serve(call: Call, exchange: Exchange) -> Answer:
        if call.method == "tools/call":
            return {"result": {"task": {"taskId": "t", "status": "working", "pollInterval": 1}}}
        return {"error": {"code": -32602, "message": "no such task"}}

    mesh = mesh_of(serve)
    mesh.server.offer = Lists(TOOLS)
    assert (await mesh.run(mesh.call(LEGACY, {"name": "long"})))["error"]["message"] == "no such task"


async def test_a_list_of_tasks_that_would_be_everybodys_is_not_relayed() -> None:
    mesh = Tasks(["working"]).mesh()
    assert "result" in await mesh.run(mesh.call(LEGACY, {}, "tasks/list"))
    mesh.server.spec = replace(mesh.server.spec, sessions="shared")
    with pytest.raises(Unknown) as e:
        await mesh.run(mesh.call(LEGACY, {}, "tasks/list"))
    assert e.value.data["method"] == "tasks/list"
