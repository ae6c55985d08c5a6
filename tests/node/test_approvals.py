"""Servers of the catalogue that an operator must agree to: over whole nodes, and what is kept of who asked."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from node.app import App
from node.approvals import ASKERS_MAX, Approvals
from node.config import parse
from node.settings.servers import ServerConfig
from node.verbs.remote import Remote
from proto.errors import Invalid, ScopeRequired, Unavailable, Unknown
from proto.records import Principal
from tests.node.test_app import running, sample

AGENT, OPS = "agent-key-0123456789-long", "ops-key-0123456789-long"
ANN, BOB = Principal("ann", "m", kind="key"), Principal("bob", "m", kind="key")


def settings(base: Path, **more: Any) -> dict[str, Any]:
    entries = []
    for name, key, scopes in (("agent", AGENT, []), ("ops", OPS, ["operator"])):
        (base / name).write_text(key)
        entries.append({"name": name, "file": str(base / name), "scopes": scopes})
    return {
        "node": {"data_dir": str(base / "data")},
        "auth": {"keys": entries},
        "catalogue": {"text": sample("text", approval=True, title="Texts", **more)},
    }


async def add(app: App) -> dict[str, Any]:
    params = {"name": "add_mcp_server", "arguments": {"mcp_server_name": "text"}}
    return await Remote(app.url, AGENT).ask("/mcp", "tools/call", params)


async def use(app: App) -> dict[str, Any]:
    return await Remote(app.url, AGENT).use_tool("text", "slugify", {"text": "One Small Step"})


def refusal(result: dict[str, Any]) -> dict[str, Any]:
    assert result["isError"] is True
    return dict(result["structuredContent"]["error"])


async def decide(app: App, approved: bool, key: str = OPS, **more: str) -> dict[str, Any]:
    return await Remote(app.url, key).put("/api/v1/approvals/text", {"approved": approved, **more})


async def shown(app: App) -> dict[str, Any]:
    (approval,) = (await Remote(app.url, OPS).get("/api/v1/approvals"))["approvals"]
    return dict(approval)


async def act(app: App, nth: int) -> str:
    """The verb of the operators' nth act on record, once it is written."""
    seq, found = 0, {}
    for _ in range(nth + 1):
        asked = {"kind": "admin", "order": "oldest", "limit": "1", "wait_s": "10", "after": str(seq)}
        (found,) = (await Remote(app.url, OPS).get("/api/v1/audit", **asked))["records"]
        seq = found["seq"]
    assert "text" in found["what"].values()
    return str(found["action"])


def runs(app: App) -> bool:
    return app.catalog.find(app.catalog.me.name, "text") is not None


async def test_a_server_is_added_once_an_operator_has_agreed_and_after_every_restart(tmp_path: Path) -> None:
    async with running(settings(tmp_path), tmp_path) as app:
        assert (await shown(app))["state"] == "unasked"
        told = refusal(await add(app))
        assert (told["kind"], told["approval"]) == ("unavailable", "waiting")
        assert "toolmesh approve text" in told["message"]
        assert refusal(await use(app))["kind"] == "unknown"
        assert not runs(app)
        waiting = await shown(app)
        assert (waiting["state"], [a["subject"] for a in waiting["askers"]]) == ("waiting", ["agent"])
        with pytest.raises(ScopeRequired):
            await decide(app, True, AGENT)
        assert (await shown(app))["state"] == "waiting"

    async with running(settings(tmp_path), tmp_path) as app:
        assert (await shown(app))["askers"] == waiting["askers"]
        assert await decide(app, True) == {"server": "text", "state": "approved", "changed": True}
        assert not (await decide(app, True))["changed"]
        assert not (await add(app)).get("isError")
        assert "one-small-step" in str(await use(app))

    async with running(settings(tmp_path), tmp_path) as app:
        assert runs(app)
        assert (await shown(app))["by"] == "ops"


async def test_a_server_that_is_denied_stops_and_stays_away(tmp_path: Path) -> None:
    async with running(settings(tmp_path), tmp_path) as app:
        await decide(app, True)
        assert not (await add(app)).get("isError")
        await decide(app, False, reason="too nosy")
        assert not runs(app)
        assert app.added.names() == ()
        assert refusal(await add(app))["approval"] == "denied"
        assert [await act(app, 0), await act(app, 1)] == ["approve", "approve --deny"]

    async with running(settings(tmp_path), tmp_path) as app:
        assert not runs(app)
        assert refusal(await add(app))["approval"] == "denied"
        assert (await shown(app))["reason"] == "too nosy"


async def test_an_entry_that_was_changed_has_been_approved_by_nobody(tmp_path: Path) -> None:
    async with running(settings(tmp_path), tmp_path) as app:
        await decide(app, True)
        assert not (await add(app)).get("isError")
    async with running(settings(tmp_path, env={"MORE": "1"}), tmp_path) as app:
        assert not runs(app)
        assert refusal(await add(app))["approval"] == "waiting"


async def test_a_server_that_is_started_with_the_node_waits_for_nobody(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match=r"servers\.text\.approval"):
        parse({"servers": {"text": sample("text", approval=True)}}, tmp_path)


# ---- what is kept --------------------------------------------------------------------------------


def entry(**more: Any) -> Mapping[str, ServerConfig]:
    return {
        "files": ServerConfig.model_validate({"command": ["files"], "approval": True, **more}),
        "free": ServerConfig.model_validate({"command": ["free"]}),
    }


def opened(base: Path, **more: Any) -> Approvals:
    approvals = Approvals(base / "approvals.db", entry(**more), clock=lambda: 7.0)
    approvals.open()
    return approvals


def test_what_needs_no_approval_is_admitted_and_cannot_be_decided(tmp_path: Path) -> None:
    approvals = opened(tmp_path)
    assert (approvals.admits("free"), approvals.admits("files")) == (True, False)
    for name in ("free", "nothing"):
        with pytest.raises(Unknown, match="approval: true"):
            approvals.decide(name, True, ANN)
    approvals.close()


def test_of_those_who_ask_the_first_are_kept_and_that_there_were_more(tmp_path: Path) -> None:
    approvals = opened(tmp_path)
    for n in range(ASKERS_MAX + 5):
        for _ in range(2):
            approvals.ask("files", Principal(f"agent-{n}", "m"))
    approvals.close()
    (found,) = opened(tmp_path).all()
    assert [a.subject for a in found.askers] == [f"agent-{n}" for n in range(ASKERS_MAX)]
    assert (found.more, found.askers[0].at_ms) == (True, 7_000)


def test_asking_again_does_not_change_what_was_decided(tmp_path: Path) -> None:
    approvals = opened(tmp_path)
    approvals.decide("files", False, ANN, "no")
    assert approvals.ask("files", BOB).state == "denied"
    assert not approvals.admits("files")
    approvals.decide("files", True, BOB)
    assert approvals.ask("files", ANN).by == "bob"
    with pytest.raises(Invalid, match="reason"):
        approvals.decide("files", False, ANN, "x" * 201)
    assert approvals.admits("files")
    approvals.close()


def test_nothing_is_admitted_by_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    approvals = opened(tmp_path)
    approvals.decide("files", True, ANN)
    approvals.close()
    with sqlite3.connect(tmp_path / "approvals.db") as db:
        db.execute("UPDATE approvals SET body = ?", (b'{"state":"approved"}',))
    db.close()
    with pytest.raises(Unavailable, match=r"approvals\.db"):
        opened(tmp_path)
