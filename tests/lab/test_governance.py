"""Six nodes in three regions: how long what an authority lays down takes to be in force on the last of them."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
import pytest_asyncio

from tests.lab.fleet import Fleet, stamping, told
from tests.lab.net import Lab
from tests.lab.waiting import until
from tests.lab.world import DELAYS, REGIONS

pytestmark = [pytest.mark.lab, pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(600)]

AUTHORITY, ASKED = "eu-1", "ap-2"
BOUND_S = 2.0
OPERATOR, AGENT = "tm_op_of_the_lab_and_nobody_else", "tm_agent_of_the_lab_and_nobody_else"
FORBID = (
    "permit(principal, action, resource);"
    'forbid(principal, action == Action::"call", resource) when {{ resource.tool == "{}" }};'
)


def sha256(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def six(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Fleet]:
    directory = tmp_path_factory.mktemp("governed")
    keys = [{"name": "op", "sha256": sha256(OPERATOR), "scopes": ["operator"]}]

    def servers(node: str) -> dict[str, Any]:
        return {"own": stamping(node, directory / "stamps")} if node == "us-1" else {}

    regions = {region: nodes[:2] for region, nodes in REGIONS.items()}
    async with (
        await Lab.up(regions, DELAYS) as lab,
        Fleet(lab, directory, servers, authorities=[AUTHORITY], more={"auth": {"keys": keys}}, key=OPERATOR) as fleet,
    ):
        await fleet.start()
        await until(fleet.whole, "six nodes that know each other")
        yield fleet


async def in_force(fleet: Fleet, method: str, path: str, body: Any, holds: Callable[[str], Awaitable[bool]]) -> str:
    """Asks a node that is no authority, and looks at every node as often as it answers. What was measured, in words."""

    async def since(node: str, began: float) -> float:
        async def so() -> bool:
            return await holds(node)

        await until(so, f"{method} {path} is in force at {node}", every_s=0.01)
        return time.monotonic() - began

    asked = time.monotonic()
    looking = [asyncio.create_task(since(node, asked)) for node in fleet.nodes]
    status, answer = await fleet.api[ASKED].ask(method, path, body)
    answered = time.monotonic() - asked
    seconds = await asyncio.gather(*looking)
    assert status == 200, answer
    assert (answer["authorities"], answer["waiting"], answer["away"]) == ([AUTHORITY], [], [])
    after = max(seconds) - answered
    assert after <= BOUND_S
    return f"{max(0.0, after):.2f} s after the verb's answer, {max(seconds):.2f} s after it was typed"


async def test_what_is_laid_down_is_in_force_everywhere_within_two_seconds(six: Fleet) -> None:
    async def refuses(node: str) -> bool:
        return (await six.api[node].call("own", "stamp", mark=f"{node}-{time.monotonic_ns()}")).failed

    async def serves(node: str) -> bool:
        return not await refuses(node)

    async def knows(node: str) -> bool:
        return (await six.api[node].ask("GET", "/servers", key=AGENT))[0] == 200

    async def knows_no_more(node: str) -> bool:
        return (await six.api[node].ask("GET", "/servers", key=AGENT))[0] == 401

    assert all([await serves(node) for node in six.nodes])
    steps: list[tuple[str, str, str, Any, Callable[[str], Awaitable[bool]]]] = [
        ("a disabled tool was refused", "PUT", "/held", {"server": "own", "tool": "stamp"}, refuses),
        ("an enabled tool ran again", "DELETE", "/held?server=own&tool=stamp", None, serves),
        ("a policy forbade", "PUT", "/policies/lab", {"text": FORBID.format("stamp")}, refuses),
        ("a changed policy permitted", "PUT", "/policies/lab", {"text": FORBID.format("other")}, serves),
        ("a new key counted", "PUT", "/keys/agent", {"sha256": sha256(AGENT)}, knows),
        ("a revoked key was refused", "DELETE", "/keys/agent", None, knows_no_more),
        ("a removed policy left all", "DELETE", "/policies/lab", None, serves),
    ]
    for what, method, path, body, holds in steps:
        told(f"{what} by the last of six nodes {await in_force(six, method, path, body, holds)}")
