"""`toolmesh audit` as a person types it: against a running log, and against files that somebody was at."""

from __future__ import annotations

import asyncio
import csv
import io
import os
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from node.audit.bounds import AuditSettings
from node.audit.mesh import MeshAudit
from node.audit.reading import AuditReader
from node.audit.recorder import Recorder
from node.audit.store import SqliteAuditStore
from node.cli import main
from node.guard.open import OpenAuthenticator, OpenGuard
from node.operator.auditing import AuditApi
from node.ports import Caller
from node.verbs.auditing import COLUMNS, csv_row
from proto import jsons
from proto.calls import Answer, Call, Exchange
from proto.errors import Unavailable
from proto.names import NodeId
from tests.node.audit.logs import BOB, ME, call_of, ended, recorder, stopped, until

US, AP = NodeId("mesh.test", "us", "us-1"), NodeId("mesh.test", "ap", "ap-1")


@dataclass(frozen=True)
class Ran:
    status: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()


Run = Callable[..., Ran]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    for name in [n for n in os.environ if n.startswith("TOOLMESH_")]:
        monkeypatch.delenv(name)

    def run_it(*args: str) -> Ran:
        monkeypatch.setattr(sys, "argv", ["toolmesh", "audit", *args])
        capsys.readouterr()
        status = 0
        try:
            main()
        except SystemExit as e:
            status = e.code if isinstance(e.code, int) else 1 if e.code else 0
        out, err = capsys.readouterr()
        assert "Traceback" not in out + err
        return Ran(status, out, err)

    return run_it


class Carrier:
    """Two other nodes: one answers with a log of its own, one cannot be reached."""

    me = "eu-1"

    def handle(self, method: str, handler: Callable[[Call, Exchange, NodeId], Awaitable[Answer]]) -> None:
        return

    async def carry(
        self, node: str, method: str, params: dict[str, Any], caller: Caller, exchange: Exchange, *, budget_ms: int = 1
    ) -> Answer:
        if node == "ap-1":
            raise Unavailable("node 'ap-1' cannot be reached")
        said = {"at": "2020-01-01T00:00:00.000Z", "kind": "call", "seq": 7, "outcome": "ok"}
        lines = [jsons.dumps({**said, "node": name}).decode() for name in ("us-1", "eu-1")]
        return {"result": {"lines": [*lines, "no record"], "cut": False}}


@dataclass
class Running:
    url: str
    audit: Recorder
    data: Path


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Running]:
    """A log of 30 calls and an act, behind the real routes, in a thread of its own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    store = SqliteAuditStore(tmp_path / "audit.db")
    audit = recorder(store, tmp_path, AuditSettings())

    async def start() -> web.AppRunner:
        audit.start(version="test")
        for n in range(30):
            audit.call(call_of(n), ended(call_of(n)))
        audit.admin(BOB, "disable", "=units", reason="\x1b[31mred")
        await until(lambda: audit.counts[0] == 32)
        reader = AuditReader(audit, OpenGuard(), ME)
        mesh = MeshAudit(reader, ME, Carrier(), lambda: [ME, US, AP])
        app = web.Application()
        app.add_routes(AuditApi(reader, mesh, OpenAuthenticator()).routes())
        runner = web.AppRunner(app, handler_cancellation=True)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        return runner

    async def stop(runner: web.AppRunner) -> None:
        await runner.cleanup()
        await stopped(audit)

    runner = asyncio.run_coroutine_threadsafe(start(), loop).result(20)
    try:
        yield Running(f"http://127.0.0.1:{runner.addresses[0][1]}", audit, tmp_path)
    finally:
        asyncio.run_coroutine_threadsafe(stop(runner), loop).result(20)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()


def test_tail_tells_the_latest_a_line_each_and_drives_no_terminal(node: Running, run: Run) -> None:
    ran = run("tail", "-n", "2", "--url", node.url)
    assert ran.status == 0
    assert len(ran.lines) == 2
    assert "eu-1#31 call ok ana (acme) units/convert_unit at eu-1, 1.5 ms" in ran.lines[0]
    assert "admin disable ok bob =units" in ran.lines[1]
    assert "\x1b" not in ran.out


def test_query_goes_through_pages_and_finds_what_is_asked_for(node: Running, run: Run, monkeypatch: Any) -> None:
    monkeypatch.setattr("node.verbs.auditing.PAGE", 7)
    ran = run("query", "--who", "ana", "--limit", "25", "--json", "--url", node.url)
    found = [jsons.loads_object(line, "a line") for line in ran.lines]
    assert [r["seq"] for r in found] == list(range(31, 6, -1))
    assert run("query", "--call-id", "call-3", "--url", node.url).lines[0].startswith("20")
    nothing = run("query", "--server", "bank", "--url", node.url)
    assert (nothing.out, nothing.err) == ("", "no record fits\n")
    assert len(run("query", "--since", "1h", "--outcome", "ok", "--kind", "admin", "--url", node.url).lines) >= 1
    refused = run("query", "--since", "yesterday", "--url", node.url)
    assert (refused.status, "'since'" in refused.err) == (2, True)


def test_a_question_to_the_mesh_says_who_did_not_answer(node: Running, run: Run) -> None:
    ran = run("query", "--mesh", "--limit", "40", "--kind", "call", "--json", "--url", node.url)
    found = [jsons.loads_object(line, "a line") for line in ran.lines]
    assert [r["node"] for r in found] == ["eu-1"] * 30 + ["us-1"]
    assert ran.status == 1
    assert "ap-1 did not answer in full: unavailable" in ran.err
    # It told of what another node had recorded.
    assert "us-1 did not answer in full: it sent what are no records of its own" in ran.err


def test_what_is_exported_is_checked_like_the_log_itself(
    node: Running, run: Run, tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.setattr("node.verbs.auditing.PAGE", 10)
    out = tmp_path / "export.jsonl"
    ran = run("export", "--out", str(out), "--url", node.url)
    assert ran.status == 0, ran.err
    checked = run("verify", str(out))
    assert (checked.status, checked.lines[0][:7]) == (0, "intact:"), checked
    assert "who can write the log could have written them anew" in checked.out
    assert "give --ca or --key" in checked.out or "no checkpoint" in checked.out
    lines = out.read_bytes().splitlines(keepends=True)
    lines[9] = lines[9].replace(b'"outcome":"ok"', b'"outcome":"no"')
    out.write_bytes(b"".join(lines))
    tampered = run("verify", str(out))
    assert tampered.status == 1
    assert tampered.lines[0].startswith("NOT INTACT: record 10 is not what its hash was taken of")
    assert "line 10" in tampered.lines[0]
    told = jsons.loads_object(run("verify", str(out), "--json").out, "the verdict")
    assert (told["intact"], told["flaw"]["seq"], told["flaw"]["what"]) == (False, 10, "hash")


def test_a_table_runs_nothing_in_a_spreadsheet(node: Running, run: Run) -> None:
    ran = run("export", "--format", "csv", "--kind", "admin", "--url", node.url)
    rows = list(csv.DictReader(io.StringIO(ran.out)))
    assert rows[0]["tool"] == "'=units"
    assert list(rows[0]) == list(COLUMNS)
    for text in ("=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "＝1"):
        assert csv_row({"reason": text})[COLUMNS.index("reason")] == f"'{text}"
    assert csv_row({"took_ms": -1.5})[COLUMNS.index("took_ms")] == -1.5


def test_status_tells_the_head_which_a_later_check_holds_the_log_against(node: Running, run: Run) -> None:
    ran = run("status", "--json", "--url", node.url)
    head = str(jsons.loads_object(ran.out, "the status")["head"])
    assert head.startswith("32:")
    assert run("--help").status == 0
    shown = run("status", "--url", node.url)
    assert head in shown.out
    assert run("verify", str(node.data / "audit.db"), "--head", head).status == 0
    other = run("verify", str(node.data / "audit.db"), "--head", f"32:{'0' * 64}")
    assert (other.status, "remembered" in other.out) == (1, True)
    missing = run("verify", str(node.data / "audit.db"), "--head", f"999:{'0' * 64}")
    assert missing.status == 1
    assert "to 999 are missing at the end" in missing.out


def test_the_store_of_a_configuration_is_checked_without_its_node(node: Running, run: Run, tmp_path: Path) -> None:
    config = tmp_path / "node.yaml"
    config.write_text(f"node: {{name: eu-1, data_dir: '{tmp_path}'}}\n")
    ran = run("verify", "--from-store", "-c", str(config))
    assert (ran.status, ran.lines[0][:7]) == (0, "intact:"), ran
    foreign = tmp_path / "other.yaml"
    foreign.write_text(f"node: {{name: us-1, data_dir: '{tmp_path}'}}\n")
    named = run("verify", "--from-store", "-c", str(foreign))
    assert (named.status, "is of node 'eu-1'" in named.out) == (1, True)


@pytest.mark.parametrize(
    ("args", "why"),
    [
        (("verify",), "name a FILE"),
        (("verify", "gone.jsonl"), "gone.jsonl cannot be read"),
        (("verify", "gone.jsonl", "--from-store"), "exclude each other"),
        (("verify", "gone.jsonl", "--head", "7"), "not SEQ:HASH"),
        (("verify", "gone.jsonl", "--key", "gone.pem"), "gone.pem cannot be read"),
    ],
)
def test_what_makes_no_sense_is_refused_with_status_2(run: Run, args: tuple[str, ...], why: str) -> None:
    ran = run(*args)
    assert ran.status == 2
    assert why in ran.err
