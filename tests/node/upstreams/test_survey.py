"""What a server lists for capable clients only is found out, at little cost and once."""

from __future__ import annotations

import asyncio

import psutil
import pytest

from node.upstreams import survey as survey_module
from node.upstreams.survey import merged
from tests.node.upstreams.test_sessions import ASKS, said, spec


@pytest.fixture(autouse=True)
def soon(monkeypatch):
    monkeypatch.setattr(survey_module, "AFTER_S", 0.0)


async def test_what_only_capable_clients_see_is_offered_too_and_stays_when_the_server_lists_again(watch):
    w = await watch(spec("roots", survey=True))
    offer = await w.until(lambda o: any(t["name"] == "only-for-samplers" for t in o.tools))
    assert [t["name"] for t in offer.tools].count("whoami") == 1
    w.upstream._keeper.relisting.changed("tools")
    await w.tool("tell", {"method": "notifications/tools/list_changed"})
    assert any(t["name"] == "only-for-samplers" for t in w.upstream.offer.tools)
    mine = {"client_capabilities": ASKS | {"sampling": {}}}
    assert said(await w.tool("whoami", **mine))["capabilities"] == mine["client_capabilities"]


async def test_its_session_is_gone_afterwards(watch):
    w = await watch(spec(survey=True))
    await w.until(lambda o: any(t["name"] == "only-for-samplers" for t in o.tools))
    assert len([p for p in psutil.Process().children() if "asking_stdio.py" in " ".join(p.cmdline())]) == 1


async def test_a_stop_during_a_survey_leaves_nothing_behind(watch):
    tasks = set(asyncio.all_tasks())
    w = await watch(spec(survey=True))
    await w.until_up()
    while len(psutil.Process().children()) < 2:  # noqa: ASYNC110 - no event tells of a process
        await asyncio.sleep(0.005)
    await w.upstream.stop()
    assert [p for p in psutil.Process().children() if "asking_stdio.py" in " ".join(p.cmdline())] == []
    assert set(asyncio.all_tasks()) == tasks


async def test_a_server_that_may_run_but_once_is_not_surveyed(watch):
    w = await watch(spec(survey=True, sessions_max=0))
    await w.until_up()
    assert w.upstream._keeper._survey._task is None


def test_of_one_name_the_plain_entry_counts():
    plain = ({"name": "a", "v": 1},)
    assert merged("tools", plain, {"tools": ({"name": "a", "v": 2}, {"name": "b"})}) == (*plain, {"name": "b"})
    assert merged("tools", plain, {}) is plain
