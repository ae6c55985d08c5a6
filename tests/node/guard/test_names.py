"""What cannot be decided on by name does not run: no spelling of a request slips past the guard."""

from __future__ import annotations

from typing import Any

import pytest

from proto.calls import Answer, Call, Exchange
from proto.errors import Invalid, Unknown
from tests.node.guard.test_mistakes import ANN, US, House, Quiet

NAMELESS: list[tuple[str, dict[str, Any]]] = [
    ("tools/call", {"name": ["drop_all"]}),
    ("tools/call", {"name": ""}),
    ("tools/call", {}),
    ("tools/call", {"name": "x" * 8_193}),
    ("prompts/get", {"name": {"0": "drop_prompt"}}),
    ("resources/read", {"uri": ["files://drop"]}),
    ("resources/read", {"uri": None}),
    ("completion/complete", {"ref": {"type": "ref/prompt", "name": ["drop_prompt"]}}),
    ("completion/complete", {"ref": {"type": "ref/resource"}}),
    ("completion/complete", {"ref": {"type": "ref/tool", "name": "drop_all"}}),
    ("completion/complete", {"ref": ["drop_prompt"]}),
    ("completion/complete", {}),
]


@pytest.fixture
async def house() -> House:
    return House()


@pytest.mark.parametrize(("method", "params"), NAMELESS, ids=lambda v: str(v)[:60])
async def test_what_names_nothing_that_could_be_decided_on_runs_nowhere(
    house: House, method: str, params: dict[str, Any]
) -> None:
    """A server that takes `["drop_all"]` for `drop_all` would run what the guard was never asked about."""
    refused = await house.ask("files", method, params)
    assert refused[0] is Invalid
    with pytest.raises(Invalid):
        await house.gateway.answer(Call("c", "files", method, params, ANN.principal, via=("us-1",)), Quiet(), US)
    assert house.files.ran == []


async def test_a_method_of_any_length_is_kept_nowhere(house: House) -> None:
    method = "x" * 129
    assert (await house.ask("files", method, {}))[0] is Unknown
    for named in (method, f"notifications/{method}"):
        with pytest.raises(Unknown):
            await house.gateway.answer(Call("c", "files", named, {}, ANN.principal, via=("us-1",)), Quiet(), US)
    with pytest.raises(Unknown):
        await house.gateway.tell("files", f"notifications/{method}", {}, ANN)
    assert not house.gateway.recent


async def test_a_listen_that_an_owner_refuses_is_told_like_a_server_that_does_not_exist(house: House) -> None:
    async def refuse(call: Call, exchange: Exchange) -> Answer:
        raise Unknown("node 'us-1' has no server 'files'", server="files")

    house.files.call = refuse  # type: ignore[method-assign]
    with pytest.raises(Unknown) as refused:
        await house.gateway.listen("files", {"notifications": {}}, ANN, Quiet())
    with pytest.raises(Unknown) as missing:
        await house.gateway.listen("filed", {"notifications": {}}, ANN, Quiet())
    assert refused.value.message == missing.value.message.replace("filed", "files")


ARGUED = """
permit(principal, action, resource in Server::"files")
  when { context.arguments has path && context.arguments.path like "/srv/*" };
forbid(principal, action, resource == Tool::"files/write")
  when { context.arguments has path && context.arguments.path like "/srv/etc*" };
"""


@pytest.mark.parametrize(
    ("method", "params"),
    [
        ("resources/read", {"uri": "files://keep"}),
        ("completion/complete", {"ref": {"type": "ref/resource", "uri": "files://keep"}}),
        ("vendor/wipe", {"arguments": {"path": "/srv/x"}}),
        ("tools/call", {"name": "read"}),
        ("tools/call", {"name": "write", "arguments": '{"path": "/srv/etc"}'}),
        ("tools/call", {"name": "write", "arguments": ["/srv/etc"]}),
    ],
    ids=lambda v: str(v),
)
async def test_a_permit_that_rests_on_arguments_permits_nothing_that_has_none(
    method: str, params: dict[str, Any]
) -> None:
    house = House(ARGUED)
    assert (await house.ask("files", method, params))[0] is Invalid
    assert house.files.ran == []
    await house.ask("files", "tools/call", {"name": "write", "arguments": {"path": "/srv/x"}})
    assert len(house.files.ran) == 1


async def test_arguments_that_only_a_server_can_read_are_refused_where_policies_read_them() -> None:
    policy = """permit(principal, action, resource);
    forbid(principal, action, resource) when { context.arguments has path && context.arguments.path like "/etc*" };"""
    house = House(policy)
    for arguments in ('{"path": "/etc"}', ["/etc"], 7, "", []):
        assert (await house.ask("files", "tools/call", {"name": "write", "arguments": arguments}))[0] is Invalid
    assert house.files.ran == []
    for given in ({}, {"arguments": None}, {"arguments": {"path": "/srv"}}):
        await house.ask("files", "tools/call", {"name": "write", **given})
    assert len(house.files.ran) == 3
