"""Whole nodes at the bounds of their record: a disk that takes nothing, and a guesser whom the doors turn away."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import aiohttp

from tests.node.audit.logs import records_of
from tests.node.audit.logs import until as holds
from tests.node.audit.test_node import ANA, ECHO, OPS, ask, audit, bearer, keys
from tests.node.test_app import running, until, up

QUEUE = 100


def settings(base: Path, **sections: Any) -> dict[str, Any]:
    node = {"name": "eu-1", "region": "eu", "data_dir": str(base / "data")}
    return {"node": node, "servers": {"echo": ECHO}, "auth": keys(base), **sections}


async def test_with_refuse_a_node_that_cannot_record_runs_no_call_and_every_call_that_ran_is_on_record(
    tmp_path: Path,
) -> None:
    overflow = {"overflow": "refuse", "queue_records": QUEUE}
    async with running(settings(tmp_path, audit=overflow), tmp_path) as app:
        await until(app, up(app, "eu-1", "echo"))
        recorder = app.audit.recorder
        assert recorder is not None
        await ask(app, ANA)
        ran = 1
        with closing(sqlite3.connect(tmp_path / "data" / "audit.db", isolation_level=None)) as other:
            # Nobody else writes from now on: as a disk that hangs.
            other.execute("BEGIN IMMEDIATE")
            said: dict[str, Any] = {}
            for _ in range(2 * QUEUE):
                _, said = await ask(app, ANA)
                if "result" not in said:
                    break
                ran += 1
            assert ran > QUEUE // 2
            assert said["error"]["data"]["kind"] == "unavailable"
            assert "audit.overflow: refuse" in said["error"]["message"]
            for path in ("/mcp/echo", "/mcp-all", "/v1/mcp/echo"):
                tool = "echo__echo" if path == "/mcp-all" else "echo"
                assert "result" not in (await ask(app, ANA, path=path, tool=tool))[1], path
            async with aiohttp.ClientSession(headers=bearer(OPS)) as http:
                shown = await (await http.get(f"{app.url}/api/v1/audit/status")).json()
                assert (shown["overflow"], shown["lost"]) == ("refuse", {})
                for on in (True, False):
                    assert (await http.post(f"{app.url}/api/v1/drain", json={"on": on})).status == 200
            other.execute("ROLLBACK")
        await holds(lambda: recorder.counts[1] == 0)
        assert "result" in (await ask(app, ANA))[1]
        ran += 1
        await holds(lambda: recorder.counts[1] == 0)
        calls = records_of(recorder.store, kind="call")
        assert sum(r["outcome"] == "ok" for r in calls) == ran
        assert recorder.lost == {}
        acts = (await audit(app, kind="admin", who="ops", order="oldest"))["records"]
        assert [r["action"] for r in acts].count("drain") == 2, "an operator is kept out by nothing"


async def test_who_guesses_credentials_is_on_record_when_they_are_looked_at_no_more(tmp_path: Path) -> None:
    limit = {"loopback": True, "failures_per_min": 0.1, "failures_burst": 2}
    async with running(settings(tmp_path, limits={"address": limit}), tmp_path) as app:
        statuses = [(await ask(app, f"wrong-key-{n}-0123456789"))[0] for n in range(3)]
        assert statuses == [401, 401, 429]
        recorder = app.audit.recorder
        assert recorder is not None
        await holds(lambda: any(r["reason"] == "too many refusals" for r in records_of(recorder.store, kind="signin")))
        told = [(r["via"].get("scheme", ""), r["reason"]) for r in records_of(recorder.store, kind="signin")]
        assert sorted(scheme for scheme, _ in told) == ["", "bearer", "bearer"]
        assert ("", "too many refusals") in told
