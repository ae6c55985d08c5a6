"""Which owner runs a call: by exact candidates and exact draws."""

from itertools import product

from hypothesis import given
from hypothesis import strategies as st

from node.balance import Candidate, Place, Tier, choose, tier, why_not

HERE = Place("eu-1", "eu", "eu-a")


def at(node: str, region: str = "eu", zone: str = "", **more: object) -> Candidate:
    return Candidate(Place(node, region, zone), **more)  # type: ignore[arg-type]


def first(_: int) -> int:
    return 0


def test_nearness_goes_node_zone_region_far() -> None:
    assert tier(HERE, Place("eu-1", "eu", "eu-a")) is Tier.NODE
    assert tier(HERE, Place("eu-2", "eu", "eu-a")) is Tier.ZONE
    assert tier(HERE, Place("eu-3", "eu", "eu-b")) is Tier.REGION
    assert tier(HERE, Place("us-1", "us", "eu-a")) is Tier.FAR


def test_nodes_without_a_zone_do_not_share_one() -> None:
    assert tier(Place("a", "eu"), Place("b", "eu")) is Tier.REGION


def test_the_nearest_living_owner_is_chosen_however_busy() -> None:
    busy = at("eu-2", zone="eu-a", in_flight=500, latency_ms=900.0)
    assert choose(HERE, [at("us-1", "us"), busy, at("eu-3", zone="eu-b")], first) is busy


def test_a_dead_owner_is_never_chosen_while_another_lives() -> None:
    far = at("ap-1", "ap")
    assert choose(HERE, [at("eu-1", zone="eu-a", alive=False), far], first) is far


def test_nobody_alive_means_nobody_chosen() -> None:
    assert choose(HERE, [at("eu-1", alive=False)], first) is None
    assert choose(HERE, [], first) is None


def test_a_draining_owner_is_taken_only_when_it_is_the_last_one_living() -> None:
    leaving, far = at("eu-2", draining=True), at("us-1", "us")
    assert choose(HERE, [leaving, far], first) is far
    assert choose(HERE, [leaving, at("us-1", "us", alive=False)], first) is leaving


def test_of_two_random_picks_the_one_with_less_work_ahead_wins() -> None:
    slow = at("us-1", "us", in_flight=3, latency_ms=50.0)
    quick = at("us-2", "us", in_flight=1, latency_ms=40.0)
    for draws in product(range(2), range(1)):
        it = iter(draws)
        assert choose(HERE, [slow, quick], lambda _, it=it: next(it)) is quick


def test_the_two_picks_are_never_the_same_owner() -> None:
    owners = [at(f"us-{i}", "us", in_flight=9 - i) for i in range(4)]
    for one, two in product(range(4), range(3)):
        it = iter((one, two))
        chosen = choose(HERE, owners, lambda _, it=it: next(it))
        other = two + (two >= one)
        assert chosen is owners[max(one, other)]


def test_an_ejected_owner_is_left_out_even_where_the_rest_is_far() -> None:
    failing, far = at("eu-2", ejected=True), at("us-1", "us")
    assert choose(HERE, [failing, far], first) is far
    assert choose(HERE, [failing], first) is failing


def test_an_ejected_owner_that_stays_is_preferred_to_one_that_drains() -> None:
    failing, leaving = at("eu-2", ejected=True), at("eu-3", draining=True)
    assert choose(HERE, [failing, leaving], first) is failing


def both(*owners: Candidate) -> list[Candidate]:
    """What each order of the two picks chooses."""
    chosen = []
    for draws in ((0, 0), (1, 0)):
        it = iter(draws)
        chosen.append(choose(HERE, owners, lambda _, it=it: next(it)))  # type: ignore[misc]
    return [c for c in chosen if c is not None]


def test_a_cold_owner_wins_only_where_the_warm_one_has_so_much_more_to_do() -> None:
    cold = at("eu-2", latency_ms=10.0, warmth=0.25)
    assert all(c is not cold for c in both(cold, at("eu-3", latency_ms=10.0, in_flight=2)))
    assert all(c is cold for c in both(cold, at("eu-3", latency_ms=10.0, in_flight=4)))


def test_an_owner_that_has_not_answered_yet_is_not_taken_for_the_quickest() -> None:
    new, slow = at("eu-2", in_flight=1), at("eu-3", latency_ms=900.0)
    assert all(c is slow for c in both(new, slow))
    assert all(c is new for c in both(new, at("eu-3", latency_ms=900.0, in_flight=2)))


def test_why_an_owner_is_not_chosen_is_said_in_words() -> None:
    near, down = at("eu-2"), at("eu-1", zone="eu-a", alive=False)
    leaving, failing = at("eu-3", draining=True), at("eu-4", ejected=True, back_in_s=12.4)
    far = at("us-1", "us")
    owners = [near, down, leaving, failing, far]
    assert [why_not(HERE, owners, c) for c in owners] == [
        "",
        "it is not up, or its owner does not answer",
        "its node drains, and eu-2 does not",
        "it kept failing and is left alone for another 12 s",
        "it is in another region, and eu-2 is nearer (the same region)",
    ]


@given(
    st.lists(
        st.builds(
            lambda region, alive, draining, ejected: (region, alive, draining, ejected),
            st.sampled_from(["eu", "us"]),
            st.booleans(),
            st.booleans(),
            st.booleans(),
        ),
        max_size=5,
    )
)
def test_whoever_is_chosen_has_nothing_against_it(drawn: list[tuple[str, bool, bool, bool]]) -> None:
    owners = [
        at(f"{region}-{i + 2}", region, alive=alive, draining=draining, ejected=ejected)
        for i, (region, alive, draining, ejected) in enumerate(drawn)
    ]
    taken = set()
    for one, two in product(range(5), range(4)):
        it = iter((one, two))
        picked = choose(HERE, owners, lambda n, it=it: min(next(it), n - 1))  # type: ignore[misc]
        taken.update(id(c) for c in owners if c is picked)
    assert taken <= {id(c) for c in owners if not why_not(HERE, owners, c)}
    assert bool(taken) == any(c.alive for c in owners)
