"""What servers are known to do wrong, each by name; each harms at most the call that it is about."""

from __future__ import annotations

import asyncio

import pytest

from proto.errors import OutcomeUnknown


async def test_answers_out_of_order_reach_each_its_own_caller(watch, raw):
    w = await watch(raw())
    await w.until_up()
    # Written in the order in which they are asked, and answered in the reverse one.
    *answers, _ = await asyncio.gather(*(w.tool("hold", {"i": i}) for i in range(5)), w.tool("release"))
    assert [a["result"]["x-params"]["arguments"] for a in answers] == [{"i": i} for i in range(5)]


async def test_half_a_message_and_then_death_leaves_the_outcome_unknown_and_the_next_process_is_clean(watch, raw):
    w = await watch(raw())
    await w.until_up()
    with pytest.raises(OutcomeUnknown, match="exited with status 4"):
        await w.tool("half")
    await w.until(lambda o: o.health.state == "up" and o.health.restarts == 1)
    assert (await w.tool("echo", {"a": 1}))["result"]["x-params"]["arguments"] == {"a": 1}


async def test_a_flood_of_garbage_on_stdout_hides_no_answer(watch, raw):
    w = await watch(raw())
    await w.until_up()
    answers = await asyncio.gather(*(w.tool("garbage") for _ in range(50)))
    assert all("result" in a for a in answers)


async def test_every_page_of_a_list_is_read(watch, raw):
    # The server gives five entries a page.
    offer = await (await watch(raw())).until_up()
    assert len(offer.tools) > 10


async def test_a_server_that_never_answers_initialize_is_given_up_with_the_time_for_its_start(watch, raw):
    w = await watch(raw("mute", start_timeout_s=0.5))
    assert "did not finish its start within 0.5 s" in (await w.until_down()).health.cause
