"""Where a session's state is, and when it may still be put elsewhere."""

from __future__ import annotations

from node.bonds import Bonds


def test_a_session_is_found_where_it_was_tied_for_each_service_apart() -> None:
    bonds = Bonds()
    bond = bonds.tie("s", "units", "units--eu-1", 1)
    assert bonds.find("s", "units") is bond
    assert bonds.find("s", "notes") is None
    assert bonds.find("t", "units") is None


def test_a_refusal_before_anything_ran_lets_the_session_go() -> None:
    bonds = Bonds()
    bonds.tie("s", "units", "units--eu-1", 1)
    assert bonds.refused("s", "units")
    assert bonds.find("s", "units") is None
    assert bonds.refused("s", "units")


def test_a_refusal_lets_nothing_go_where_a_call_ran_or_may_run_yet() -> None:
    bonds = Bonds()
    bond = bonds.tie("s", "units", "units--eu-1", 1)
    bond.running = 1
    assert not bonds.refused("s", "units")
    bond.running, bond.proven = 0, True
    assert not bonds.refused("s", "units")
    assert bonds.find("s", "units") is bond


def test_beyond_the_bound_the_session_that_called_longest_ago_is_forgotten() -> None:
    bonds = Bonds(bonds_max=2)
    for session in ("busy", "idle"):
        bonds.tie(session, "units", "units--eu-1", 1)
    bonds.find("busy", "units")
    bonds.tie("new", "units", "units--eu-1", 1)
    assert bonds.find("idle", "units") is None
    assert bonds.find("busy", "units") is not None
