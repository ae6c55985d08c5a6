from __future__ import annotations

from collections.abc import Hashable

from router.diversity import Candidate, pick, quota


def candidate(
    position: int,
    name: str = "",
    *,
    server: str = "",
    group: Hashable | None = None,
    description: str = "",
    parameters: frozenset[str] = frozenset(),
) -> Candidate:
    name = name or f"tool_{position}"
    return Candidate(position, server or f"server-{position}", group, name, description or name, parameters)


def positions(candidates: list[Candidate], k: int) -> list[int]:
    return [p.position for p in pick(candidates, k)]


def test_what_differs_is_shown_in_its_order() -> None:
    assert positions([candidate(i) for i in (3, 1, 2)], 5) == [3, 1, 2]
    assert positions([candidate(i) for i in (3, 1, 2)], 2) == [3, 1]
    assert positions([], 5) == []


def test_of_declared_replicas_the_first_stands_for_all() -> None:
    assert positions([candidate(0, group="g"), candidate(1, group="g"), candidate(2)], 5) == [0, 2]


def test_a_near_identical_tool_of_another_server_is_folded_into_the_first() -> None:
    text = "Search the web and return the ten best pages"
    twins = [
        candidate(0, "web_search", description=text),
        candidate(1, "webSearch", description=text + "."),
        candidate(2, "web_search", description="Search the archive of newspapers by date"),
        candidate(3, "find_pages", description=text),
    ]
    assert [(p.position, p.alike) for p in pick(twins, 5)] == [(0, (1,)), (2, ()), (3, ())]


def test_two_tools_that_take_other_parameters_are_two() -> None:
    text = "Search the web and return the ten best pages"
    one = candidate(0, "search", description=text, parameters=frozenset({"query"}))
    other = candidate(1, "search", description=text, parameters=frozenset({"author", "year"}))
    assert positions([one, other], 5) == [0, 1]


def test_tools_of_one_server_are_never_folded() -> None:
    assert positions([candidate(i, "same", server="s") for i in range(3)], 5) == [0, 1, 2]


def test_one_server_does_not_fill_the_page_where_another_has_something() -> None:
    flood = [candidate(i, server="flood") for i in range(10)]
    page = positions([*flood, candidate(50), candidate(51)], 5)
    assert page == [0, 1, 2, 3, 50]


def test_one_server_fills_the_page_where_no_other_is() -> None:
    assert positions([candidate(i, server="only") for i in range(10)], 5) == [0, 1, 2, 3, 4]


def test_the_quota_leaves_a_fifth_of_the_page_to_others() -> None:
    assert [quota(k) for k in (1, 2, 5, 10, 50)] == [1, 1, 4, 8, 40]
