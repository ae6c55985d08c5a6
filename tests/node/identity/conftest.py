"""An issuer of the tests' own: it serves keys, metadata and introspection, and signs whatever it is asked to."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from aiohttp import web
from joserfc import jws
from joserfc.jwk import ECKey, RSAKey

from node.guard.governed import Governance
from node.identity.chain import Chain
from node.identity.choose import authenticator_of
from node.ports import Credentials
from node.settings.auth import AuthSection
from proto.records import Principal

MESH = "mesh.test"
US = "https://mesh.example"
NOW_S = 1_900_000_000.0


@dataclass
class Clock:
    now_s: float = NOW_S

    def __call__(self) -> float:
        return self.now_s


def encoded(value: Any) -> str:
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


@dataclass
class Authority:
    """`broken`: it answers 500. `pages`: where RFC 8414 has metadata, it shows a page for people.

    `asked` are the paths of requests, in order.
    """

    url: str = ""
    keys: dict[str, Any] = field(default_factory=dict)
    algorithm: str = "ES256"
    broken: bool = False
    names: str = ""
    pages: bool = False
    tokens: dict[str, dict[str, Any]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    shown: list[str] = field(default_factory=list)

    def rotate(self, kid: str, key: Any = None) -> None:
        self.keys = {kid: key or ECKey.generate_key("P-256")}

    def jwks(self) -> dict[str, Any]:
        return {"keys": [{**key.as_dict(private=False), "kid": kid} for kid, key in self.keys.items()]}

    def claims(self, **changed: Any) -> dict[str, Any]:
        now = int(NOW_S)
        claims = {"iss": self.url, "sub": "ann", "aud": f"{US}/mcp", "iat": now, "exp": now + 600, "jti": "t1"}
        return {name: value for name, value in (claims | changed).items() if value is not None}

    def token(self, header: dict[str, Any] | None = None, **changed: Any) -> str:
        kid, key = next(iter(self.keys.items()))
        return signed(
            {"alg": self.algorithm, "kid": kid, "typ": "at+jwt", **(header or {})}, self.claims(**changed), key
        )

    async def _answer(self, request: web.Request) -> web.Response:
        self.asked.append(request.path)
        if self.broken:
            return web.Response(status=500)
        match request.path:
            case "/jwks":
                return web.json_response(self.jwks())
            case "/.well-known/oauth-authorization-server" if self.pages:
                return web.Response(text="<html>Welcome</html>", content_type="text/html")
            case "/.well-known/oauth-authorization-server" | "/.well-known/openid-configuration":
                issuer = self.names or self.url
                at = {"jwks_uri": f"{self.url}/jwks", "introspection_endpoint": f"{self.url}/introspect"}
                return web.json_response({"issuer": issuer, **at})
            case "/introspect":
                self.shown.append(request.headers.get("Authorization", ""))
                form = await request.post()
                return web.json_response(self.tokens.get(str(form["token"]), {"active": False}))
        return web.Response(status=404)


def signed(header: dict[str, Any], claims: Any, key: Any) -> str:
    """A compact JWS over `claims` (JSON, or bytes as they are), whatever the header says."""
    payload = claims if isinstance(claims, bytes) else json.dumps(claims).encode()
    text = f"{encoded(header)}.{encoded(payload)}"
    algorithm = jws.JWSRegistry.algorithms[header["alg"]]
    return f"{text}.{encoded(algorithm.sign(text.encode(), key))}"


@pytest.fixture
async def authority() -> AsyncIterator[Authority]:
    made = Authority()
    made.rotate("k1")
    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", made._answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    made.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield made
    await runner.cleanup()


Make = Callable[..., Chain]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def make(clock: Clock) -> AsyncIterator[Make]:
    """The authenticator that a section `auth` asks for, closed at the end."""
    made: list[Chain] = []

    def chain(auth: dict[str, Any], governance: Governance | None = None, public_url: str = US, **more: Any) -> Chain:
        section = AuthSection.model_validate(auth)
        made.append(authenticator_of(section, MESH, governance=governance, public_url=public_url, now_s=clock, **more))
        return made[-1]

    yield chain
    for one in made:
        await one.close()


@pytest.fixture
def who(make: Make, authority: Authority) -> Callable[..., Any]:
    """Whom a bearer token stands for at a node that takes the authority's."""
    chains: dict[str, Chain] = {}

    async def ask(token: str, path: str = "/mcp", certificate: bytes = b"", **config: Any) -> Principal:
        key = repr(config)
        if key not in chains:
            chains[key] = make({"issuers": [{"issuer": authority.url, **config}]})
        return await chains[key].authenticate(Credentials(bearer=token, resource=path, certificate=certificate))

    return ask


RSA = RSAKey.generate_key(2048, auto_kid=False)
