"""The verbs that lay down rules, against a real desk: what they print, and what is never printed."""

from __future__ import annotations

import asyncio
import hashlib
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from aiohttp import web

from node.guard.keys import ApiKey
from node.operator.governing import GoverningApi
from node.verbs.governing import expiry, target
from node.verbs.render_governing import in_short
from proto import jsons
from proto.errors import Invalid
from tests.node.cli.conftest import KEY, Run
from tests.node.governance.offices import Member, Mesh
from tests.node.keyed import keyed


class Node:
    """An authority `lord` and its mesh, which also has `east`, in a thread of their own."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever)
        self.thread.start()
        self.mesh, self.url = asyncio.run_coroutine_threadsafe(self._start(), self.loop).result(10)
        self.environment = {"TOOLMESH_URL": self.url, "TOOLMESH_KEY": KEY}

    @property
    def lord(self) -> Member:
        return self.mesh.members["lord"]

    async def _start(self) -> tuple[Mesh, str]:
        mesh = Mesh()
        lord = mesh.add("lord", authority=True)
        mesh.add("east")
        digest = hashlib.sha256(KEY.encode()).digest()
        app = web.Application()
        app.add_routes(GoverningApi(lord.office, keyed([ApiKey("op", digest, scopes=("operator",))], "m")).routes())
        self.runner = web.AppRunner(app)
        await self.runner.setup()
        await web.TCPSite(self.runner, "127.0.0.1", 0).start()
        return mesh, f"http://127.0.0.1:{self.runner.addresses[0][1]}"

    async def _stop(self) -> None:
        await self.runner.cleanup()
        self.mesh.close()

    def stop(self) -> None:
        asyncio.run_coroutine_threadsafe(self._stop(), self.loop).result(10)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(10)
        self.loop.close()


@pytest.fixture
def governed() -> Iterator[Node]:
    node = Node()
    yield node
    node.stop()


def test_a_key_is_on_stdout_alone_and_its_digest_is_all_that_is_kept(run: Run, governed: Node) -> None:
    ran = run(
        "key", "create", "bob", "--expires", "30d", "--scope", "operator", "--server", "files", **governed.environment
    )
    key = ran.out.strip()
    assert ran.status == 0
    assert key.startswith("tm_bob_")
    assert key not in ran.err
    assert "in force at 2 nodes (east, lord)" in ran.err
    (known,) = governed.lord.governance.state.keys.values()
    assert known.sha256 == hashlib.sha256(key.encode()).digest()
    assert (known.scopes, known.servers, known.expires_s > 0) == (("operator",), ("files",), True)
    listed = run("key", "list").out
    assert "bob" in listed
    assert key not in listed + run("key", "list", "--json").out
    assert known.sha256.hex() not in listed + run("key", "list", "--json").out


def test_a_key_in_json_is_one_object(run: Run, governed: Node) -> None:
    answer = jsons.loads_object(run("key", "create", "bob", "--json", **governed.environment).out.encode(), "it")
    assert (answer["name"], answer["changed"], answer["key"][:7]) == ("bob", True, "tm_bob_")


def test_a_revoked_key_is_said_so_and_one_that_nobody_made_is_told(run: Run, governed: Node) -> None:
    run("key", "create", "bob", **governed.environment)
    assert run("key", "revoke", "bob").err == ""
    assert run("key", "revoke", "bob").out.startswith("it was so already")
    assert "was made with 'key create'" in run("key", "revoke", "bop").err
    again = run("key", "create", "bob")
    assert (again.status, again.out, "--lift key/bob" in again.err) == (1, "", True)
    assert run("revoke", "--lift", "key/bob").out.startswith("done")
    assert run("key", "create", "bob").status == 0


def test_policies_come_from_files_and_are_shown_and_removed(run: Run, governed: Node, tmp_path: Path) -> None:
    file = tmp_path / "p.cedar"
    file.write_text("permit(principal, action, resource);")
    assert run("policy", "set", "open", str(file), "--shadow", **governed.environment).out.startswith("done")
    assert governed.lord.governance.state.policies[0].mode == "shadow"
    assert "shadow" in run("policy", "list").out
    assert "permit(principal" in run("policy", "list", "--text").out
    file.write_text("nothing of the kind")
    bad = run("policy", "set", "open", str(file))
    assert (bad.status, "permits nothing" in bad.err) == (2, True)
    assert run("policy", "remove", "open").out.startswith("done")
    assert "no policy" in run("policy", "list").out
    assert run("policy", "set", "open", str(tmp_path / "none")).status == 2


def test_policies_are_checked_without_a_node(run: Run, tmp_path: Path) -> None:
    good, bad = tmp_path / "good.cedar", tmp_path / "bad.cedar"
    good.write_text("permit(principal, action, resource);")
    bad.write_text("permit(principal, action, resource) when { resource.sever == 1 };")
    assert run("policy", "check", str(good)).out == f"{good}: good\n"
    ran = run("policy", "check", str(good), str(bad))
    assert (ran.status, "sever" in ran.err) == (2, True)


def test_tenants_are_made_shown_and_taken_away(run: Run, governed: Node) -> None:
    assert "not governed" in run("tenant", "list", **governed.environment).out
    assert run("tenant", "set", "acme", "--title", "Acme", "--address", "10.0.0.0/8").status == 0
    assert "10.0.0.0/8" in run("tenant", "list").out
    assert run("tenant", "remove", "acme").out.startswith("done")


def test_what_is_disabled_is_shown_with_its_reason_and_enabled_in_the_same_words(run: Run, governed: Node) -> None:
    assert run("disable", "files--east/rm", "--reason", "ticket \x1b[2J 7", **governed.environment).status == 0
    (held,) = governed.lord.governance.state.held["files"]
    assert (held.owner, held.tool) == ("east", "rm")
    assert run("revoke", "jti/7", "--reason", "leaked").status == 0
    shown = run("governance").out
    assert "ticket \\x1b[2J 7" in shown
    assert "jti/7" in shown
    assert "lord may lay down rules" in shown
    assert run("enable", "files/rm").out.startswith("it was so already")
    assert run("enable", "files/rm", "--owner", "east").out.startswith("done")


def test_what_was_laid_down_and_not_confirmed_is_not_passed_over(run: Run, governed: Node) -> None:
    governed.mesh.away = {"east"}
    assert "away and told on return: east" in run("disable", "files", **governed.environment).out


def test_one_that_governs_is_not_forgotten(run: Run, governed: Node) -> None:
    ran = run("governance", "--forget", "lord", **governed.environment)
    assert (ran.status, "toolmesh leave" in ran.err) == (1, True)


@pytest.mark.parametrize(("text", "seconds"), [("", 0), ("90m", 105_400), ("12h", 143_200), ("1w", 704_800)])
def test_spans_of_time_are_read(text: str, seconds: int) -> None:
    assert expiry(text, 100_000.5) == seconds


@pytest.mark.parametrize("text", ["30", "d", "-1d", "0d", "1y", "1.5h", "٣d", "1d "])
def test_what_is_no_span_of_time_is_refused(text: str) -> None:
    with pytest.raises(Invalid, match="90m"):
        expiry(text, 0)


def test_a_target_is_a_server_or_a_tool_of_it_at_one_owner_or_all() -> None:
    assert target("files", "") == {"server": "files", "tool": "", "owner": ""}
    assert target("files--n1/a/b", "n1") == {"server": "files", "tool": "a/b", "owner": "n1"}
    with pytest.raises(Invalid, match="one of them"):
        target("files--n1", "n2")
    with pytest.raises(Invalid):
        target("/rm", "")


def test_the_facts_of_a_node_say_who_laid_down_what_is_in_force_and_how_old_that_is() -> None:
    counts = {"keys": 0, "policies": 1, "tenants": 0, "held": 0, "revoked": 0, "unreadable": []}
    here = {"name": "lord", "role": True, "heard_s": 0.4, "counts": True, **counts}
    away = {"name": "twin", "role": True, "heard_s": 90_000.0, "counts": False, **counts}
    idle = {"name": "idle", "role": True, "heard_s": 0.0, "counts": True, **dict.fromkeys(counts, 0)}
    closed = "twin has not been heard"
    status = {"authorities": [here, away, idle], "closed": closed, "problems": [closed, "a key counts nowhere"]}
    assert list(in_short(status)) == [
        ("laid down by", "lord (now), twin (1 d ago, grants nothing)"),
        ("CLOSED", f"everything is refused: {closed}"),
        ("to mend", "a key counts nowhere"),
    ]
    assert list(in_short({"authorities": [idle], "closed": "", "problems": []})) == []
