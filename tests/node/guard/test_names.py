"""What cannot be decided on by name does not run: no spelling of a request slips past the guard."""

from __future__ import annotations

from typing import Any

import pytest

from proto.calls import Call
from proto.errors import Invalid
from tests.node.guard.test_mistakes import ANN, US, House, Quiet

NAMELESS: list[tuple[str, dict[str, Any]]] = [
    ("tools/call", {"name": ["drop_all"]}),
    ("tools/call", {"name": ""}),
    ("tools/call", {}),
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


@pytest.mark.parametrize(("method", "params"), NAMELESS, ids=lambda v: str(v))
async def test_what_names_nothing_that_could_be_decided_on_runs_nowhere(
    house: House, method: str, params: dict[str, Any]
) -> None:
    """A server that takes `["drop_all"]` for `drop_all` would run what the guard was never asked about."""
    refused = await house.ask("files", method, params)
    assert refused[0] is Invalid
    with pytest.raises(Invalid):
        await house.gateway.answer(Call("c", "files", method, params, ANN.principal, via=("us-1",)), Quiet(), US)
    assert house.files.ran == []
