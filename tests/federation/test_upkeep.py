from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from federation.ca import init_ca, issue
from federation.clock import SystemClock
from federation.events import Alarm, Liveness
from federation.status import PeerStatus
from federation.tls import MeshTls
from federation.upkeep import SOON, Upkeep, ended, forewarned
from proto.names import NodeId

ME, PEER = (NodeId.of("mesh.test", "eu", n) for n in ("me", "peer"))
ENDS = datetime(2026, 6, 1, 12, 0, tzinfo=UTC)


class Care:
    """An upkeep with what it is shown and what it has said."""

    def __init__(self, directory: Path) -> None:
        init_ca(directory / "ca", "mesh.test")
        self.tls = MeshTls.load(*issue(directory / "ca", ME, directory / "me"))
        self.alarms: list[tuple[NodeId, Alarm]] = []
        self.peers: list[PeerStatus] = []
        self.upkeep = Upkeep(
            ME, self.tls, SystemClock(), lambda *a: self.alarms.append(a), lambda: self.peers, lambda *_: None
        )


@pytest.fixture
def care(tmp_path: Path) -> Care:
    return Care(tmp_path)


def test_a_certificate_that_ends_within_thirty_days_is_warned_of_with_the_mend() -> None:
    assert forewarned(ENDS, ENDS - SOON) == ""
    warning = forewarned(ENDS, ENDS - SOON + timedelta(minutes=1))
    assert "ends at 2026-06-01 12:00 UTC" in warning
    assert "toolmesh ca issue" in warning


def test_an_own_certificate_that_has_ended_says_what_will_happen_and_the_mend() -> None:
    assert ended(ENDS, ENDS - timedelta(seconds=1)) is None
    alarm = ended(ENDS, ENDS)
    assert alarm is not None
    for words in ("streams that are open live on", "no peer accepts a new one", "toolmesh ca issue"):
        assert words in alarm.message


def test_the_own_certificate_is_alarmed_of_once_it_has_ended_and_not_before(care: Care) -> None:
    care.upkeep.look_at_certificates(care.tls.expires_at - timedelta(minutes=1))
    assert care.alarms == []
    care.upkeep.look_at_certificates(care.tls.expires_at)
    ((about, alarm),) = care.alarms
    assert (about, alarm.name) == (ME, "certificate")


def test_a_peers_certificate_that_ends_is_one_line_until_it_has_a_new_one(
    care: Care, caplog: pytest.LogCaptureFixture
) -> None:
    now = ENDS - timedelta(seconds=1)
    care.peers = [PeerStatus(PEER, "10.0.0.1:1", Liveness.ALIVE, certificate_expires=ENDS)]
    with caplog.at_level(logging.WARNING):
        care.upkeep.look_at_certificates(now)
        assert caplog.messages == []
        for span_s in (60, 120):
            care.upkeep.look_at_certificates(now + timedelta(seconds=span_s))
        assert caplog.messages == [
            f"the certificate of {PEER} ended at 2026-06-01 12:00 UTC: it can open no new stream"
        ]
        care.peers = [PeerStatus(PEER, "10.0.0.1:1", Liveness.ALIVE, certificate_expires=ENDS + SOON)]
        care.upkeep.look_at_certificates(now + 2 * SOON)
    assert len(caplog.messages) == 2
    assert care.alarms == []
