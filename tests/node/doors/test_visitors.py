from __future__ import annotations

import pytest

from node.doors.visitors import Connections, Visits
from node.settings.limits import AddressLimit


class Clock:
    def __init__(self) -> None:
        self.now_s = 1_000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_one_address_has_so_many_connections_and_all_have_so_many() -> None:
    connections = Connections(5, 2)
    assert [connections.enter("192.0.2.1", False) for _ in range(3)] == [True, True, False]
    assert [connections.enter(a, False) for a in ("2001:db8::1", "2001:db8::2", "2001:db8::3")] == [True, True, False]
    assert connections.enter("192.0.2.2", False)
    assert not connections.enter("192.0.2.3", False)
    connections.leave("192.0.2.1")
    assert connections.enter("192.0.2.3", False)
    assert repr(connections) == "Connections(5 from 4 addresses, 3 refused)"


def test_a_proxy_has_as_many_connections_as_there_are() -> None:
    connections = Connections(3, 1)
    assert [connections.enter("10.0.0.1", True) for _ in range(4)] == [True, True, True, False]


def test_a_connection_that_has_gone_is_not_remembered() -> None:
    connections = Connections(10, 10)
    for i in range(1_000):
        connections.enter(f"192.0.2.{i % 256}", False)
        connections.leave(f"192.0.2.{i % 256}")
    assert repr(connections) == "Connections(0 from 0 addresses, 0 refused)"


def test_requests_of_an_address_come_at_its_rate(clock: Clock) -> None:
    visits = Visits(AddressLimit(requests_per_s=2, burst=3), clock)
    assert [visits.asked("192.0.2.1") for _ in range(3)] == [0, 0, 0]
    assert visits.asked("192.0.2.1") == pytest.approx(0.5)
    assert visits.asked("192.0.2.2") == 0
    clock.now_s += 0.5
    assert visits.asked("192.0.2.1") == 0
    assert visits.asked("192.0.2.1") > 0


def test_addresses_of_this_machine_are_counted_only_if_told_to(clock: Clock) -> None:
    for loopback in (False, True):
        visits = Visits(AddressLimit(requests_per_s=1, failures_per_min=1, failures_burst=1, loopback=loopback), clock)
        visits.asked("127.0.0.1")
        visits.failed("::1")
        assert bool(visits.asked("127.0.0.1")) is loopback
        assert bool(visits.barred_s("::1")) is loopback


def test_wrong_credentials_bar_an_address_for_a_time_and_no_other(clock: Clock) -> None:
    visits = Visits(AddressLimit(failures_per_min=6, failures_burst=3), clock)
    for _ in range(3):
        assert visits.barred_s("192.0.2.1") == 0
        visits.failed("192.0.2.1")
    assert visits.barred_s("192.0.2.1") == pytest.approx(10)
    assert visits.barred_s("192.0.2.2") == 0
    clock.now_s += 10
    assert visits.barred_s("192.0.2.1") == 0
    visits.failed("192.0.2.1")
    assert visits.barred_s("192.0.2.1") == pytest.approx(10)
