"""Nine nodes in three regions: what they know of each other, and how long they take to see that one is gone."""

from __future__ import annotations

import asyncio
import time

import pytest

from tests.lab.waiting import until
from tests.lab.world import DIFFERENCE_BYTES_MAX, MANY, World, apart_from, told

pytestmark = [pytest.mark.lab, pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(600)]


async def test_everybody_knows_everybodys_tools_and_a_new_one_reaches_all(world: World) -> None:
    fleet, lab = world.fleet, world.lab
    before = await fleet.tools("eu-1")
    assert before["own--us-3"] == MANY + 2
    assert before.keys() == {f"own--{n}" for n in lab.nodes} | {
        f"replica--{n}" for n in lab.nodes if not n.endswith("3")
    }

    async def reaches(node: str) -> float:
        async def reached() -> bool:
            return (await fleet.tools(node))["own--eu-1"] == before["own--eu-1"] + 1

        return await until(reached, f"{node} knows the new tool")

    grown = await fleet.api["eu-1"].call("own--eu-1", "grow", name="sprout")
    assert not grown.failed, grown
    seconds = dict(zip(lab.nodes, await asyncio.gather(*map(reaches, lab.nodes)), strict=True))
    slowest = {region: max(seconds[node] for node in nodes) for region, nodes in lab.regions.items()}
    told("a new tool of eu-1 was known after " + ", ".join(f"{s:.2f} s in {region}" for region, s in slowest.items()))
    assert (await fleet.api["ap-3"].call("own--eu-1", "sprout")).text == "eu-1"
    world.undisturbed()


async def test_a_killed_node_is_noticed_and_comes_back_knowing_what_it_knew(world: World) -> None:
    fleet, lab, victim = world.fleet, world.lab, "us-1"
    others = [node for node in lab.nodes if node != victim]
    known = await fleet.tools("eu-1")
    killed = time.time()
    await fleet.kill(victim)
    seconds = await world.noticed([victim], others, killed)

    # Its service lives on in others from the moment on that its end is noticed.
    outcomes = [o for entry in ("eu-3", "us-3", "ap-3") for o in await world.call(entry, 10)]
    assert [o for o in outcomes if o.failed or o.text == victim] == []
    await world.judged(victim, others, ["down"])
    judged = max(b.at for b in fleet.became(killed) if b.peer == victim and b.state == "down") - killed
    # Its tools are not forgotten.
    assert await fleet.tools("ap-3") == known

    # It comes back where nobody answers: what it knew is there, marked for what it is, and its own tools work.
    for region in lab.regions:
        lab.cut(victim, region)
    await fleet.start(victim)
    status = await fleet.api[victim].status()
    assert status is not None
    assert {p["state"] for p in status["peers"] if p["name"]} <= {"suspect", "unreachable", "down"}
    assert {s["state"] for s in status["servers"] if s["owner"] != victim} <= {"suspect", "unreachable", "down"}
    assert {s: n for s, n in (await fleet.tools(victim)).items() if not s.endswith(victim)} == {
        s: n for s, n in known.items() if not s.endswith(victim)
    }
    await until(lambda: _works(world, victim), "its own tools work")

    carried, healed = lab.carried("us-3", victim), time.monotonic()
    lab.heal()
    await world.whole()
    back, sent = time.monotonic() - healed, lab.carried("us-3", victim).size_bytes - carried.size_bytes
    told(f"a killed node was doubted by all after {seconds:.2f} s, held for down after {judged:.2f} s")
    told(f"restarted, and then no longer cut off, it was one of them within {back:.2f} s: {sent:,} bytes from us-3")
    assert sent <= DIFFERENCE_BYTES_MAX
    world.undisturbed(apart_from(victim))


async def _works(world: World, node: str) -> bool:
    return not (await world.call(node, 1, f"own--{node}"))[0].failed


async def test_a_frozen_node_is_noticed_and_does_not_take_others_for_dead_when_it_wakes(world: World) -> None:
    fleet, lab, victim = world.fleet, world.lab, "ap-2"
    others = [node for node in lab.nodes if node != victim]
    frozen = time.time()
    fleet.freeze(victim)
    try:
        seconds = await world.noticed([victim], others, frozen)
        outcomes = [o for entry in ("eu-3", "us-3", "ap-3") for o in await world.call(entry, 10)]
        assert [o for o in outcomes if o.failed or o.text == victim] == []
        await world.judged(victim, others, ["down", "unreachable"])
    finally:
        thawed = time.time()
        fleet.thaw(victim)
    back = await world.whole()
    # Others may have hung up on it meanwhile, which it may doubt; what it slept through is its own silence, not theirs.
    waking = [
        j.told(thawed)
        for j in fleet.doubts(thawed)
        if j.doubt.by == victim
        and not j.excused
        and (j.doubt.state in ("down", "unreachable") or j.doubt.cause.startswith("silent"))
    ]
    told(f"a frozen node was doubted by all after {seconds:.2f} s")
    told(f"thawed after {thawed - frozen:.1f} s it was one of them again within {back:.2f} s")
    assert waking == []
    world.undisturbed(apart_from(victim))
