"""Which owner runs a call: by exact candidates and exact draws."""

from itertools import product

from node.balance import Candidate, Latencies, Place, Tier, choose, tier

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


def test_latencies_average_and_count_what_is_in_flight() -> None:
    seen = Latencies(weight=0.5)
    assert (seen.in_flight("a"), seen.average_ms("a")) == (0, 0.0)
    seen.begin("a")
    seen.begin("a")
    assert seen.in_flight("a") == 2
    seen.end("a", 10.0)
    seen.end("a", 20.0)
    assert (seen.in_flight("a"), seen.average_ms("a")) == (0, 15.0)


def test_a_call_that_failed_says_nothing_about_speed() -> None:
    seen = Latencies()
    seen.begin("a")
    seen.end("a", None)
    assert (seen.in_flight("a"), seen.average_ms("a")) == (0, 0.0)


def test_averages_are_kept_of_so_many_owners_only() -> None:
    latencies = Latencies(owners_max=2)
    for node in ("a-1", "b-1", "a-1", "c-1"):
        latencies.end(node, 10.0)
    assert [latencies.average_ms(node) for node in ("a-1", "b-1", "c-1")] == [10.0, 0.0, 10.0]
