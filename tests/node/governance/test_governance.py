"""What is in force on a node: through restarts, absence, a lost role, age and a disk that fails."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from node.governance.governance import MeshGovernance
from node.governance.store import GovernanceStore, MemoryGovernanceStore, SqliteGovernanceStore
from node.guard.governed import Governed
from proto.errors import Conflict, Unavailable, Unknown
from proto.names import NodeId
from proto.records import Kind, Record, RecordKey

ME, LORD, TWIN = (NodeId.of("mesh.test", "eu", n) for n in ("me", "lord", "twin"))
KEY = Record.of(Kind.KEY, "k", {"sha256": "ab" * 32})
POLICY = Record.of(Kind.POLICY, "p", {"text": "permit(principal, action, resource);"})
HELD = Record.of(Kind.QUARANTINE, "files", {"held": [{}]})
RULES = (KEY, POLICY, HELD)


class Time:
    """`wall_ms` may be set apart from `now`, as somebody's hand sets a clock."""

    def __init__(self) -> None:
        self.now = 50_000
        self.wall = 1_700_000_000_000

    def now_ms(self) -> int:
        return self.now

    def wall_ms(self) -> int:
        return self.wall

    def pass_(self, s: float) -> None:
        self.now += int(s * 1000)
        self.wall += int(s * 1000)


@pytest.fixture(params=["memory", "sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[GovernanceStore]:
    made: GovernanceStore = MemoryGovernanceStore() if request.param == "memory" else SqliteGovernanceStore(tmp_path)
    yield made
    made.close()


@pytest.fixture
def time() -> Time:
    return Time()


def opened(
    store: GovernanceStore, time: Time, *, writes: bool = False, expected: tuple[str, ...] = ()
) -> MeshGovernance:
    made = MeshGovernance(ME, store, writes=writes, age_s=100, expected=expected, clock=time)
    made.open()
    return made


def restarted(before: MeshGovernance, store: GovernanceStore, time: Time, *, writes: bool = False) -> MeshGovernance:
    before.close()
    return opened(store, time, writes=writes)


def heard(
    g: MeshGovernance,
    *records: Record,
    refused: dict[RecordKey, str] | None = None,
    whole: bool = True,
    store: str = "one",
) -> None:
    node = Record.of(Kind.NODE, "lord", {"name": "lord", "governance": store})
    g.role(LORD, authority=True)
    g.governs(LORD, [node, *records] if store else records, refused or {}, whole=whole)


def in_force(state: Governed) -> tuple[int, int, int]:
    return len(state.keys), len(state.policies), len(state.held)


async def test_what_an_authority_lays_down_is_in_force_and_told_once(store: GovernanceStore, time: Time) -> None:
    g = opened(store, time)
    told: list[Governed] = []
    g.subscribe(told.append)
    heard(g, *RULES)
    heard(g, *RULES)
    assert in_force(g.state) == (1, 1, 1)
    assert told == [g.state]
    heard(g, KEY)
    assert in_force(g.state) == (1, 0, 0)
    assert g.state.version > told[0].version
    g.close()


async def test_an_authority_that_is_away_governs_through_a_restart(store: GovernanceStore, time: Time) -> None:
    g = opened(store, time)
    heard(g, *RULES)
    g = restarted(g, store, time)
    assert in_force(g.state) == (1, 1, 1)
    assert not g.state.stale
    g.close()


async def test_an_authority_that_starts_again_opens_nothing_until_it_has_said_all(
    store: GovernanceStore, time: Time
) -> None:
    g = opened(store, time)
    heard(g, *RULES)
    heard(g, whole=False)
    assert in_force(g.state) == (1, 1, 1)
    heard(g, HELD)
    assert in_force(g.state) == (0, 0, 1)
    g.close()


async def test_an_authority_that_has_lost_its_store_opens_nothing_until_that_is_told_to_be_forgotten(
    store: GovernanceStore, time: Time
) -> None:
    g = opened(store, time)
    heard(g, *RULES)
    heard(g, store="two")
    assert in_force(g.state) == (1, 1, 1)
    assert "has lost what it laid down" in g.problems[0]
    other = Record.of(Kind.QUARANTINE, "other", {"held": [{}]})
    heard(g, other, store="two")
    assert in_force(g.state) == (1, 1, 2)
    heard(g, store="two")
    assert in_force(g.state) == (1, 1, 1), "what it says anew it may take back"
    heard(g, other, store="two")
    g = restarted(g, store, time)
    assert in_force(g.state) == (1, 1, 2)
    heard(g, other, store="two")
    assert in_force(g.state) == (1, 1, 2)
    g.forget("lord")
    assert (in_force(g.state), g.problems) == ((0, 0, 1), ())
    heard(g, store="two")
    assert in_force(g.state) == (0, 0, 0)
    g.close()


async def test_an_authority_that_brings_its_store_back_governs_as_before(store: GovernanceStore, time: Time) -> None:
    g = opened(store, time)
    heard(g, *RULES)
    heard(g, store="two")
    heard(g, KEY)
    assert (in_force(g.state), g.problems) == ((1, 0, 0), ())
    g.close()


async def test_nothing_is_gone_before_an_authority_has_named_its_store(store: GovernanceStore, time: Time) -> None:
    g = opened(store, time)
    heard(g, *RULES)
    heard(g, store="")
    assert in_force(g.state) == (1, 1, 1)
    g.close()


async def test_beyond_its_age_an_authority_grants_nothing_and_its_policies_refuse_everything(
    store: GovernanceStore, time: Time
) -> None:
    g = opened(store, time)
    heard(g, *RULES)
    time.pass_(90)
    g.heard([LORD])
    g.heard([])
    time.pass_(99)
    g.review()
    assert not g.state.stale
    time.pass_(2)
    g.review()
    assert (g.state.stale, in_force(g.state)) == ({"lord"}, (0, 1, 1))
    assert "lord" in g.state.closed
    g.heard([LORD])
    assert (g.state.stale, in_force(g.state), g.state.closed) == (frozenset(), (1, 1, 1), "")
    g.close()


async def test_the_age_goes_on_while_the_node_is_down(store: GovernanceStore, time: Time) -> None:
    g = opened(store, time)
    heard(g, *RULES)
    g.heard([])
    time.pass_(60)
    g = restarted(g, store, time)
    time.pass_(41)
    g.review()
    assert g.state.stale == {"lord"}
    g.close()


async def test_an_authority_that_went_on_being_heard_is_no_older_for_a_restart(
    store: GovernanceStore, time: Time
) -> None:
    g = opened(store, time)
    heard(g, *RULES)
    for _ in range(8):
        time.pass_(20)
        g.heard([LORD])
    g = restarted(g, store, time)
    time.pass_(99)
    g.review()
    assert not g.state.stale
    g.close()


async def test_setting_the_clock_back_makes_nothing_younger(store: GovernanceStore, time: Time) -> None:
    g = opened(store, time)
    heard(g, *RULES)
    g.heard([])
    time.pass_(90)
    time.wall -= 10_000_000
    time.pass_(11)
    g.review()
    assert g.state.stale == {"lord"}
    g.close()


async def test_who_loses_the_role_grants_nothing_at_once_and_denies_as_before(
    store: GovernanceStore, time: Time
) -> None:
    g = opened(store, time)
    heard(g, *RULES)
    g.role(LORD, authority=False)
    assert (len(g.state.keys), g.state.policies[0].grants, g.state.hold("files", "n") is not None) == (0, False, True)
    g = restarted(g, store, time)
    assert (len(g.state.keys), g.state.stale) == (0, {"lord"})
    heard(g, *RULES)
    assert (len(g.state.keys), g.state.stale) == (1, frozenset())
    g.close()


async def test_an_orderly_leave_forgets_and_a_node_of_no_say_changes_nothing(
    store: GovernanceStore, time: Time
) -> None:
    g = opened(store, time)
    heard(g, *RULES)
    g.left(TWIN)
    g.role(TWIN, authority=False)
    assert in_force(g.state) == (1, 1, 1)
    g.left(LORD)
    assert in_force(g.state) == (0, 0, 0)
    g = restarted(g, store, time)
    assert in_force(g.state) == (0, 0, 0)
    g.close()


async def test_only_who_governs_no_longer_can_be_forgotten(store: GovernanceStore, time: Time) -> None:
    g = opened(store, time)
    heard(g, *RULES)
    with pytest.raises(Conflict, match="toolmesh leave"):
        g.forget("lord")
    with pytest.raises(Unknown):
        g.forget("nobody")
    g.heard([])
    g.forget("lord")
    assert in_force(g.state) == (0, 0, 0)
    g.close()


async def test_what_was_rejected_is_not_forgotten_in_a_restart(store: GovernanceStore, time: Time) -> None:
    g = opened(store, time)
    heard(g, KEY, refused={POLICY.key: "its digest does not match"})
    assert "cannot be honoured" in g.state.closed
    assert "its digest does not match" in g.problems[0]
    g = restarted(g, store, time)
    assert g.state.closed
    heard(g, KEY, POLICY)
    assert (g.state.closed, in_force(g.state)) == ("", (1, 1, 0))
    g.close()


async def test_who_must_be_heard_and_never_was_closes_everything_until_it_is(
    store: GovernanceStore, time: Time
) -> None:
    g = opened(store, time, expected=("lord", "me"))
    assert "lord has never been heard" in g.state.closed
    heard(g)
    assert g.state.closed == ""
    g.close()


async def test_what_is_laid_down_here_is_on_disk_in_force_and_on_its_way(store: GovernanceStore, time: Time) -> None:
    g = opened(store, time, writes=True)
    sent: list[object] = []
    g.publish = lambda puts, deletes: sent.append((tuple(puts), tuple(deletes)))
    assert g.lay_down([KEY, HELD], [])
    assert not g.lay_down([KEY], [POLICY.key])
    assert g.lay_down([], [HELD.key])
    assert sent == [((KEY, HELD), ()), ((), (HELD.key,))]
    time.pass_(10_000)
    g = restarted(g, store, time, writes=True)
    g.publish = lambda puts, deletes: sent.append((tuple(puts), tuple(deletes)))
    g.announce()
    assert sent[2:] == [((KEY,), ())]
    assert (in_force(g.state), g.state.stale) == ((1, 0, 0), frozenset())
    g.close()


async def test_a_node_that_may_lay_down_no_more_keeps_its_denials_alone(store: GovernanceStore, time: Time) -> None:
    g = opened(store, time, writes=True)
    g.lay_down([KEY, HELD], [])
    g = restarted(g, store, time)
    assert (in_force(g.state), g.state.stale) == ((0, 0, 1), {"me"})
    g.forget("me")
    assert in_force(g.state) == (0, 0, 0)
    g.close()


async def test_a_listener_that_fails_stops_no_other(store: GovernanceStore, time: Time) -> None:
    g = opened(store, time)
    told: list[Governed] = []

    def fails(state: Governed) -> None:
        raise RuntimeError("on purpose")

    g.subscribe(fails)
    g.subscribe(told.append)
    heard(g, KEY)
    assert told == [g.state]
    g.close()


async def test_it_reviews_ages_by_itself(store: GovernanceStore, time: Time, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("node.governance.governance.REVIEW_S", 0.001)
    g = opened(store, time)
    heard(g, *RULES)
    g.heard([])
    stale = asyncio.Event()
    g.subscribe(lambda state: stale.set() if state.stale else None)
    time.pass_(101)
    await asyncio.wait_for(stale.wait(), 10)
    g.close()


# ---- the disk ------------------------------------------------------------------------------------


async def test_what_comes_is_in_force_though_the_disk_fails_and_a_verb_is_refused(tmp_path: Path, time: Time) -> None:
    store = SqliteGovernanceStore(tmp_path)
    g = opened(store, time, writes=True)
    store.close()
    heard(g, *RULES)
    assert in_force(g.state) == (1, 1, 1)
    assert "governance.db" in g.disk_problem
    assert g.node_field.keys() == {"governance"}
    with pytest.raises(Unavailable):
        g.lay_down([KEY], [])
    assert g.own() == {}
    g.close()


async def test_a_damaged_file_is_never_taken_for_an_empty_one(tmp_path: Path, time: Time) -> None:
    (tmp_path / "governance.db").write_bytes(b"not a database at all" * 500)
    with pytest.raises(Unavailable, match="opens whatever was laid down"):
        opened(SqliteGovernanceStore(tmp_path), time)


def test_the_file_is_the_owners_alone_and_held_by_one_process(tmp_path: Path) -> None:
    store = SqliteGovernanceStore(tmp_path)
    store.open()
    assert (tmp_path / "governance.db").stat().st_mode & 0o777 == 0o600
    with pytest.raises(Unavailable, match="held by another process"):
        SqliteGovernanceStore(tmp_path).open()
    store.close()
