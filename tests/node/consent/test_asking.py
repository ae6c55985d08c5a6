"""How callers of each era are told where to consent, and what their next call is."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from node.bridge.states import States
from node.consent.asking import Asking
from node.consent.tickets import Tickets
from node.credentials.ports import ConsentNeeded
from node.sealing import Sealer
from proto.calls import Answer, Call, Exchange
from proto.errors import Invalid, Unavailable
from proto.records import Principal
from tests.node.consent.conftest import ALICE, BOB

URL_MODE = {"elicitation": {"url": {}}}
FORMS = {"elicitation": {"form": {}}}


class Server:
    """Needs consent of whoever is not in `agreed`; answers with the params that it was called with."""

    def __init__(self) -> None:
        self.agreed: set[str] = set()
        self.listening = asyncio.Event()

    async def call(self, call: Call, exchange: Exchange) -> Answer:
        if call.method == "subscriptions/listen":
            self.listening.set()
            return await asyncio.Future()
        if call.principal.subject not in self.agreed:
            raise ConsentNeeded("files", call.principal, ("read",))
        return {"result": {"ran": call.params}}


class Client:
    def __init__(self) -> None:
        self.heard: list[dict[str, Any]] = []

    def event(self, notification: dict[str, Any]) -> None:
        self.heard.append(notification)

    async def request(self, request: dict[str, Any]) -> Answer:
        raise Unavailable("not asked here")


class Scene:
    def __init__(self) -> None:
        sealer = Sealer.alone()
        self.tickets = Tickets("eu-1", sealer)
        self.asking = Asking(self.tickets, States("eu-1", sealer), lambda t: f"https://node.example/oauth/start/{t}")
        self.server = Server()
        self.target = self.asking.target("files", self.server)

    async def call(
        self, era: str, capabilities: dict[str, Any], method: str = "tools/call", who: Principal = ALICE, **params: Any
    ) -> Answer:
        call = Call("c1", "files", method, {"name": "t", **params}, who, era=era, client_capabilities=capabilities)
        return await self.target.call(call, Client())

    def ticket_in(self, url: str):
        assert url.startswith("https://node.example/oauth/start/")
        return self.tickets.open(url.rpartition("/")[2])


@pytest.fixture
def scene() -> Scene:
    return Scene()


async def test_a_modern_client_is_asked_to_open_the_address_and_its_retry_is_the_call_itself(scene):
    answer = await scene.call("2026-07-28", URL_MODE, arguments={"x": 1})
    result = answer["result"]
    assert result["resultType"] == "input_required"
    question = result["inputRequests"]["consent"]
    assert question["method"] == "elicitation/create"
    assert question["params"]["mode"] == "url"
    ticket = scene.ticket_in(question["params"]["url"])
    assert (ticket.server, ticket.holder, ticket.scopes) == ("files", ALICE.identity, ("read",))
    scene.server.agreed.add("alice")
    responses = {"consent": {"action": "accept"}}
    again = await scene.call(
        "2026-07-28", URL_MODE, arguments={"x": 1}, requestState=result["requestState"], inputResponses=responses
    )
    assert again == {"result": {"ran": {"name": "t", "arguments": {"x": 1}}}}


async def test_who_says_no_is_told_in_words_and_not_asked_again(scene):
    asked = (await scene.call("2026-07-28", URL_MODE))["result"]
    for action in ("decline", "cancel"):
        answer = await scene.call(
            "2026-07-28",
            URL_MODE,
            requestState=asked["requestState"],
            inputResponses={"consent": {"action": action}},
        )
        assert answer["result"]["isError"] is True


async def test_who_has_not_agreed_by_the_retry_is_asked_once_more(scene):
    asked = (await scene.call("2026-07-28", URL_MODE))["result"]
    accepted = {"consent": {"action": "accept"}}
    answer = await scene.call("2026-07-28", URL_MODE, requestState=asked["requestState"], inputResponses=accepted)
    assert answer["result"]["resultType"] == "input_required"


async def test_the_state_of_one_caller_is_refused_from_another_and_for_another_call(scene):
    state = (await scene.call("2026-07-28", URL_MODE))["result"]["requestState"]
    scene.server.agreed |= {"alice", "bob"}
    with pytest.raises(Invalid, match="another caller"):
        await scene.call("2026-07-28", URL_MODE, who=BOB, requestState=state)
    with pytest.raises(Invalid, match="other params"):
        await scene.call("2026-07-28", URL_MODE, requestState=state, arguments={"other": 1})


async def test_a_state_that_is_not_ours_goes_to_the_server_as_it_is(scene):
    scene.server.agreed.add("alice")
    answer = await scene.call("2026-07-28", URL_MODE, requestState="theirs")
    assert answer["result"]["ran"]["requestState"] == "theirs"


async def test_a_client_of_2025_11_25_gets_the_error_that_names_the_address(scene):
    answer = await scene.call("2025-11-25", URL_MODE)
    assert answer["error"]["code"] == -32042
    (elicitation,) = answer["error"]["data"]["elicitations"]
    assert elicitation["mode"] == "url"
    assert elicitation["elicitationId"] == scene.ticket_in(elicitation["url"]).elicitation
    assert elicitation["message"]


@pytest.mark.parametrize(
    ("era", "capabilities"),
    [
        ("2026-07-28", {}),
        ("2026-07-28", FORMS),
        ("2026-07-28", {"elicitation": {}}),
        ("2025-11-25", FORMS),
        ("2025-06-18", URL_MODE),
        ("2025-03-26", {}),
        ("", {}),
    ],
)
async def test_every_other_client_gets_the_address_in_words(scene, era, capabilities):
    result = (await scene.call(era, capabilities))["result"]
    assert result["isError"] is True
    text = result["content"][0]["text"]
    url = next(word for word in text.split() if word.startswith("https://"))
    assert scene.ticket_in(url).holder == ALICE.identity
    assert "Nothing was run" in text


async def test_where_no_tool_is_called_the_words_are_an_error(scene):
    answer = await scene.call("2025-06-18", {}, method="resources/read", uri="x:y")
    assert "https://node.example/oauth/start/" in answer["error"]["message"]
    assert answer["error"]["data"]["kind"] == "unavailable"


async def test_that_a_consent_is_complete_is_told_to_those_who_listen_as_that_person_there(scene):
    heard = {}
    tasks = []
    for name, who, era in (("mine", ALICE, "2025-11-25"), ("bobs", BOB, "2025-11-25"), ("new", ALICE, "2026-07-28")):
        client = heard[name] = Client()
        call = Call("c", "files", "subscriptions/listen", {}, who, era=era)
        tasks.append(asyncio.create_task(scene.target.call(call, client)))
    await scene.server.listening.wait()
    scene.asking.completed("files", ALICE.identity, "e1")
    scene.asking.completed("other", ALICE.identity, "e2")
    notice = {"method": "notifications/elicitation/complete", "params": {"elicitationId": "e1"}}
    assert [heard[n].heard for n in ("mine", "bobs", "new")] == [[notice], [], []]
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    scene.asking.completed("files", ALICE.identity, "e3")
    assert heard["mine"].heard == [notice]


async def test_who_listens_for_logs_is_held_until_its_person_has_consented_and_begins_anew_then(scene):
    class Needy(Server):
        async def call(self, call: Call, exchange: Exchange) -> Answer:
            raise ConsentNeeded("files", call.principal)

    target = scene.asking.target("files", Needy())
    client = Client()
    call = Call("c", "files", "subscriptions/listen", {"notifications": {}}, ALICE, era="2025-11-25")
    listening = asyncio.create_task(target.call(call, client))
    await asyncio.sleep(0)
    scene.asking.completed("files", BOB.identity, "e0")
    scene.asking.completed("files", ALICE.identity, "e1")
    assert await listening == {"result": {}}
    assert [n["method"] for n in client.heard] == [
        "notifications/subscriptions/acknowledged",
        "notifications/elicitation/complete",
    ]
    # What hears of a resource is told that it cannot.
    subscribing = Call(
        "c", "files", "subscriptions/listen", {"notifications": {"resourceSubscriptions": ["x:y"]}}, ALICE
    )
    with pytest.raises(ConsentNeeded):
        await target.call(subscribing, client)


def test_a_ticket_is_sealed_for_one_node_and_ends(scene):
    now = [0.0]
    sealer = Sealer([b"k" * 32], clock=lambda: now[0])
    text, ticket = Tickets("eu-1", sealer).make("files", ALICE.identity, ("read",))
    assert Tickets("eu-1", sealer).open(text) == ticket
    with pytest.raises(Invalid, match="another node"):
        Tickets("us-1", sealer).open(text)
    with pytest.raises(Invalid, match="not one of ours"):
        Tickets("eu-1", sealer).open(text[:-2] + ("AA" if text[-2:] != "AA" else "BB"))
    now[0] = 10_000
    with pytest.raises(Invalid, match="too old"):
        Tickets("eu-1", sealer).open(text)
    # A state of a call, sealed with the same key, is no ticket.
    with pytest.raises(Invalid, match="not one of ours"):
        Tickets("eu-1", sealer).open(sealer.seal("requestState", {"n": "eu-1"}, 60))
