"""Limits of calls: exact, by who calls and what, and in bounded memory."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.guard.limits import Unlimited
from node.guard.measuring import MeasuredLimits
from node.guard.rates import Bucket, Rule, Table
from node.settings.limits import CallLimit, LimitsSection
from proto.errors import Exhausted
from proto.records import Principal

MESH = "mesh.test"
ANN = Principal("ann", MESH, "acme", kind="key")
BOB = Principal("bob", MESH, "acme", kind="key")


class Clock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


def limits_of(clock: Clock, **section: object) -> MeasuredLimits:
    return MeasuredLimits(LimitsSection.model_validate(section), MESH, clock)


def refused(limits: MeasuredLimits, who: Principal, server: str = "time", size: int = 2, **sides: bool) -> Exhausted:
    with pytest.raises(Exhausted) as caught:
        limits.enter(who, server, size, **sides)
    return caught.value


@given(rate=st.floats(0.1, 100), burst=st.integers(1, 20), pauses_s=st.lists(st.floats(0, 2), min_size=1, max_size=200))
def test_in_any_stretch_no_more_pass_than_burst_and_rate_allow(rate: float, burst: int, pauses_s: list[float]) -> None:
    bucket = Bucket(Rule.at("r", per_s=rate, burst=burst))
    now_s, passed = 0.0, []
    for pause_s in pauses_s:
        now_s += pause_s
        wait_s = bucket.wait_s(now_s)
        if not wait_s:
            bucket.take(now_s)
            passed.append(now_s)
        else:
            # Exact: not a moment before, and then it passes.
            assert bucket.wait_s(now_s + wait_s * 0.99 - 1e-5) > 0 or wait_s < 1e-4
            assert bucket.wait_s(now_s + wait_s) == 0
    for i, begin_s in enumerate(passed):
        for j in range(i, len(passed)):
            assert j - i + 1 <= burst + rate * (passed[j] - begin_s) + 1e-3 * rate + 1e-6


def test_a_caller_is_told_exactly_when_the_next_call_passes(clock: Clock) -> None:
    limits = limits_of(clock, principal={"requests_per_min": 30, "burst": 1})
    limits.enter(ANN, "time", 2)
    told = refused(limits, ANN)
    assert told.data == {"limit": "limits.principal.requests_per_min", "retry_after_s": pytest.approx(2)}
    # Being sent away costs nothing: who comes back in time is let in.
    for _ in range(10):
        refused(limits, ANN)
    clock.now_s += told.data["retry_after_s"]
    limits.enter(ANN, "time", 2)


def test_the_caller_counts_and_nothing_that_it_can_change(clock: Clock) -> None:
    limits = limits_of(clock, principal={"requests_per_s": 1})
    limits.enter(ANN, "time", 2)
    for same in (
        Principal("ann", MESH, "acme", kind="key", credential="key/other"),
        Principal("ann", MESH, "acme", ("new",), ("scope",), "user", ("agent",), "jti/7", 99),
    ):
        refused(limits, same, "another-server")
    limits.enter(BOB, "time", 2)
    limits.enter(Principal("ann", "other.mesh", "acme"), "time", 2)
    limits.enter(Principal("ann", MESH, "other"), "time", 2)


def test_a_server_counts_calls_of_all_and_a_pair_those_of_one(clock: Clock) -> None:
    limits = limits_of(clock, server={"requests_per_s": 3}, pair={"requests_per_s": 2})
    for _ in range(2):
        limits.enter(ANN, "time", 2)
    assert refused(limits, ANN).data["limit"] == "limits.pair.requests_per_s"
    limits.enter(ANN, "git", 2)
    limits.enter(BOB, "time", 2)
    assert refused(limits, BOB).data["limit"] == "limits.server.requests_per_s"


def test_each_side_of_a_hop_counts_what_is_its_own(clock: Clock) -> None:
    limits = limits_of(clock, principal={"requests_per_s": 1}, server={"requests_per_s": 1})
    limits.enter(ANN, "time", 2, owner=False)
    limits.enter(ANN, "time", 2, entry=False)
    assert refused(limits, ANN, owner=False).data["limit"] == "limits.principal.requests_per_s"
    assert refused(limits, BOB, entry=False).data["limit"] == "limits.server.requests_per_s"
    limits.enter(BOB, "time", 2, owner=False)


def test_a_call_that_one_limit_refuses_is_counted_in_none(clock: Clock) -> None:
    limits = limits_of(clock, principal={"requests_per_s": 1}, server={"requests_per_s": 1, "burst": 2})
    limits.enter(ANN, "time", 2)
    for _ in range(5):
        refused(limits, ANN)
    limits.enter(BOB, "time", 2)


def test_places_are_given_back_once_and_only_once(clock: Clock) -> None:
    limits = limits_of(clock, principal={"concurrency": 2})
    first, second = (limits.enter(ANN, "time", 2) for _ in range(2))
    assert refused(limits, ANN).data == {"limit": "limits.principal.concurrency", "retry_after_s": 1.0}
    first.leave()
    first.leave()
    limits.enter(ANN, "time", 2)
    refused(limits, ANN)
    second.leave()
    limits.enter(ANN, "time", 2)


def test_parameters_have_a_length_for_which_waiting_is_no_help(clock: Clock) -> None:
    limits = limits_of(clock, pair={"payload_bytes": 10})
    assert limits.weighs
    limits.enter(ANN, "time", 10)
    told = refused(limits, ANN, size=11)
    assert told.data == {"limit": "limits.pair.payload_bytes"}
    assert "11 bytes" in told.message
    assert "limits.pair.payload_bytes is 10" in told.message


def test_names_have_limits_of_their_own(clock: Clock) -> None:
    limits = limits_of(
        clock,
        principal={"requests_per_s": 1, "payload_bytes": 100},
        keys={"ann": {"requests_per_min": 2}, "free": {"requests_per_s": 0}},
        tenants={"acme": {"requests_per_s": 3}},
        servers={"slow": {"concurrency": 1}},
    )
    for _ in range(2):
        limits.enter(ANN, "time", 2)
    assert refused(limits, ANN).data["limit"] == "limits.keys.ann.requests_per_min"
    assert refused(limits, ANN, size=101).data["limit"] == "limits.keys.ann.payload_bytes"
    for _ in range(3):
        limits.enter(BOB, "time", 2)
    assert refused(limits, BOB).data["limit"] == "limits.tenants.acme.requests_per_s"
    for _ in range(100):
        limits.enter(Principal("free", MESH), "time", 2)
    stranger = Principal("ann", "https://login.example.org")
    limits.enter(stranger, "time", 2)
    assert refused(limits, stranger).data["limit"] == "limits.principal.requests_per_s"
    clock.now_s += 100
    limits.enter(BOB, "slow", 2)
    assert refused(limits, BOB, "slow").data["limit"] == "limits.servers.slow.concurrency"


def test_flooding_with_names_makes_nobodys_debt_forgotten() -> None:
    rule, table = Rule.at("r", per_s=1, burst=1), Table(keys_max=100)
    debtor = table.enter("debtor", rule, 0.0)
    for _ in range(50):
        debtor.take(0.0)
    for i in range(10_000):
        newcomer = table.known(i) or table.enter(i, rule, 0.0)
        newcomer.take(0.0)
    assert len(table) == 100
    assert table.known("debtor") is debtor
    assert debtor.wait_s(0.0) == pytest.approx(50)
    # The flood is counted together, and pays for itself.
    assert table.crowded == 10_000 - 99
    assert table.enter("newcomer", rule, 0.0).wait_s(0.0) > 9_000


def test_who_owes_nothing_makes_room(clock: Clock) -> None:
    rule, table = Rule.at("r", per_s=1, burst=1), Table(keys_max=100)
    for i in range(10_000):
        table.enter(i, rule, float(i)).take(float(i))
    assert len(table) <= 100
    assert table.crowded == 0
    running = table.enter("running", rule, 20_000.0)
    running.running = 1
    for i in range(1_000):
        table.enter(f"x{i}", rule, 20_000.0)
    assert table.known("running") is running


def test_memory_is_bounded_by_callers_that_owe_something(clock: Clock) -> None:
    limits = limits_of(clock, principal={"requests_per_s": 100}, pair={"requests_per_s": 100})
    for i in range(70_000):
        clock.now_s += 0.001
        limits.enter(Principal(f"p{i}", MESH), "time", 2)
    assert max(limits.counted().values()) <= 65_536
    assert limits.crowded == 0


@pytest.mark.parametrize(
    ("limit", "wrong"),
    [
        ({"requests_per_s": 1, "requests_per_min": 1}, "both requests_per_s and requests_per_min"),
        ({"burst": 5}, "a burst and no rate"),
    ],
)
def test_a_limit_that_contradicts_itself_is_refused(limit: dict[str, int], wrong: str) -> None:
    with pytest.raises(ValueError, match=wrong):
        CallLimit.model_validate(limit)


def test_without_limits_nothing_is_kept(clock: Clock) -> None:
    limits = limits_of(clock)
    assert limits.enter(ANN, "time", 10**9) is Unlimited().enter(ANN, "time", 10**9)
    assert not limits.weighs
    assert repr(limits) == "MeasuredLimits(principals=0 servers=0 pairs=0 crowded=0)"
