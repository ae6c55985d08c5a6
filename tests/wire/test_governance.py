"""What an authority lays down, over real gRPC and TLS: in force on every node, through restarts, absence and age."""

from __future__ import annotations

import asyncio
import hashlib
import shutil
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from federation.ca import init_ca, issue
from node.app import App
from node.config import parse
from node.guard.governed import Governed
from proto.frames import Farewell
from proto.names import NodeId

MESH = "mesh.test"
WAIT_S = 30.0
OPERATOR, READER = "tm_operator_of_the_mesh", "tm_reader_of_the_mesh"
KEYS = [
    {"name": name, "sha256": hashlib.sha256(key.encode()).hexdigest(), "scopes": scopes}
    for name, key, scopes in (("op", OPERATOR, ["operator"]), ("reader", READER, []))
]
DIGEST = hashlib.sha256(b"tm_somebodys_key_of_the_mesh").hexdigest()
POLICY = "permit(principal, action, resource);"


class Nodes:
    """A mesh whose node `lord` may hold the role; the others find it, and nobody else."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.running: dict[str, App] = {}
        self.ports: dict[str, int] = {}
        init_ca(base / "ca", MESH)

    def certify(self, name: str, *roles: str) -> None:
        issue(self.base / "ca", NodeId.of(MESH, "eu", name), self.base / name, roles=roles)

    async def start(self, name: str, **guard: Any) -> App:
        folder = self.base / name
        if not folder.exists():
            self.certify(name, *(["authority"] if name.startswith("lord") else []))
        files = {"ca": "ca.pem", "cert": f"{name}.pem", "key": f"{name}-key.pem"}
        found = {what: str(next(folder.glob(f"*{file}"))) for what, file in files.items()}
        app = App(
            parse(
                {
                    "node": {"name": name, "region": "eu", "mesh": MESH, "data_dir": f"data-{name}"},
                    "http": {"listen": "127.0.0.1:0"},
                    "auth": {"keys": KEYS},
                    "guard": guard,
                    "search": {"embedder": "none"},
                    "federation": {
                        "listen": f"127.0.0.1:{self.ports.get(name, 0)}",
                        "tls": found,
                        "mdns": {"enabled": False},
                        "static": [f"127.0.0.1:{port}" for lord, port in self.ports.items() if lord != name],
                    },
                },
                self.base,
            )
        )
        await app.start()
        self.running[name] = app
        if name.startswith("lord"):
            assert app.federation is not None
            self.ports[name] = app.federation.bound_port
        return app

    async def stop(self, name: str, farewell: Farewell = Farewell.RESTART) -> None:
        app = self.running.pop(name)
        if farewell is Farewell.LEAVE:
            assert app.federation is not None
            await app.federation.stop(farewell)
        await app.stop()

    async def ask(self, name: str, method: str, path: str, body: Any = None, key: str = OPERATOR) -> dict[str, Any]:
        """The answer's JSON, with `status`."""
        headers = {"Authorization": f"Bearer {key}"}
        async with aiohttp.request(method, f"{self.running[name].url}/api/v1{path}", json=body, headers=headers) as r:
            return {"status": r.status, **await r.json()}

    def state(self, name: str) -> Governed:
        return self.running[name].governance.state

    async def until(self, name: str, holds: Callable[[Governed], bool]) -> None:
        changed = asyncio.Event()
        self.running[name].governance.subscribe(lambda _: changed.set())
        async with asyncio.timeout(WAIT_S):
            while not holds(self.state(name)):
                changed.clear()
                await changed.wait()

    async def meet(self, *names: str) -> None:
        """Until each hears the others, and is heard by them."""

        def strangers() -> bool:
            for name in names:
                federation = self.running[name].federation
                assert federation is not None
                heard = {p.node.name for p in federation.peers() if p.node and p.subscribed and p.state == "alive"}
                if not {*names} - {name} <= heard:
                    return True
            return False

        async with asyncio.timeout(WAIT_S):
            while strangers():  # noqa: ASYNC110 - who subscribes is told to nobody
                await asyncio.sleep(0.01)


@pytest.fixture
async def nodes(tmp_path: Path) -> AsyncIterator[Nodes]:
    made = Nodes(tmp_path)
    yield made
    for name in [*made.running]:
        await made.stop(name)


@pytest.fixture
async def mesh(nodes: Nodes) -> Nodes:
    """An authority and two nodes that have met it."""
    await nodes.start("lord")
    for name in ("east", "west"):
        await nodes.start(name)
        await nodes.meet(name, "lord")
    return nodes


RULES: list[tuple[str, Any, str, Callable[[Governed], bool]]] = [
    ("/keys/bob", {"sha256": DIGEST, "scopes": ["a"]}, "/keys/bob", lambda s: bytes.fromhex(DIGEST) in s.keys),
    ("/policies/open", {"text": POLICY}, "/policies/open", lambda s: [p.name for p in s.policies] == ["open"]),
    ("/tenants/acme", {"title": "Acme"}, "/tenants/acme", lambda s: "acme" in s.tenants),
    (
        "/held",
        {"server": "files", "tool": "rm"},
        "/held?server=files&tool=rm",
        lambda s: bool(s.hold("files", "x", "rm")),
    ),
    ("/revoked", {"credential": "jti/7"}, "/revoked?credential=jti/7", lambda s: "jti/7" in s.revoked),
]


async def lay_down(nodes: Nodes, at: str) -> None:
    for path, body, _, _ in RULES:
        answer = await nodes.ask(at, "PUT", path, body)
        assert (answer["status"], answer["changed"]) == (200, True), answer


async def test_every_kind_is_laid_down_from_any_node_and_is_in_force_on_all_when_the_verb_answers(mesh: Nodes) -> None:
    for path, body, gone, holds in RULES:
        assert not any(holds(mesh.state(name)) for name in mesh.running)
        done = await mesh.ask("east", "PUT", path, body)
        assert done == {
            "status": 200,
            "changed": True,
            "authorities": ["lord"],
            "in_force": ["east", "lord", "west"],
            "waiting": [],
            "away": [],
        }
        assert all(holds(mesh.state(name)) for name in mesh.running), path
        assert not (await mesh.ask("lord", "PUT", path, body))["changed"]
        undone = await mesh.ask("west", "DELETE", gone)
        assert (undone["changed"], undone["in_force"]) == (True, ["east", "lord", "west"])
        assert not any(holds(mesh.state(name)) for name in mesh.running), path
    assert (await mesh.ask("west", "GET", "/revoked"))["revoked"][0]["credential"] == "key/bob"
    refused = await mesh.ask("east", "PUT", "/keys/bob", {"sha256": DIGEST})
    assert (refused["status"], "lift it" in refused["detail"]) == (409, True)


async def test_who_may_not_administer_lays_down_nothing_and_sees_nothing(mesh: Nodes) -> None:
    for path, body, gone, holds in RULES:
        assert (await mesh.ask("east", "PUT", path, body, READER))["status"] == 403
        assert (await mesh.ask("east", "DELETE", gone, None, READER))["status"] == 403
        assert not any(holds(mesh.state(name)) for name in mesh.running)
    for path in ("/governance", "/keys", "/policies", "/tenants", "/held", "/revoked"):
        assert (await mesh.ask("lord", "GET", path, None, READER))["status"] == 403


async def test_neither_an_authority_that_is_away_nor_a_restart_opens_anything(mesh: Nodes) -> None:
    await lay_down(mesh, "east")
    opened: list[str] = []
    for name in ("east", "west"):
        mesh.running[name].governance.subscribe(
            lambda state, name=name: opened.extend(  # type: ignore[misc]
                f"{name}: {path}" for path, _, _, holds in RULES if not holds(state)
            )
        )
    await mesh.stop("lord")
    away = await mesh.ask("east", "PUT", "/tenants/other", {})
    assert (away["status"], "lord" in away["detail"]) == (503, True)
    await mesh.stop("west")
    await mesh.start("west")
    assert all(holds(mesh.state("west")) for _, _, _, holds in RULES)
    await mesh.start("lord")
    assert all(holds(mesh.state("lord")) for _, _, _, holds in RULES)
    for name in ("east", "west"):
        await mesh.meet(name, "lord")
    done = await mesh.ask("west", "PUT", "/tenants/other", {})
    assert done["in_force"] == ["east", "lord", "west"]
    assert opened == []


async def test_an_authority_that_comes_back_with_an_empty_disk_opens_nothing_until_it_is_told_to_be_forgotten(
    mesh: Nodes,
) -> None:
    await lay_down(mesh, "east")
    await mesh.stop("lord")
    shutil.rmtree(mesh.base / "data-lord")
    await mesh.start("lord")
    await mesh.meet("west", "lord")
    done = await mesh.ask("west", "PUT", "/tenants/other", {})
    assert (done["authorities"], done["waiting"]) == (["lord"], [])
    assert all(holds(mesh.state("west")) for _, _, _, holds in RULES)
    assert mesh.state("west").tenants.keys() == {"acme", "other"}
    (problem,) = (await mesh.ask("west", "GET", "/governance"))["problems"]
    assert "lord has lost what it laid down" in problem
    assert (await mesh.ask("west", "POST", "/governance/forget", {"authority": "lord"}))["status"] == 200
    assert mesh.state("west").tenants.keys() == {"other"}
    assert not mesh.state("west").keys


async def test_an_authority_whose_new_certificate_lacks_the_role_grants_nothing_more(mesh: Nodes) -> None:
    await lay_down(mesh, "lord")
    await mesh.stop("lord")
    mesh.certify("lord")
    await mesh.start("lord")
    await mesh.until("west", lambda state: not state.keys)
    state = mesh.state("west")
    assert (state.stale, state.tenants, state.policies[0].grants) == ({"lord"}, {}, False)
    assert state.hold("files", "x", "rm")
    assert "jti/7" in state.revoked
    assert mesh.state("lord").stale == {"lord"}
    none = await mesh.ask("lord", "PUT", "/tenants/other", {})
    assert (none["status"], "no authority" in none["detail"]) == (409, True)


async def test_an_authority_away_beyond_the_age_closes_what_rests_on_it_until_it_is_heard(mesh: Nodes) -> None:
    await lay_down(mesh, "east")
    mesh.running["west"].governance.age_s = 3.0
    await mesh.stop("lord")
    await mesh.until("west", lambda state: bool(state.closed))
    assert (mesh.state("west").stale, mesh.state("west").keys) == ({"lord"}, {})
    assert not mesh.state("east").stale
    shown = await mesh.ask("west", "GET", "/governance")
    assert (shown["stale"], shown["authorities"][0]["counts"]) == (["lord"], False)
    assert (await mesh.ask("west", "GET", "/status"))["governance"]["problems"] == [shown["closed"]]
    await mesh.start("lord")
    await mesh.until("west", lambda state: not state.closed)
    assert len(mesh.state("west").keys) == 1


async def test_what_was_laid_down_goes_when_its_authority_leaves_in_order(mesh: Nodes) -> None:
    await lay_down(mesh, "east")
    await mesh.stop("lord", Farewell.LEAVE)
    await mesh.until("west", lambda state: not state.policies)
    assert not any(holds(mesh.state("west")) for _, _, _, holds in RULES)


async def test_a_node_with_an_empty_disk_lets_nothing_through_until_it_has_heard_its_authorities(nodes: Nodes) -> None:
    await nodes.start("lord")
    await nodes.stop("lord")
    await nodes.start("west", authorities=["lord"])
    assert "lord has never been heard" in nodes.state("west").closed
    await nodes.start("lord")
    await nodes.until("west", lambda state: not state.closed)


async def test_what_two_authorities_have_disabled_is_enabled_at_both_and_one_that_is_away_is_named(
    nodes: Nodes,
) -> None:
    await nodes.start("lord")
    for name in ("lord-2", "west"):
        await nodes.start(name)
    await nodes.meet("lord", "lord-2", "west")
    held = {"server": "files", "reason": "for now"}
    for lord in ("lord", "lord-2"):
        assert (await nodes.ask(lord, "PUT", "/held", held))["authorities"] == [lord]
    both = await nodes.ask("west", "DELETE", "/held?server=files")
    assert (both["authorities"], both["in_force"]) == (["lord", "lord-2"], ["lord", "lord-2", "west"])
    assert not any(nodes.state(name).held for name in nodes.running)
    assert (await nodes.ask("west", "PUT", "/policies/p", {"text": POLICY}))["authorities"] == ["lord"]
    await nodes.stop("lord")
    away = await nodes.ask("west", "DELETE", "/policies/p")
    assert (away["status"], away["kind"], "lord" in away["detail"]) == (503, "unavailable", True)
    assert nodes.state("west").policies
