"""Nodes that know nothing but an etcd of three regions find each other, and need it for nothing else."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.lab.etcd import Etcd
from tests.lab.fleet import Fleet, stamping, told
from tests.lab.net import Lab
from tests.lab.waiting import until
from tests.lab.world import DELAYS

pytestmark = [pytest.mark.lab, pytest.mark.timeout(600)]

REGIONS = {"eu": ("eu-1", "eu-etcd"), "us": ("us-1", "us-2", "us-etcd"), "ap": ("ap-1", "ap-etcd")}
LEASE_S = 5


async def test_nodes_find_each_other_by_an_etcd_that_loses_a_member_and_a_region(tmp_path: Path) -> None:
    async with await Lab.up(REGIONS, DELAYS) as lab:
        etcd = Etcd(lab, tmp_path / "etcd", [node for node in lab.nodes if node.endswith("etcd")])
        nodes = [node for node in lab.nodes if not node.endswith("etcd")]

        def discovery(node: str) -> dict[str, object]:
            return {"etcd": {"endpoints": etcd.endpoints(node), "lease_s": LEASE_S, "insecure": True}}

        def servers(node: str) -> dict[str, dict[str, object]]:
            return {"own": stamping(node, tmp_path / "stamps")}

        await etcd.start()
        async with Fleet(lab, tmp_path, servers, discovery, nodes) as fleet:

            async def registered(node: str) -> bool:
                return any(key.endswith(f"/{node}") for key in await etcd.keys("ap-etcd"))

            async def expired(node: str) -> bool:
                return bool(keys := await etcd.keys("us-etcd")) and not any(key.endswith(f"/{node}") for key in keys)

            await fleet.start("eu-1", "us-1", "ap-1")
            found = await until(lambda: fleet.whole("eu-1", "us-1", "ap-1"), "three nodes that know each other")
            told(f"three nodes found each other by etcd {found:.1f} s after they served")
            since = time.time()

            # A member dies: who had it nearest goes on with the others, and a newcomer is found.
            etcd.kill("eu-etcd")
            await fleet.start("us-2")
            joined = await until(fleet.whole, "the newcomer known to all")
            told(f"a member of etcd killed, a newcomer was known to all {joined:.1f} s after it served")

            # A region is cut off, and leaves etcd, which two members keep up; what is known of it stays, and it comes
            # back by itself.
            await etcd.start("eu-etcd")
            await until(lambda: etcd.keys("eu-etcd"), "the member of eu is back", every_s=0.2)
            lab.cut_region("ap")
            await until(lambda: expired("ap-1"), "the entry of ap-1 has expired", every_s=0.5)
            assert (await fleet.tools("eu-1"))["own--ap-1"] == 2
            lab.heal()
            healed = await until(fleet.whole, "four nodes that know each other again")
            again = await until(lambda: registered("ap-1"), "ap-1 is registered again", every_s=0.2)
            told(f"a region cut off until it had left etcd was back in {healed:.1f} s, in etcd {again:.1f} s later")
            fleet.undisturbed(since, lambda by, peer: "ap-1" not in (by, peer))
