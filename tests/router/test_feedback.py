"""What use teaches search, and how little one principal can make of it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from router.evidence import ENTRIES_MAX, PER_TOOL_MAX, Changes, Entry, Evidence, Subject
from router.feedback import FOREIGN_MAX, GATE, HALF_LIFE_DAYS, OTHERS, SEARCHERS_MAX, SPAN, WINDOW_S, Feedback
from router.ports import ToolEntry, ToolKey

MODEL = "model@1"
WIDTH = 32
RANDOM = np.random.default_rng(7)


class Time:
    """Both clocks of a feedback, moved by hand."""

    def __init__(self) -> None:
        self.seconds = 1_000.0
        self.hours = 500_000


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def feedback(time: Time) -> Feedback:
    return Feedback(secret=b"secret", clock=lambda: time.seconds, hour=lambda: time.hours)


def unit(vector: NDArray[np.floating]) -> NDArray[np.float32]:
    return (vector / np.linalg.norm(vector)).astype(np.float32)


def any_query() -> NDArray[np.float32]:
    return unit(RANDOM.normal(size=WIDTH))


def near(query: NDArray[np.float32], cosine: float) -> NDArray[np.float32]:
    """A unit vector at this cosine to the query."""
    other = RANDOM.normal(size=WIDTH)
    away = unit(other - (other @ query) * query)
    return unit(cosine * query + np.sqrt(1 - cosine**2) * away)


def tool(name: str = "get_time", *, digest: bytes = b"d1", owner: str = "a", service: str = "") -> ToolEntry:
    return ToolEntry(ToolKey(owner, "clock", name), {"name": name}, digest=digest, service=service)


def use(feedback: Feedback, caller: str, query: NDArray[np.float32], entry: ToolEntry) -> bool:
    """A search that shows the tool, then a call of it that succeeds."""
    feedback.lifts(query, caller, MODEL)
    feedback.shown(caller, query, [entry])
    return feedback.called(caller, entry, ok=True)


def bonus(feedback: Feedback, query: NDArray[np.float32], caller: str, entry: ToolEntry, model: str = MODEL) -> float:
    return dict(feedback.lifts(query, caller, model)).get(Subject.of(entry), 0.0)


def test_a_tool_that_served_a_query_is_lifted_when_its_principal_asks_again(feedback: Feedback) -> None:
    query = any_query()
    assert use(feedback, "ada", query, tool())
    assert bonus(feedback, query, "ada", tool()) == pytest.approx(feedback.greatest, rel=1e-3)
    assert bonus(feedback, near(query, GATE + SPAN), "ada", tool()) == pytest.approx(feedback.greatest, rel=0.01)
    half = near(query, GATE + SPAN / 2)
    assert bonus(feedback, half, "ada", tool()) == pytest.approx(feedback.greatest / 2, rel=0.01)


def test_a_query_unlike_the_past_ones_gets_nothing(feedback: Feedback) -> None:
    query = any_query()
    use(feedback, "ada", query, tool())
    assert not feedback.lifts(near(query, GATE - 0.01), "ada", MODEL)


def test_only_a_success_counts_and_only_of_a_tool_that_the_search_showed(feedback: Feedback) -> None:
    query = any_query()
    feedback.lifts(query, "ada", MODEL)
    assert not feedback.called("ada", tool(), ok=True), "no search came before"
    feedback.shown("ada", query, [tool()])
    assert not feedback.called("ada", tool(), ok=False)
    assert not feedback.called("ada", tool("other"), ok=True)
    assert not feedback.called("bob", tool(), ok=True), "another principal's search"
    assert feedback.status().own == 0


def test_a_call_long_after_the_search_does_not_count_for_it(feedback: Feedback, time: Time) -> None:
    query = any_query()
    feedback.lifts(query, "ada", MODEL)
    feedback.shown("ada", query, [tool()])
    time.seconds += WINDOW_S + 1
    assert not feedback.called("ada", tool(), ok=True)


def test_the_last_search_that_showed_the_tool_is_the_one_that_counts(feedback: Feedback) -> None:
    first, second = any_query(), any_query()
    feedback.lifts(first, "ada", MODEL)
    feedback.shown("ada", first, [tool()])
    feedback.shown("ada", second, [tool()])
    feedback.shown("ada", any_query(), [tool("other")])
    feedback.called("ada", tool(), ok=True)
    assert bonus(feedback, second, "ada", tool()) > 0
    assert bonus(feedback, first, "ada", tool()) == 0


def test_a_search_by_words_alone_or_by_nobody_teaches_nothing(feedback: Feedback) -> None:
    feedback.shown("ada", None, [tool()])
    feedback.shown("", any_query(), [tool()])
    assert not feedback.called("ada", tool(), ok=True)
    assert not feedback.called("", tool(), ok=True)


def test_calling_a_hundred_times_is_one_vote(feedback: Feedback) -> None:
    query = any_query()
    for _ in range(100):
        use(feedback, "mallory", query, tool())
    assert bonus(feedback, query, "ada", tool()) == pytest.approx(OTHERS * feedback.greatest, rel=1e-3)


def test_four_principals_who_agree_count_as_much_as_oneself_and_more_do_not_count_more(feedback: Feedback) -> None:
    query = any_query()
    seen = []
    for n in range(7):
        use(feedback, f"agent-{n}", query, tool())
        seen.append(bonus(feedback, query, "ada", tool()) / feedback.greatest)
    assert seen == pytest.approx([0.25, 0.5, 0.75, 1, 1, 1, 1], rel=1e-3)


def test_whatever_one_principal_does_moves_no_tool_of_another_by_more_than_a_quarter_of_the_greatest_bonus(
    feedback: Feedback,
) -> None:
    queries = [any_query() for _ in range(6)]
    tools = [tool(f"tool-{n}") for n in range(4)]
    for n, (query, agent) in enumerate((q, a) for q in queries for a in ("ada", "bob", "cy")):
        use(feedback, agent, near(query, 0.97), tools[n % len(tools)])
    asked = [near(q, c) for q in queries for c in (1.0, 0.8, 0.6)]
    before = [[bonus(feedback, q, "ada", t) for t in tools] for q in asked]
    # A flood: every tool, around every query, near and far, more than all places hold.
    for _ in range(60):
        for query in queries:
            for t in tools:
                use(feedback, "mallory", near(query, float(RANDOM.uniform(0.51, 1.0))), t)
    after = [[bonus(feedback, q, "ada", t) for t in tools] for q in asked]
    moved = np.abs(np.array(after) - np.array(before))
    assert moved.max() <= OTHERS * feedback.greatest + 1e-3
    assert moved.max() > 0, "the flood came to nothing, so this test shows nothing"


def test_a_flood_of_one_principal_takes_a_quarter_of_all_places_and_no_more(feedback: Feedback) -> None:
    # Two entries for each of many tools, by many agents: all places taken.
    for n in range(ENTRIES_MAX):
        use(feedback, f"agent-{n % 50}", any_query(), tool(f"tool-{n}"))
    for n in range(ENTRIES_MAX // 4 + 300):
        use(feedback, "mallory", any_query(), tool(f"bait-{n}"))
    kept = feedback.kept()[1]
    assert len(kept) == ENTRIES_MAX
    assert sum(e.subject.tool.startswith("bait") for e in kept) == ENTRIES_MAX // 4


def test_what_several_principals_vouch_for_is_not_driven_out_by_one(feedback: Feedback) -> None:
    queries = [any_query() for _ in range(PER_TOOL_MAX)]
    for query in queries:
        use(feedback, "ada", query, tool())
        use(feedback, "bob", query, tool())
    for _ in range(50):
        use(feedback, "mallory", any_query(), tool())
    assert all(
        bonus(feedback, q, "cy", tool()) == pytest.approx(2 * OTHERS * feedback.greatest, rel=1e-3) for q in queries
    )


def test_no_bonus_is_greater_than_the_greatest(feedback: Feedback) -> None:
    query = any_query()
    for n in range(20):
        for _ in range(3):
            use(feedback, f"agent-{n}", near(query, 0.9), tool())
    assert bonus(feedback, query, "agent-1", tool()) <= feedback.greatest + 1e-6


def test_a_redefined_tool_begins_anew(feedback: Feedback) -> None:
    query = any_query()
    use(feedback, "ada", query, tool(digest=b"good"))
    changed = tool(digest=b"changed")
    assert bonus(feedback, query, "ada", changed) == 0
    use(feedback, "bob", any_query(), changed)
    assert {e.subject.digest for e in feedback.kept()[1]} == {b"changed"}
    assert bonus(feedback, query, "ada", tool(digest=b"good")) == 0


def test_owners_of_a_declared_service_share_what_was_learned(feedback: Feedback) -> None:
    query = any_query()
    use(feedback, "ada", query, tool(owner="a", service="clocks"))
    assert bonus(feedback, query, "ada", tool(owner="b", service="clocks")) > 0
    assert bonus(feedback, query, "ada", tool(owner="b")) == 0, "undeclared servers of one name are strangers"


def test_votes_fade_by_half_in_a_half_life_and_then_go(feedback: Feedback, time: Time) -> None:
    query = any_query()
    use(feedback, "ada", query, tool())
    time.hours += int(HALF_LIFE_DAYS * 24)
    assert bonus(feedback, query, "ada", tool()) == pytest.approx(feedback.greatest / 2, rel=1e-3)
    time.hours += int(HALF_LIFE_DAYS * 24) * 2 + 1
    feedback.kept()
    assert feedback.status().own == 0
    assert bonus(feedback, query, "ada", tool()) == 0


def test_vectors_of_another_model_are_never_compared(feedback: Feedback) -> None:
    query = any_query()
    use(feedback, "ada", query, tool())
    assert bonus(feedback, query, "ada", tool(), model="model@2") == 0
    assert feedback.status().own == 0
    wider = unit(RANDOM.normal(size=2 * WIDTH))
    assert not feedback.lifts(wider, "ada", "model@2")


def test_after_a_reset_nothing_is_left(feedback: Feedback) -> None:
    query = any_query()
    use(feedback, "ada", query, tool())
    life = feedback.changes("", 0, 10)[1].life
    assert feedback.reset() == 1
    assert not feedback.lifts(query, "ada", MODEL)
    assert not feedback.called("ada", tool(), ok=True), "searches from before count no more"
    assert feedback.changes(life, 1, 10)[1].anew, "peers begin anew too"


def test_of_words_and_names_of_principals_nothing_is_kept(feedback: Feedback) -> None:
    use(feedback, "ada@example.org", any_query(), tool())
    assert "ada" not in repr(feedback.kept())


def test_searchers_beyond_the_bound_are_forgotten_oldest_first(feedback: Feedback) -> None:
    query = any_query()
    feedback.lifts(query, "first", MODEL)
    for n in range(SEARCHERS_MAX + 1):
        feedback.shown("first" if n == 0 else f"agent-{n}", query, [tool()])
    assert not feedback.called("first", tool(), ok=True)
    assert feedback.called("agent-1", tool(), ok=True)


# ---- between nodes -----------------------------------------------------------------------------


def tell(source: Feedback, target: Feedback, peer: str = "a", known: tuple[str, int] = ("", 0)) -> tuple[str, int]:
    """All that the target lacks, page by page, as a node asks for it."""
    while True:
        model, changes = source.changes(*known, 3)
        assert target.take(peer, model, changes)
        known = (changes.life, changes.to)
        if not changes.more:
            return known


def other(time: Time, *, query: NDArray[np.float32] | None = None) -> Feedback:
    made = Feedback(secret=b"secret", clock=lambda: time.seconds, hour=lambda: time.hours)
    made.lifts(any_query() if query is None else query, "", MODEL)
    return made


def test_a_peer_that_asks_now_and_then_knows_what_its_owner_knows(feedback: Feedback, time: Time) -> None:
    peer, known = other(time), ("", 0)
    queries = [any_query() for _ in range(30)]
    for n, query in enumerate(queries):
        time.hours += 24
        use(feedback, f"agent-{n % 4}", query, tool(f"tool-{n % 2}"))
        if n % 3 == 0:
            known = tell(feedback, peer, known=known)
    known = tell(feedback, peer, known=known)
    for query in queries:
        for t in (tool("tool-0"), tool("tool-1")):
            assert bonus(peer, query, "x", t) == pytest.approx(bonus(feedback, query, "x", t))
    assert peer.status().foreign == feedback.status().own
    assert known == tell(feedback, peer, known=known), "nothing new, nothing told"


def test_one_principal_at_two_nodes_is_one_voter(feedback: Feedback, time: Time) -> None:
    query, peer = any_query(), other(time)
    use(feedback, "mallory", query, tool())
    use(peer, "mallory", query, tool())
    tell(feedback, peer)
    assert bonus(peer, query, "ada", tool()) == pytest.approx(OTHERS * feedback.greatest, rel=1e-3)


def test_what_a_peer_told_goes_when_the_peer_goes(feedback: Feedback, time: Time) -> None:
    query, peer = any_query(), other(time)
    use(feedback, "ada", query, tool())
    tell(feedback, peer)
    assert bonus(peer, query, "ada", tool()) > 0
    peer.drop("a")
    assert bonus(peer, query, "ada", tool()) == 0
    assert peer.status().peers == 0


def test_a_peer_that_was_reset_is_believed_anew(feedback: Feedback, time: Time) -> None:
    query, peer = any_query(), other(time)
    use(feedback, "ada", query, tool())
    known = tell(feedback, peer)
    feedback.reset()
    use(feedback, "ada", any_query(), tool("other"))
    tell(feedback, peer, known=known)
    assert bonus(peer, query, "ada", tool()) == 0
    assert peer.status().foreign == 1


def test_evidence_of_another_model_is_not_taken(feedback: Feedback, time: Time) -> None:
    peer = other(time)
    use(feedback, "ada", any_query(), tool())
    _, changes = feedback.changes("", 0, 10)
    assert not peer.take("a", "model@2", changes)
    assert peer.status().foreign == 0


def test_a_peer_whose_clock_is_ahead_gives_its_votes_no_longer_life(feedback: Feedback, time: Time) -> None:
    query, peer = any_query(), other(time)
    use(feedback, "ada", query, tool())
    model, changes = feedback.changes("", 0, 10)
    ahead = tuple(
        Entry(e.number, e.subject, e.vector, {v: h + 10_000 for v, h in e.votes.items()}, e.changed)
        for e in changes.puts
    )
    peer.take("a", model, replace(changes, puts=ahead))
    time.hours += int(HALF_LIFE_DAYS * 24)
    assert bonus(peer, query, "ada", tool()) == pytest.approx(feedback.greatest / 2, rel=1e-3)


@pytest.mark.parametrize(
    "vector",
    [np.full(WIDTH, np.nan), np.zeros(WIDTH), np.ones(WIDTH), unit(np.ones(WIDTH + 1))],
    ids=["not a number", "zero", "too long", "another width"],
)
def test_a_peers_vector_that_is_no_unit_vector_of_the_model_is_left_out(
    vector: NDArray[np.floating], time: Time
) -> None:
    query = any_query()
    mine = other(time, query=query)
    use(mine, "ada", query, tool())
    bad = Entry(1, Subject.of(tool()), vector.astype(np.float16), {"v": 1}, 1)
    mine.take("a", MODEL, Changes("life", 1, (bad,), (), anew=True, more=False))
    assert mine.status().foreign == 0


def test_of_entries_of_one_number_a_peer_has_one(time: Time) -> None:
    query = any_query()
    mine = other(time, query=query)
    same = tuple(
        Entry(1, Subject.of(tool()), vector.astype(np.float16), {"v": time.hours}, 1) for vector in (query, any_query())
    )
    mine.take("a", MODEL, Changes("life", 1, same, (), anew=True, more=False))
    assert mine.status().foreign == 1
    assert bonus(mine, query, "ada", tool()) == 0
    mine.drop("a")
    assert mine.status().foreign == 0


def test_vectors_of_another_width_are_of_another_model_whatever_its_name(feedback: Feedback, time: Time) -> None:
    """Behind an endpoint's name there may be another model one day."""
    use(feedback, "ada", unit(np.ones(WIDTH + 1)), tool())
    _, before, _ = feedback.kept()
    again = Feedback(secret=b"secret", clock=lambda: time.seconds, hour=lambda: time.hours)
    again.restore(MODEL, [(e.subject, e.vector, e.votes) for e in before])
    query = any_query()
    assert use(again, "ada", query, tool())
    assert bonus(again, query, "ada", tool()) > 0
    assert again.status().own == 1


def test_before_the_first_search_no_peer_says_how_wide_vectors_are(feedback: Feedback, time: Time) -> None:
    use(feedback, "ada", unit(np.ones(WIDTH + 1)), tool())
    mine = Feedback(secret=b"secret", clock=lambda: time.seconds, hour=lambda: time.hours)
    mine.restore(MODEL, [])
    assert not mine.take("a", *feedback.changes("", 0, 10))
    assert use(mine, "ada", any_query(), tool())


def test_peers_together_have_a_bound_and_the_greatest_gives_way(time: Time) -> None:
    mine = other(time)

    def told(peer: str, count: int) -> None:
        puts = tuple(
            Entry(n, Subject.of(tool(f"{peer}-{n}")), any_query().astype(np.float16), {"v": time.hours}, n)
            for n in range(1, count + 1)
        )
        mine.take(peer, MODEL, Changes("life", count, puts, (), anew=True, more=False))

    told("small", 100)
    told("large", FOREIGN_MAX)
    status = mine.status()
    assert status.foreign == FOREIGN_MAX
    mine.drop("large")
    assert mine.status().foreign == 100


def test_a_peer_that_lags_beyond_what_is_remembered_of_removals_is_told_everything(time: Time) -> None:
    evidence = Evidence("life")
    first, _ = evidence.vote(Subject.of(tool("first")), any_query().astype(np.float16), "v", 1)
    assert first is not None
    for n in range(1_100):
        evidence.vote(Subject.of(tool("flux", digest=bytes([n % 2]))), any_query().astype(np.float16), "v", n)
    assert evidence.since("life", first.changed, 10).anew
    assert not evidence.since("life", evidence.seq, 10).anew
