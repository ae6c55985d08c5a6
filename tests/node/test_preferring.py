from __future__ import annotations

import pytest

from node.balance import Tier
from node.preferring import preference
from node.standing import Standing


def standing(*, failed: int = 0, average_ms: float = 0.0) -> Standing:
    made = Standing(average_ms=average_ms)
    for _ in range(failed):
        made.begin()
        made.failed(0)
    return made


def preferred(tier: Tier = Tier.FAR, *, up: bool = True, draining: bool = False, of: Standing | None = None) -> float:
    return preference(tier, up=up, draining=draining, standing=of)


def test_what_is_better_for_the_caller_is_preferred() -> None:
    assert preferred(Tier.NODE) > preferred(Tier.ZONE) > preferred(Tier.REGION) > preferred(Tier.FAR)
    assert preferred() > preferred(draining=True) > preferred(up=False)
    assert preferred(of=standing()) > preferred(of=standing(failed=2)) > preferred(of=standing(failed=4))
    quick, slow, slower = (preferred(of=standing(average_ms=ms)) for ms in (50, 1_000, 20_000))
    assert quick > slow > slower
    assert preferred(of=standing()) == preferred()


@pytest.mark.parametrize("tier", list(Tier))
def test_it_stays_between_minus_one_and_one(tier: Tier) -> None:
    worst = standing(failed=4, average_ms=1e9)
    for up in (True, False):
        for draining in (True, False):
            assert -1 <= preferred(tier, up=up, draining=draining, of=worst) <= 1
