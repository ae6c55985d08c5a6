"""Each caller has its own tasks at a server that cannot tell callers apart."""

from __future__ import annotations

from typing import Any

import pytest

from node.bridge.own_tasks import OwnTasks
from node.endpoints.capabilities import TASKS
from proto.calls import Answer, Call, Exchange, Notification
from proto.errors import Invalid, Unknown
from proto.records import Principal

ANN, BOB = Principal("ann", "mesh", "acme", kind="key"), Principal("ann", "mesh", "beta", kind="key")


class Nobody:
    def event(self, notification: Notification) -> None:
        return

    async def request(self, request: Notification) -> Answer:
        raise AssertionError


class Server:
    """Begins a task at every call, and tells anybody of every one."""

    def __init__(self, *, modern: bool) -> None:
        self.modern = modern
        self.tasks: list[str] = []
        self.asked: list[Call] = []
        self.names: list[str] = []

    async def call(self, call: Call, exchange: Exchange) -> Answer:
        self.asked.append(call)
        match call.method:
            case "tools/call":
                self.tasks.append(self.names.pop() if self.names else f"t{len(self.tasks)}")
                task = {"taskId": self.tasks[-1], "status": "working"}
                return {"result": {"resultType": "task", **task} if self.modern else {"task": task}}
            case "tasks/list":
                return {"result": {"tasks": [{"taskId": t} for t in self.tasks], "nextCursor": "c"}}
            case _:
                return {"result": {"taskId": call.params.get("taskId"), "status": "working"}}


@pytest.fixture(params=[True, False], ids=["2026-07-28", "2025-11-25"])
def server(request: pytest.FixtureRequest) -> Server:
    return Server(modern=request.param)


async def ask(own: OwnTasks, who: Principal, method: str, **params: Any) -> Any:
    return (await own.call(Call("c", "s", method, params, who), Nobody()))["result"]


async def begin(own: OwnTasks, who: Principal) -> str:
    result = await ask(own, who, "tools/call", name="work")
    return str(result.get("task", result)["taskId"])


@pytest.mark.parametrize("method", ["tasks/get", "tasks/result", "tasks/cancel", "tasks/update"])
async def test_a_task_is_there_for_whoever_began_it_and_for_nobody_else(server: Server, method: str) -> None:
    own = OwnTasks(server, "s")
    task = await begin(own, ANN)
    await ask(own, ANN, method, taskId=task)
    told = []
    for asked in (task, "no such task"):
        with pytest.raises(Invalid) as refused:
            await ask(own, BOB, method, taskId=asked)
        told.append(refused.value.message.replace(asked, "…"))
    assert told[0] == told[1]
    assert [c.method for c in server.asked] == ["tools/call", method]


async def test_lists_and_listens_hold_ones_own_tasks(server: Server) -> None:
    own = OwnTasks(server, "s")
    hers, his = await begin(own, ANN), await begin(own, BOB)
    assert await ask(own, BOB, "tasks/list") == {"tasks": [{"taskId": his}], "nextCursor": "c"}
    await ask(
        own, ANN, "subscriptions/listen", notifications={"taskIds": [hers, his, 7, None], "toolsListChanged": True}
    )
    assert server.asked[-1].params == {"notifications": {"taskIds": [hers], "toolsListChanged": True}}


async def test_a_task_without_a_readable_id_is_the_servers_to_complain_about(server: Server) -> None:
    own = OwnTasks(server, "s")
    await ask(own, BOB, "tasks/get")
    await ask(own, BOB, "tasks/get", taskId=7)
    assert len(server.asked) == 2


async def test_an_id_that_a_restarted_server_gives_again_is_the_new_callers(server: Server) -> None:
    own = OwnTasks(server, "s")
    task = await begin(own, ANN)
    server.names = [task]
    assert await begin(own, BOB) == task
    await ask(own, BOB, "tasks/get", taskId=task)
    with pytest.raises(Invalid):
        await ask(own, ANN, "tasks/get", taskId=task)


async def test_what_is_remembered_is_bounded_for_all_and_for_one(server: Server) -> None:
    own = OwnTasks(server, "s", tasks_max=4, tasks_of_one_max=3)
    hers = await begin(own, ANN)
    his = [await begin(own, BOB) for _ in range(5)]
    # One caller pushes out its own first.
    await ask(own, ANN, "tasks/get", taskId=hers)
    with pytest.raises(Invalid):
        await ask(own, BOB, "tasks/get", taskId=his[1])
    await ask(own, BOB, "tasks/get", taskId=his[2])
    more = [await begin(own, ANN) for _ in range(2)]
    assert "4 tasks" in repr(own)
    await ask(own, ANN, "tasks/get", taskId=more[-1])


@pytest.mark.parametrize("method", ["tasks/get", "tasks/update", "tasks/cancel"])
async def test_who_does_not_declare_tasks_is_told_that_first_whatever_there_is(method: str) -> None:
    server = Server(modern=True)
    own = OwnTasks(server, "s")
    task = await begin(own, ANN)
    told = [await own.call(modern(method, taskId=asked), Nobody()) for asked in (task, "no such task")]
    assert told[0] == told[1]
    assert told[0]["error"]["code"] == -32021
    assert told[0]["error"]["data"] == {"requiredCapabilities": {"extensions": {TASKS: {}}}}
    assert [c.method for c in server.asked] == ["tools/call"]


async def test_a_method_that_was_removed_is_not_found_whatever_there_is() -> None:
    server = Server(modern=True)
    own = OwnTasks(server, "s")
    for asked in (await begin(own, ANN), "no such task"):
        with pytest.raises(Unknown) as refused:
            await own.call(modern("tasks/result", {TASKS: {}}, taskId=asked), Nobody())
        assert refused.value.data == {"method": "tasks/result"}


async def test_who_declares_tasks_is_told_that_one_is_not_his_own() -> None:
    own = OwnTasks(Server(modern=True), "s")
    task = await begin(own, ANN)
    with pytest.raises(Invalid, match="of yours"):
        await own.call(modern("tasks/get", {TASKS: {}}, taskId=task), Nobody())


def modern(method: str, extensions: dict[str, Any] | None = None, **params: Any) -> Call:
    capabilities = {"extensions": extensions or {}}
    return Call("c", "s", method, params, BOB, era="2026-07-28", client_capabilities=capabilities)
