from __future__ import annotations

import sys
from datetime import UTC, datetime
from typing import Any

import pytest

from node.verbs import render, render_peers, tables

NOW = datetime(2026, 1, 2, 12, 0, 0, tzinfo=UTC)


def peer(**more: Any) -> dict[str, Any]:
    return {
        "name": "ap-1", "region": "ap", "address": "10.0.0.3:7401", "state": "alive", "cause": "", "since_s": 75.0,
        "epoch": 1, "seq": 2, "lag_changes": 0, "lag_s": 0.0, "tools": 4, "rejected": 0, "last_error": "",
        "software": "toolmesh/1", "skew_ms": 3, "rtt_ms": 0.51, **more,
    }  # fmt: skip


def server(name: str, owner: str, **more: Any) -> dict[str, Any]:
    return {
        "name": name, "qualified": f"{name}--{owner}", "owner": owner, "region": owner[:2], "state": "up", "cause": "",
        "tools": 3, "service": "", "stateless": True, **more,
    }  # fmt: skip


def answer(*peers: dict[str, Any], servers: tuple[dict[str, Any], ...] = (), **search: Any) -> dict[str, Any]:
    return {
        "node": {
            "name": "eu-1", "id": "spiffe://m/region/eu/node/eu-1", "region": "eu", "zone": "", "mesh": "m",
            "version": "toolmesh/1", "started_at": "2026-01-02T11:00:00Z", "http": "127.0.0.1:1",
            "grpc": "127.0.0.1:2", "draining": False, "loaded": True,
            "certificate_expires_at": "2026-02-01T12:00:00+00:00",
        },
        "peers": list(peers),
        "servers": list(servers),
        "search": {"mode": "hybrid", "embedder": "mini", "tools": 9, "embedded": 7, "pending": 2, "problem": "",
                   **search},
        "totals": {"servers": len(servers), "tools": 9, "calls": 5, "failed": 1, "in_flight": 2,
                   "sessions": 1, "streams": 2, "connections": 0},
    }  # fmt: skip


@pytest.fixture
def shown(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Any:
    # What a narrow terminal sets must not reach a pipe.
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert not sys.stdout.isatty()

    def show(status: dict[str, Any]) -> list[str]:
        tables.show(*render.status(status, NOW))
        return capsys.readouterr().out.splitlines()

    return show


def row(lines: list[str], start: str) -> list[str]:
    (line,) = (line for line in lines if line.startswith(start))
    return [cell.strip() for cell in line.split("  ") if cell.strip()]


def test_the_facts_name_the_embedder_the_certificate_and_the_extent_of_the_mesh(shown: Any) -> None:
    lines = shown(answer(peer(), servers=(server("a", "eu-1"), server("b", "ap-1"))))
    assert "search       hybrid (mini), 7 of 9 tools embedded" in lines
    assert "certificate  until 2026-02-01, 30 days left" in lines
    assert "mesh         2 nodes, 2 servers, 9 tools" in lines
    assert "calls        5 since the start, 1 failed, 2 in flight" in lines
    assert "agents       127.0.0.1:1; 1 session, 2 streams, 0 connections" in lines
    lines = shown(answer(mode="lexical", embedder="", embedded=0, problem="no embedder is configured"))
    assert "search       lexical (words only), 0 of 9 tools embedded; no embedder is configured" in lines
    lines = shown(answer(mode="lexical", embedder="", embedded=0))
    assert "search       lexical (words only), 0 of 9 tools embedded; the model is being loaded" in lines


def test_a_way_to_find_peers_that_fails_says_why(shown: Any) -> None:
    status = answer()
    status["discovery"] = [{"name": "static", "problem": ""}, {"name": "etcd", "problem": "no member answers"}]
    lines = shown(status)
    assert "peers        127.0.0.1:2, found by static, etcd" in lines
    assert "by etcd      no member answers" in lines
    status["node"]["advertised"] = "10.0.0.1:7401"
    assert "peers        127.0.0.1:2, told to dial 10.0.0.1:7401, found by static, etcd" in shown(status)


def test_every_node_has_its_region_state_age_and_lag(shown: Any) -> None:
    lines = shown(answer(peer(), peer(name="us-1", region="us", lag_changes=2, lag_s=1.25), servers=(
        server("a", "eu-1"), server("b", "ap-1"))))  # fmt: skip
    assert row(lines, "eu-1  eu      up") == [
        "eu-1", "eu", "up", "11:00:00, 1 h", "3", "–", "–", "this node",
    ]  # fmt: skip
    assert row(lines, "ap-1  ap      alive") == [
        "ap-1", "ap", "alive", "11:58:45, 1 min", "4", "none", "0.5 ms",
    ]  # fmt: skip
    assert "2 changes, 1.2 s" in row(lines, "us-1")


def test_a_node_that_is_away_shows_since_when_and_why(shown: Any) -> None:
    gone = peer(
        state="down", cause="refused; ap-2 does not hear it either", last_error="refused", since_s=200_000, rtt_ms=None
    )
    cells = row(shown(answer(gone)), "ap-1")
    assert cells == ["ap-1", "ap", "down", "2025-12-31 04:26, 2 d", "4", "–", "–", gone["cause"]]


def test_an_address_without_a_node_stands_under_its_address(shown: Any) -> None:
    unknown = peer(name="", region="", state="unreachable", last_error="a foreign CA", since_s=0.0, lag_changes=None)
    cells = row(shown(answer(unknown)), "10.0.0.3:7401")
    assert cells[:4] == ["10.0.0.3:7401", "–", "unreachable", "–"]
    assert cells[-1] == "a foreign CA"


def test_refused_records_and_a_wrong_clock_are_noted(shown: Any) -> None:
    cells = row(shown(answer(peer(rejected=1, skew_ms=-4_200))), "ap-1")
    assert cells[-1] == "1 record refused here; its clock is -4.2 s off"


def test_a_service_says_how_many_of_its_members_are_up(shown: Any) -> None:
    lines = shown(
        answer(
            servers=(
                server("units", "eu-1", service="units"),
                server("units", "us-1", service="units"),
                server("units", "ap-1", service="units", state="unreachable"),
                server("alone", "eu-1", state="down", cause="exited\x1b[2J"),
            )
        )
    )
    assert sum("units, 2 of 3 up" in line for line in lines) == 3
    assert row(lines, "alone")[-1] == "exited\\x1b[2J"


def test_a_pipe_gets_neither_colours_padding_nor_folds(shown: Any) -> None:
    cause = "a long cause " * 30
    lines = shown(answer(peer(), servers=(server("s", "eu-1", state="down", cause=cause),)))
    assert not [line for line in lines if "\x1b" in line or line != line.rstrip()]
    assert row(lines, "s  ")[-1] == cause.strip()
    assert shown(answer())[-1] == "no servers"


def detail(**more: Any) -> dict[str, Any]:
    return {
        **peer(), "id": "spiffe://m/region/ap/node/ap-1", "heard_s": 1.0, "records": 3, "listed": True, "lacks": None,
        "view_matches": True, "protocol": 1, "features": [], "roles": [], "certificate_expires_at": None,
        "received_bytes_s": 0.0, "sent_bytes_s": 0.0, "calls_s": 0.0, "own_calls": 0.0, "own_lag_ms": 0.0,
        "history": [], "rejected_records": [], "refused_there": 0, "refused_there_records": [], "refusals": [],
        "alarms": [], **more,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("state", "lacks", "told"),
    [
        ("alive", 3, "it has not confirmed 3 changes of this node"),
        ("alive", 0, "everything of this node is confirmed"),
        ("alive", None, "can it dial the federation.advertise of this node?"),
        ("down", 0, "not known while it is not heard"),
        ("left", None, "none: it has left the mesh"),
    ],
)
def test_what_a_peer_lacks_is_said_only_where_it_can_be_known(
    capsys: pytest.CaptureFixture[str], state: str, lacks: int | None, told: str
) -> None:
    tables.show(*render_peers.peer(detail(state=state, lacks=lacks), NOW))
    (line,) = (line for line in capsys.readouterr().out.splitlines() if line.startswith("its lag"))
    assert line.endswith(told)
