"""The tree of errors, and the table of its kinds."""

from __future__ import annotations

import inspect

import pytest

from proto import errors
from proto.errors import ERRORS, Fault, MeshError


def test_the_table_holds_exactly_the_tree() -> None:
    classes = {c for _, c in inspect.getmembers(errors, inspect.isclass) if issubclass(c, MeshError)} - {MeshError}
    assert set(ERRORS.values()) == classes
    assert all(kind == error.kind for kind, error in ERRORS.items())


def test_the_drawn_tree_names_every_error() -> None:
    assert errors.__doc__ is not None
    assert all(f"─ {error.__name__} " in errors.__doc__ for error in ERRORS.values())


@pytest.mark.parametrize("error", ERRORS.values())
def test_an_error_says_its_message_and_keeps_its_data(error: type[MeshError]) -> None:
    e = error("it is so", retry_after_s=3)
    assert str(e) == e.message == "it is so"
    assert e.data["retry_after_s"] == 3
    assert repr(e).startswith(f"{error.__name__}('it is so', {{'retry_after_s': 3")


@pytest.mark.parametrize("error", ERRORS.values())
def test_data_may_use_any_member_name(error: type[MeshError]) -> None:
    data = {"self": 1, "message": 2, "kind": 3, "data": 4}
    assert data.items() <= error("m", **data).data.items()


def test_each_fault_has_an_id_of_its_own() -> None:
    assert Fault().data["fault_id"] != Fault().data["fault_id"]
    assert Fault(fault_id="abc").data["fault_id"] == "abc"
