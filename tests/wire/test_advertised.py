"""A node that tells its peers an address that is not its own."""

from __future__ import annotations

from federation.clock import SystemClock
from federation.events import Liveness
from federation.upkeep import Upkeep
from tests.wire.meshes import Mesh, at, node_id, refusal_where


async def test_a_node_that_advertises_anothers_address_is_told_so_and_meets_the_other(mesh: Mesh) -> None:
    us, us_heard = await mesh.node("us")
    eu, eu_heard = await mesh.node("eu", at(us), advertise=at(us))
    await eu_heard.until(lambda: eu_heard.state("us") is Liveness.ALIVE)
    (alarm,) = (a for a in eu.alarms if a.name == "advertise")
    assert alarm.about == node_id("eu").uri
    assert f"federation.advertise is {at(us)}, where us answers" in alarm.message
    refusal = await refusal_where(us, lambda r: r.who == node_id("eu").uri)
    assert (refusal.side, refusal.reason) == ("here", "identity")
    assert "mend federation.advertise" in refusal.message
    assert us_heard.state("eu") is None


async def test_a_node_that_is_reached_where_it_says_and_one_that_cannot_ask_are_silent(mesh: Mesh) -> None:
    said: list[object] = []
    eu, _ = await mesh.node("eu")
    upkeep = Upkeep(
        node_id("eu"), mesh.tls("eu"), SystemClock(), lambda *a: said.append(a), eu.peers, lambda *a: said.append(a)
    )
    await upkeep.prove(at(eu))
    await eu.stop()
    await upkeep.prove(at(eu))
    assert said == []
