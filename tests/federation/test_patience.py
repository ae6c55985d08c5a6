"""How long a call is looked for, by what is known of its owner."""

from __future__ import annotations

import pytest

from federation.events import Liveness
from federation.patience import PROOF_DOWN_S, RECOVERY_CUT_S, RECOVERY_S, Patience


def test_an_owner_that_nothing_is_known_against_has_all_the_time() -> None:
    patience = Patience()
    patience.owner_is(Liveness.SUSPECT, "its stream broke", 100.0)
    assert patience.until_s(100.0) == 100.0 + RECOVERY_S
    assert repr(patience) == "Patience(45 s)"


@pytest.mark.parametrize("state", [Liveness.DOWN, Liveness.LEFT])
def test_one_that_is_gone_has_none(state: Liveness) -> None:
    patience = Patience()
    patience.owner_is(state, "refused", 100.0)
    assert patience.until_s(90.0) == 100.0
    assert patience.until_s(110.0) == 110.0
    assert patience.proof_s == PROOF_DOWN_S < RECOVERY_CUT_S


def test_one_that_is_cut_off_has_a_little_counted_from_the_later_of_verdict_and_loss() -> None:
    patience = Patience()
    patience.owner_is(Liveness.UNREACHABLE, "heard by b", 100.0)
    assert patience.until_s(99.0) == 100.0 + RECOVERY_CUT_S
    assert patience.until_s(103.0) == 103.0 + RECOVERY_CUT_S
    assert patience.verdict == "it is unreachable from here: heard by b"
    assert patience.proof_s == RECOVERY_CUT_S


@pytest.mark.parametrize("state", [Liveness.ALIVE, Liveness.DRAINING])
def test_one_that_is_heard_again_has_all_the_time_again_and_suspicion_takes_no_verdict_back(state: Liveness) -> None:
    patience = Patience()
    patience.owner_is(Liveness.DOWN, "refused", 100.0)
    patience.owner_is(Liveness.SUSPECT, "?", 101.0)
    assert patience.until_s(101.0) == 101.0
    patience.owner_is(state, "", 102.0)
    assert (patience.until_s(103.0), patience.verdict) == (103.0 + RECOVERY_S, "")
