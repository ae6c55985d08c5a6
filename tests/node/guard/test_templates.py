"""What a template makes is decided on as what it is, and as what the template is."""

from __future__ import annotations

import pytest

from node.guard.mesh import rule
from node.ports import Action
from proto.errors import Unknown
from proto.records import Kind, Record
from tests.node.guard.test_mistakes import ANN, EU, House

SECRET, OPEN = "files://deep/secret/x", "files://deep/open"


def house_of(policy: str) -> House:
    house = House(policy)
    template = {"uriTemplate": "files://deep/{+path}", "name": "t"}
    house.catalog.apply(EU, [Record.of(Kind.TEMPLATE, "files/files://deep/{+path}", template)], [])
    return house


async def read(house: House, uri: str) -> bool:
    """Whether it ran; refused is what does not exist."""
    before = len(house.files.ran)
    answer = await house.ask("files", "resources/read", {"uri": uri})
    ran = len(house.files.ran) > before
    assert ran or answer[0] is Unknown
    return ran


@pytest.mark.parametrize(
    "forbid",
    [
        'resource) when { resource.tool like "files://deep/secret/*" }',
        f'resource == Resource::"files/{SECRET}")',
    ],
)
async def test_a_uri_that_is_forbidden_is_not_read_because_a_template_makes_it(forbid: str) -> None:
    house = house_of(f'permit(principal, action, resource in Server::"files"); forbid(principal, action, {forbid};')
    assert not await read(house, SECRET)
    assert await read(house, OPEN)


async def test_what_a_template_makes_is_permitted_in_the_template_and_refused_with_it() -> None:
    template = 'Template::"files/files://deep/{+path}"'
    permitted = house_of(f"permit(principal, action, resource in {template});")
    assert await read(permitted, OPEN)
    assert not await read(permitted, "files://drop/x")
    refused = house_of(f"permit(principal, action, resource); forbid(principal, action, resource == {template});")
    assert not await read(refused, OPEN)


async def test_names_that_callers_make_up_are_remembered_nowhere() -> None:
    house = house_of("permit(principal, action, resource) when { resource.tool != principal.subject };")
    party = house.guard.terms.party(ANN.principal)
    server = house.catalog.find(EU.name, "files")
    assert server is not None

    def remembered() -> list[int]:
        book = house.guard.terms.book
        assert book is not None
        assert party.policy is not None
        slices = party.policy.slices.values()
        return [len(party.rulings), sum(len(s.verdicts) for s in slices), len(book.engine._entities)]

    rule(house.guard.terms, party, Action.READ, server.resource("u0", Kind.RESOURCE))
    before = remembered()
    for n in range(50):
        made_up = server.resource(f"u{n}", Kind.RESOURCE)
        assert rule(house.guard.terms, party, Action.READ, made_up).decision.allowed
    assert remembered() == before
