"""What a server of ours offers, as records."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from node.offers import Offered
from node.upstreams.offer import Health, Offer
from node.upstreams.spec import UpstreamSpec
from proto import jsons
from proto.records import Kind, Record, RecordKey

SERVER = RecordKey(Kind.SERVER, "units")
UP = Health("up", 1_700_000_000_000)


def offered_tasks(**spec: Any) -> dict[str, Any]:
    """What is said of tasks by a server that has them all."""
    capabilities = {"tools": {}, "tasks": {"list": {}, "cancel": {}}}
    (put,), _ = Offered().take(replace(offering(**spec), capabilities=capabilities))
    assert capabilities["tasks"] == {"list": {}, "cancel": {}}
    return put.data()["capabilities"]["tasks"]


def offering(*tools: dict[str, Any], health: Health = UP, **spec: Any) -> Offer:
    return Offer(UpstreamSpec("units", command=("x",), **spec), health, tools=tools)


def body(**spec: Any) -> dict[str, Any]:
    (put,), _ = Offered().take(offering(**spec))
    return put.data()


def ids(records: list[Record]) -> list[str]:
    return [r.id for r in records]


@pytest.fixture
def digests(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often each name was digested."""
    counted: Counter[str] = Counter()
    digest = jsons.digest

    def counting(value: Any) -> bytes:
        counted[value["name"]] += 1
        return digest(value)

    monkeypatch.setattr(jsons, "digest", counting)
    return counted


@pytest.mark.parametrize(("given", "told"), [(True, True), (("convert",), ["convert"])])
def test_what_may_be_run_twice_is_told_to_every_entry_node(given: Any, told: Any) -> None:
    assert body(retry_safe=given)["retrySafe"] == told


def test_a_server_that_declares_nothing_says_nothing_about_running_twice() -> None:
    assert "retrySafe" not in body()
    assert "retrySafe" not in body(retry_safe=())


@pytest.mark.parametrize("spec", [{"stateless": True}, {"sessions": "shared"}])
def test_a_list_of_everybodys_tasks_is_not_offered(spec: dict[str, Any]) -> None:
    assert offered_tasks() == {"list": {}, "cancel": {}}
    assert offered_tasks(**spec) == {"cancel": {}}


def test_a_server_of_both_eras_offers_what_it_has_in_each() -> None:
    offer = replace(offering(), capabilities={"tools": {}}, modern_capabilities={"tools": {}, "extensions": {}})
    for version, told in (("2025-11-25", {"tools": {}, "extensions": {}}), ("2026-07-28", None)):
        (put,), _ = Offered().take(replace(offer, protocol_version=version))
        assert put.data().get("modernCapabilities") == told


def test_each_life_of_a_server_is_told_from_the_next() -> None:
    assert body()["health"] == {"state": "up", "cause": "", "since": 1_700_000_000_000}


def test_only_what_changed_is_put_and_what_is_gone_is_deleted() -> None:
    offered = Offered()
    puts, deletes = offered.take(offering({"name": "a"}, {"name": "b"}))
    assert (ids(puts), deletes) == (["units", "units/a", "units/b"], [])
    puts, deletes = offered.take(offering({"name": "b"}, {"name": "c"}))
    assert (ids(puts), deletes) == (["units/c"], [RecordKey(Kind.TOOL, "units/a")])
    puts, deletes = offered.take(offering({"name": "b", "description": "better"}, {"name": "c"}))
    assert (ids(puts), deletes) == (["units/b"], [])
    assert ids(list(offered.records.values())) == ["units", "units/b", "units/c"]
    assert offered.withdraw() == [SERVER, RecordKey(Kind.TOOL, "units/b"), RecordKey(Kind.TOOL, "units/c")]
    assert offered.withdraw() == []


def test_the_first_of_a_name_wins() -> None:
    offered = Offered()
    offered.take(offering({"name": "a", "description": "first"}, {"name": "a", "description": "second"}))
    assert offered.records[RecordKey(Kind.TOOL, "units/a")].data()["description"] == "first"


def test_a_change_of_health_digests_no_tool_again(digests: Counter[str]) -> None:
    offered = Offered()
    offer = offering({"name": "a"}, {"name": "b"})
    offered.take(offer)
    assert digests == {"units": 1, "a": 1, "b": 1}
    puts, _ = offered.take(replace(offer, health=Health("down", UP.since_ms + 1, "it exited")))
    assert ids(puts) == ["units"]
    assert digests == {"units": 2, "a": 1, "b": 1}


def test_tools_that_are_listed_again_as_they_were_are_not_digested_again(digests: Counter[str]) -> None:
    offered = Offered()
    offered.take(offering({"name": "a", "n": 1}, {"name": "b"}))
    puts, _ = offered.take(offering({"name": "a", "n": True}, {"name": "b"}))
    # To Python 1 and true are equal; to an agent they are not.
    assert ids(puts) == ["units/a"]
    assert digests == {"units": 2, "a": 2, "b": 1}
