"""What is kept between two requests, and what is worked out anew."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from federation.events import Liveness
from node.endpoints import directory
from node.endpoints.directory import Directory
from node.ports import Resource
from proto.names import NodeId
from proto.records import Kind

if TYPE_CHECKING:
    from tests.node.endpoints.conftest import House

EU, US = (NodeId("mesh.test", region, f"{region}-1") for region in ("eu", "us"))


@dataclass(frozen=True)
class Seen:
    """Everything, counting what was looked at; `key` is the class of callers."""

    key: str = "all"
    asked: tuple[list[str], ...] = ([],)

    def allows(self, resource: Resource) -> bool:
        if resource.tool:
            self.asked[0].append(f"{resource.server}/{resource.tool}")
        return True


def test_a_row_is_worked_out_when_looked_at_and_again_only_if_its_server_changed(house: House) -> None:
    for server in ("a", "b", "c"):
        house.offer(EU, server, Kind.TOOL, "1", "2")
    seen = Seen(asked=([],))
    known = Directory(house.catalog)

    def look(count: int) -> list[str]:
        seen.asked[0].clear()
        places = known.rows(Kind.TOOL, seen).after("", "")
        for _ in range(count):
            next(places)
        return sorted(seen.asked[0])

    assert look(1) == ["a/1", "a/2"]
    assert look(3) == ["b/1", "b/2"]
    assert look(3) == []
    house.catalog.set_liveness(EU, Liveness.SUSPECT)
    house.catalog.set_liveness(EU, Liveness.ALIVE)
    # Only how it fares.
    house.offer(EU, "a", health={"state": "down"})
    assert look(4) == []
    house.offer(EU, "b", Kind.TOOL, "3")
    assert look(7) == ["b/1", "b/2", "b/3", "c/1", "c/2"]
    house.withdraw(EU, "c", Kind.TOOL, "1")
    assert look(6) == ["c/2"]


def test_lists_follow_servers_that_come_go_hide_and_are_renamed(house: House) -> None:
    known, seen = Directory(house.catalog), Seen()

    def names() -> list[str]:
        return [row.name for row in known.rows(Kind.TOOL, seen).rows]

    house.offer(EU, "wiki", Kind.TOOL, "read")
    assert names() == ["wiki"]
    house.offer(US, "wiki", Kind.TOOL, "read")
    assert names() == ["wiki--eu-1", "wiki--us-1"]
    house.catalog.set_liveness(US, Liveness.DOWN, listed=False)
    assert names() == ["wiki"]
    house.catalog.set_liveness(US, Liveness.ALIVE)
    house.offer(US, "wiki", service="books")
    house.offer(EU, "wiki", service="books")
    assert names() == ["books", "wiki--eu-1", "wiki--us-1"]
    # All that they have they share.
    assert [place.row.name for place in known.rows(Kind.TOOL, seen).after("", "")] == ["books"]
    house.catalog.forget(US)
    assert names() == ["books"]
    house.withdraw(EU, "wiki")
    assert names() == []


def test_no_more_than_the_bound_is_kept(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(directory, "ROWS_KEPT", 2)
    monkeypatch.setattr(directory, "ROWS_ALONE_KEPT", 2)
    house.offer(EU, "wiki", Kind.TOOL, "read")
    known = Directory(house.catalog)
    for key in "abc":
        assert [row.name for row in known.rows(Kind.TOOL, Seen(key)).rows] == ["wiki"]
        assert list(known.row("wiki", Kind.TOOL, Seen(key)).members) == ["read"]
    assert repr(known) == "Directory(2 of 2 sets of rows)"
    assert (len(known._alone), len(known._routes)) == (2, 2)
