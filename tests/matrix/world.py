"""Three real nodes with everything configured, and everybody who might call them.

`lord` is the authority, `east` where agents come in (over TLS), `west` has the servers:

    open    everybody's                       vault   of the tenant acme
    scoped  `write` takes two scopes          shut    whose tool `hush` is blocked

`east` has `accounts`, whose callers have accounts of their own, and in its catalogue `more`, of a tenant that nobody
here is of, and `late`.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import ipaddress
import json
import secrets
import ssl
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
from cryptography import x509
from joserfc import jwt
from joserfc.jwk import ECKey

from federation.ca import init_ca, issue
from node.app import App
from node.config import parse
from node.identity.passwords import PasswordHash
from proto.names import NodeId
from tests.node.identity.test_node import Ca
from tests.node.waiting import until

MESH = "matrix.test"
AUDIENCE = "https://matrix.test"
ISSUER = "http://127.0.0.1:9/issuer"
SHELF = Path(__file__).parent / "shelf.py"
SERVERS = ("open", "vault", "scoped", "shut")
PATIENCE_S = 30.0
ETC = """
@id("no-etc") forbid(principal, action == Action::"call", resource)
when { context.arguments has path && context.arguments.path like "/etc/*" };
"""
ROLES = {
    "readers": {"groups": ["readers"], "actions": ["search", "list", "read"]},
    "users": {"groups": ["users"], "actions": ["search", "list", "call", "read"]},
    "admins": {"groups": ["admins"], "actions": ["search", "list", "call", "read", "add"]},
}
PEOPLE: Mapping[str, dict[str, Any]] = {
    "other": {"tenant": "beta", "groups": ["users"]},
    "reader": {"tenant": "acme", "groups": ["readers"]},
    "user": {"tenant": "acme", "groups": ["users"], "scopes": ["files.write"]},
    "landlord": {"tenant": "acme", "groups": ["users"], "scopes": ["operator"]},
    "admin": {"groups": ["admins"], "scopes": ["operator", "files.write", "files.more"]},
}
"""Who is somebody; how each proves it is in `World.headers`."""

NOBODIES = ("none", "wrong", "expired", "revoked")
"""No credential; a token for another audience; one that has ended; a key that was revoked."""
EVERYBODY = (*NOBODIES, *PEOPLE)


def shelf(name: str, **more: Any) -> dict[str, Any]:
    return {"command": [sys.executable, "-S", "-E", str(SHELF), name], "sessions": "shared", **more}


def digest(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


@dataclass
class World:
    base: Path
    nodes: dict[str, App] = field(default_factory=dict)
    keys: dict[str, str] = field(default_factory=dict)
    tokens: dict[str, str] = field(default_factory=dict)
    password: str = ""
    http: aiohttp.ClientSession = field(init=False)
    tls: ssl.SSLContext = field(init=False)
    ca: Ca = field(init=False)

    @property
    def entry(self) -> App:
        return self.nodes["east"]

    @property
    def owner(self) -> App:
        return self.nodes["west"]

    def bearer(self, who: str) -> str:
        """The key or token of somebody who has one; empty for others."""
        return self.tokens.get(who) or self.keys.get(who, "")

    def headers(self, who: str) -> dict[str, str]:
        """`reader` comes by Basic, `user` by a token, `other` by X-API-Key, the rest by a bearer's key."""
        if who == "reader":
            return {"Authorization": f"Basic {base64.b64encode(f'reader:{self.password}'.encode()).decode()}"}
        if who == "other":
            return {"X-API-Key": self.keys["other"]}
        bearer = self.bearer(who)
        return {"Authorization": f"Bearer {bearer}"} if bearer else {}

    async def ask(
        self, who: str, method: str, path: str, body: Any = None, *, at: str = "east", **headers: str
    ) -> tuple[int, dict[str, str], bytes]:
        """(status, headers without what differs by the moment, body)."""
        sent = {**self.headers(who), **headers}
        data = None if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        if data is not None:
            sent.setdefault("Content-Type", "application/json")
        async with (
            asyncio.timeout(PATIENCE_S),
            self.http.request(
                method, self.nodes[at].url + path, data=data, headers=sent, allow_redirects=False
            ) as answer,
        ):
            told = {k.lower(): v for k, v in answer.headers.items() if k.lower() not in ("date", "set-cookie")}
            return answer.status, told, await answer.read()

    async def does(self, who: str, method: str, path: str, body: Any = None, at: str = "east") -> dict[str, Any]:
        """An operator's act that must succeed."""
        status, _, said = await self.ask(who, method, f"/api/v1{path}", body, at=at)
        assert status == 200, (status, said)
        told: dict[str, Any] = json.loads(said)
        return told

    async def meet(self) -> None:
        """Until each node hears the others, and is heard by them."""

        def strangers() -> bool:
            for name, app in self.nodes.items():
                assert app.federation is not None
                peers = [p for p in app.federation.peers() if p.node and p.subscribed and p.state == "alive"]
                if not self.nodes.keys() - {name} <= {p.node.name for p in peers if p.node}:
                    return True
            return False

        async with asyncio.timeout(PATIENCE_S):
            while strangers():  # noqa: ASYNC110 - who subscribes is told to nobody
                await asyncio.sleep(0.01)

    def client(self, certificate: tuple[Path, Path]) -> ssl.SSLContext:
        """TLS of a client that shows this certificate."""
        context = ssl.create_default_context(cafile=str(self.ca.file))
        context.load_cert_chain(*certificate)
        return context


def _token(key: ECKey, who: str, **changed: Any) -> str:
    now = int(time.time())
    said = PEOPLE["user"]
    claims = {
        "iss": ISSUER, "sub": who, "aud": AUDIENCE, "iat": now, "exp": now + 600, "jti": secrets.token_hex(8),
        "groups": said["groups"], "scope": " ".join(said["scopes"]), "tenant": said["tenant"],
    }  # fmt: skip
    return jwt.encode({"alg": "ES256", "kid": "k", "typ": "at+jwt"}, claims | changed, key)


def _auth(world: World) -> dict[str, Any]:
    signer = ECKey.generate_key("P-256", {"kid": "k"})
    jwks = world.base / "jwks.json"
    jwks.write_text(json.dumps({"keys": [signer.as_dict(private=False)]}))
    past = int(time.time()) - 7200
    world.tokens = {
        "user": _token(signer, "user"),
        "wrong": _token(signer, "user", aud="https://elsewhere.test"),
        "expired": _token(signer, "user", iat=past, exp=past + 600),
    }
    world.password = secrets.token_urlsafe(18)
    world.keys = {who: f"tm_{who}_{secrets.token_urlsafe(24)}" for who in ("other", "landlord", "admin", "revoked")}
    known = {**PEOPLE, "revoked": PEOPLE["admin"]}
    return {
        "keys": [{"name": who, "sha256": digest(key), **known[who]} for who, key in world.keys.items()],
        "users": [
            {"name": "reader", "password": {"scrypt": str(PasswordHash.of(world.password, 14))}, **PEOPLE["reader"]}
        ],
        "issuers": [
            {"issuer": ISSUER, "audiences": [AUDIENCE], "jwks": str(jwks), "claims": {"tenant": "tenant"}}
        ],
    }  # fmt: skip


def _settings(world: World, name: str, auth: dict[str, Any], known: list[str]) -> dict[str, Any]:
    roles = ["authority"] if name == "lord" else []
    files = issue(world.base / "mesh", NodeId.of(MESH, "eu", name), world.base / name, roles=roles, hosts=["127.0.0.1"])
    policy = world.base / "etc.cedar"
    policy.write_text(ETC)
    return {
        "node": {"name": name, "region": "eu", "mesh": MESH, "data_dir": str(world.base / name / "data")},
        "http": {"listen": "127.0.0.1:0"},
        "auth": auth,
        "guard": {"policies": [{"file": str(policy)}], "roles": ROLES},
        "limits": {"address": {"failures_per_min": 0}},
        "search": {
            "embedder": "none",
            "aliases": ["docker", "toolhive"],
            "read_only_tool": True,
            "believe_hints": ["*"],
        },
        "federation": {
            "listen": "127.0.0.1:0",
            "tls": {"ca": str(files.ca), "cert": str(files.cert), "key": str(files.key)},
            "static": known,
            "mdns": {"enabled": False},
        },
    }


def _servers(name: str) -> dict[str, Any]:
    if name == "west":
        return {
            "servers": {
                "open": shelf("open"),
                "vault": shelf("vault", tenant="acme"),
                "scoped": shelf("scoped", scopes={"write": ["files.write", "files.more"]}),
                "shut": shelf("shut", tools={"block": ["hush"]}),
            }
        }
    if name == "east":
        accounts = {"url": "http://127.0.0.1:9/mcp", "auth": {"kind": "authorization_code"}}
        return {
            "servers": {"accounts": accounts},
            "catalogue": {"more": shelf("more", tenant="gamma"), "late": shelf("late")},
        }
    return {}


@asynccontextmanager
async def worlds(base: Path, change: Callable[[str, dict[str, Any]], None] | None = None) -> AsyncIterator[World]:
    """All nodes up, met and knowing all servers. `change(node, settings)` may alter what a node is started with."""
    world = World(base)
    init_ca(base / "mesh", MESH)
    world.ca = Ca(base, "web")
    cert, key, _ = world.ca.issue("listener", x509.IPAddress(ipaddress.ip_address("127.0.0.1")))
    world.tls = ssl.create_default_context(cafile=str(world.ca.file))
    auth, known = _auth(world), list[str]()
    async with AsyncExitStack() as stack:
        connector = aiohttp.TCPConnector(ssl=world.tls, limit=0)
        world.http = await stack.enter_async_context(
            aiohttp.ClientSession(
                connector=connector, cookie_jar=aiohttp.DummyCookieJar(), timeout=aiohttp.ClientTimeout(total=None)
            )
        )
        for name in ("lord", "west", "east"):
            settings = {**_settings(world, name, auth, known), **_servers(name)}
            if name == "east":
                tls = {"cert": str(cert), "key": str(key), "client_ca": str(world.ca.file)}
                key_file = base / "secrets.key"
                key_file.write_text(base64.b64encode(secrets.token_bytes(32)).decode())
                key_file.chmod(0o600)
                settings["secrets"] = {"key": {"file": str(key_file)}}
                agents = [{"subject": "uri:spiffe://agents/*", **PEOPLE["user"]}]
                settings["auth"] = {**auth, "certificates": agents}
                settings["http"] |= {"tls": tls, "public_url": AUDIENCE, "allowed_hosts": ["127.0.0.1"]}
            if change is not None:
                change(name, settings)
            app = App(parse(settings, base))
            stack.push_async_callback(app.stop)
            await app.start()
            assert app.federation is not None
            known.append(f"127.0.0.1:{app.federation.bound_port}")
            world.nodes[name] = app
        for app in world.nodes.values():
            await until(app, lambda app=app: all(_up(app, server) for server in SERVERS))  # type: ignore[misc]
        await world.meet()
        await world.does("admin", "PUT", "/revoked", {"credential": "key/revoked"})
        yield world


def _up(app: App, server: str) -> bool:
    found = app.catalog.find("west", server)
    return found is not None and found.up and bool(found.tools)
