"""Roads that break, one way or both, between nine nodes in three regions, and roads that only lose some."""

from __future__ import annotations

import time

import pytest

from tests.lab.waiting import until
from tests.lab.world import DIFFERENCE_BYTES_MAX, World, told

pytestmark = [pytest.mark.lab, pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(600)]

LOST_MIN = 60
"""Packets that two percent must have taken before the road counts as having been lossy."""


async def test_a_node_that_one_other_cannot_hear_is_unreachable_there_and_nowhere_else(world: World) -> None:
    fleet, lab = world.fleet, world.lab
    cut = time.time()
    lab.cut_one_way(hearing="us-1", deaf="eu-1")
    seconds = await world.noticed(["us-1"], ["eu-1"], cut)
    await world.judged("us-1", ["eu-1"], ["unreachable"])
    verdict = next(b for b in fleet.became(cut, ["eu-1"]) if b.peer == "us-1" and b.state == "unreachable")
    assert "heard by" in verdict.cause
    assert [o for o in await world.call("eu-1", 10) if o.failed] == []
    healed = time.monotonic()
    lab.heal()
    await world.whole()
    told(f"a one-way cut was noticed after {seconds:.2f} s, healed within {time.monotonic() - healed:.2f} s")
    world.undisturbed(lambda by, peer: {by, peer} != {"eu-1", "us-1"})


async def test_a_region_that_is_cut_off_works_on_by_itself_and_takes_up_only_what_it_missed(world: World) -> None:
    fleet, lab, region = world.fleet, world.lab, "ap"
    inside, outside = lab.regions[region], lab.others(region)
    cut = time.time()
    lab.cut_region(region)
    seconds = max(await world.noticed(inside, outside, cut), await world.noticed(outside, inside, cut))
    for node in inside:
        await world.judged(node, outside, ["down", "unreachable"])

    # Both halves serve what they have.
    here, there = await world.call("ap-3", 10), await world.call("eu-3", 10)
    assert [o for o in (*here, *there) if o.failed] == []
    assert {o.text for o in here} <= set(inside)
    assert {o.text for o in there} <= set(outside)
    before = (await fleet.tools("eu-1"))["own--ap-1"]
    assert not (await fleet.api["ap-1"].call("own--ap-1", "grow", name="meanwhile")).failed

    async def reached() -> bool:
        return (await fleet.tools("ap-3"))["own--ap-1"] == before + 1

    await until(reached, "a change reaches the other nodes of the region")
    # What is cut off is known, but marked.
    status = await fleet.api["eu-1"].status()
    assert status is not None
    marked = {s["qualified"]: (s["tools"], s["state"]) for s in status["servers"] if s["owner"] in inside}
    assert marked["own--ap-1"][0] == before
    assert {state for _, state in marked.values()} <= {"down", "unreachable"}

    carried, healed = lab.carried("us-3", region).size_bytes, time.monotonic()
    lab.heal()
    await world.whole()
    back, sent = time.monotonic() - healed, lab.carried("us-3", region).size_bytes - carried
    told(f"a cut region was noticed by all after {seconds:.2f} s")
    told(f"healed, all was whole within {back:.2f} s: {sent:,} bytes from us-3 to the region's three nodes")
    assert (await fleet.tools("eu-1"))["own--ap-1"] == before + 1
    assert sent <= DIFFERENCE_BYTES_MAX * len(inside)
    world.undisturbed(lambda by, peer: (by in inside) == (peer in inside))


async def test_a_road_that_loses_two_percent_makes_nobody_suspicious(world: World) -> None:
    lab = world.lab
    pairs = (("eu", "us"), ("us", "ap"), ("eu", "ap"))
    before = sum(lab.carried(a, b).lost + lab.carried(b, a).lost for a, b in pairs)
    for a, b in pairs:
        lab.loss(a, b, 2)
    failed, calls, lost = [], 0, 0
    began = time.monotonic()
    while (lost := sum(lab.carried(a, b).lost + lab.carried(b, a).lost for a, b in pairs) - before) < LOST_MIN:
        for entry, far in (("eu-3", "own--ap-1"), ("us-3", "own--eu-1"), ("ap-3", "own--us-1")):
            failed += [o for o in await world.call(entry, 1, far) if o.failed]
            calls += 1
    lab.heal()
    seconds = time.monotonic() - began
    told(f"2 % loss between regions for {seconds:.0f} s, {lost} packets lost: {len(failed)} of {calls} calls failed")
    assert failed == []
    world.undisturbed()
