"""What a server of ours offers, as records."""

from __future__ import annotations

from typing import Any

import pytest

from node.offers import records_of
from node.upstreams.offer import Health, Offer
from node.upstreams.spec import UpstreamSpec
from proto.records import Kind, RecordKey


def body(**more: Any) -> dict[str, Any]:
    offer = Offer(UpstreamSpec("units", command=("x",), **more), Health("up", 1_700_000_000_000))
    return records_of(offer)[RecordKey(Kind.SERVER, "units")].data()


@pytest.mark.parametrize(("given", "told"), [(True, True), (("convert",), ["convert"])])
def test_what_may_be_run_twice_is_told_to_every_entry_node(given: Any, told: Any) -> None:
    assert body(retry_safe=given)["retrySafe"] == told


def test_a_server_that_declares_nothing_says_nothing_about_running_twice() -> None:
    assert "retrySafe" not in body()
    assert "retrySafe" not in body(retry_safe=())


def test_each_life_of_a_server_is_told_from_the_next() -> None:
    assert body()["health"] == {"state": "up", "cause": "", "since": 1_700_000_000_000}
