"""What use has taught, in whole searches: it lifts, it starves nobody, and it shows nobody what is hidden."""

from __future__ import annotations

import pytest

from router.feedback import Feedback
from router.ports import Filter, ToolEntry
from router.router import Router
from tests.router.conftest import MakeEntry, MakeRouter

TASK = "convert an amount of money into another currency"


async def use(router: Router, feedback: Feedback, tool: ToolEntry, principals: int = 5) -> None:
    """As if agents had searched with the task and called the tool."""
    for number in range(principals):
        result = await router.search(TASK, principal=f"agent {number}")
        feedback.shown(f"agent {number}", result.vector, [tool])
        assert feedback.called(f"agent {number}", tool, ok=True)


def named(sample: list[ToolEntry], tool: str) -> ToolEntry:
    return next(e for e in sample if e.key.tool == tool)


async def test_a_tool_without_votes_keeps_its_place_before_all_that_it_beats_by_more_than_the_greatest_bonus(
    make_router: MakeRouter, sample: list[ToolEntry]
) -> None:
    feedback = Feedback()
    router = await make_router(sample, feedback=feedback)
    before = {h.entry.key: h for h in (await router.search(TASK, k=len(sample), explain=True)).hits}

    def total(entry: ToolEntry) -> float:
        why = before[entry.key].why
        assert why is not None
        return why.words + why.meaning + why.server + why.clauses + why.name

    best, far = named(sample, "convert_currency"), named(sample, "read_file")
    assert total(best) - total(far) > feedback.greatest, "or this test shows nothing"
    await use(router, feedback, far)
    after = await router.search(TASK, k=len(sample), principal="agent 0", explain=True)
    lifted = next(h for h in after.hits if h.entry.key == far.key)
    assert lifted.why is not None
    assert lifted.why.feedback == pytest.approx(feedback.greatest, rel=0.01)
    assert after.hits[0].entry.key == best.key


async def test_a_hidden_tool_is_not_lifted_into_sight_and_changes_nothing_for_who_may_not_see_it(
    make_router: MakeRouter, sample: list[ToolEntry]
) -> None:
    feedback = Feedback()
    router = await make_router(sample, feedback=feedback)
    secret = named(sample, "get_exchange_rate")
    only = Filter("without", lambda e: e.key != secret.key)
    before = await router.search(TASK, k=5, only=only)
    await use(router, feedback, secret)
    after = await router.search(TASK, k=5, only=only, principal="agent 0")
    assert [(h.entry.key, h.score) for h in after.hits] == [(h.entry.key, h.score) for h in before.hits]
    seen = {h.entry.key: h.why for h in (await router.search(TASK, principal="agent 0", explain=True)).hits}
    why = seen[secret.key]
    assert why is not None
    assert why.feedback > 0, "for who may see it, it is lifted"


async def test_a_redefined_tool_ranks_as_if_it_had_never_been_used(
    make_router: MakeRouter, sample: list[ToolEntry], entry: MakeEntry
) -> None:
    feedback = Feedback()
    router = await make_router(sample, feedback=feedback)
    await use(router, feedback, named(sample, "get_exchange_rate"))
    router.apply(
        [entry("get_exchange_rate", "Look up the exchange rate of two currencies, and mine.", server="bank")], ()
    )
    await router.settled()
    after = await router.search(TASK, k=5, principal="agent 0", explain=True)
    assert all(h.why is not None and h.why.feedback == 0 for h in after.hits)
