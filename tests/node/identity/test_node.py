"""Who calls a whole node, over TLS and by token, at agents' and operators' addresses alike."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import ipaddress
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from node.app import App
from node.config import parse
from tests.node.identity.conftest import US, Authority

METADATA = f'resource_metadata="{US}/.well-known/oauth-protected-resource'
KEY = "a key of an operator"


class Ca:
    """A certificate authority whose files lie in `directory`."""

    def __init__(self, directory: Path, name: str) -> None:
        self._directory = directory
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self._key = ec.generate_private_key(ec.SECP256R1())
        self.file = directory / f"{name}.pem"
        self.file.write_bytes(self._pem(self._certificate(self._name, self._key.public_key(), [], ca=True)))

    def issue(self, name: str, *names: x509.GeneralName) -> tuple[Path, Path, bytes]:
        """(certificate, key, the certificate's DER) for a server or client."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        certificate = self._certificate(subject, key.public_key(), list(names), ca=False)
        files = self._directory / f"{name}.pem", self._directory / f"{name}-key.pem"
        files[0].write_bytes(self._pem(certificate))
        files[1].write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return *files, certificate.public_bytes(serialization.Encoding.DER)

    def _certificate(
        self, subject: x509.Name, key: Any, names: list[x509.GeneralName], *, ca: bool
    ) -> x509.Certificate:
        now = datetime.now(UTC)
        builder = x509.CertificateBuilder().subject_name(subject).issuer_name(self._name).public_key(key)
        builder = builder.serial_number(x509.random_serial_number())
        builder = builder.not_valid_before(now - timedelta(hours=1)).not_valid_after(now + timedelta(days=1))
        builder = builder.add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        return builder.sign(self._key, hashes.SHA256())

    @staticmethod
    def _pem(certificate: x509.Certificate) -> bytes:
        return certificate.public_bytes(serialization.Encoding.PEM)


@asynccontextmanager
async def running(
    tmp_path: Path, auth: dict[str, Any], limits: dict[str, Any] | None = None, **http: Any
) -> AsyncIterator[App]:
    settings = {
        "node": {"data_dir": str(tmp_path / "data")},
        "http": {"listen": "127.0.0.1:0", "public_url": US, "allowed_hosts": ["127.0.0.1"], **http},
        "search": {"embedder": "none"},
        "auth": auth,
        "limits": limits or {},
    }
    app = App(parse(settings, tmp_path))
    await app.start()
    try:
        yield app
    finally:
        await app.stop()


@pytest.fixture
def real_time(authority: Authority) -> Authority:
    """The authority's tokens are of now."""
    original, now = authority.claims, int(datetime.now(UTC).timestamp())
    authority.claims = lambda **changed: original(**{"iat": now, "exp": now + 600, **changed})  # type: ignore[method-assign]
    return authority


async def told(app: App, path: str, token: str = "", **headers: str) -> tuple[int, str]:
    sent = {"Authorization": f"Bearer {token}", **headers} if token else headers
    async with aiohttp.ClientSession() as http, http.get(app.url + path, headers=sent) as r:
        return r.status, r.headers.get("WWW-Authenticate", "")


async def test_operators_addresses_are_opened_by_tokens_and_challenge_like_those_of_agents(real_time, tmp_path):
    entry = {"issuer": real_time.url, "required_scopes": ["mcp"]}
    async with running(tmp_path, {"issuers": [entry]}) as app:
        path = "/api/v1/status"
        assert await told(app, path) == (401, f'Bearer scope="mcp", {METADATA}{path}"')
        status, challenge = await told(app, path, real_time.token(scope="mcp", aud="https://other.example"))
        assert (status, challenge) == (401, f'Bearer error="invalid_token", scope="mcp", {METADATA}{path}"')
        for scope, missing in (("x", "mcp"), ("mcp", "operator")):
            challenged = f'Bearer error="insufficient_scope", scope="{missing}", {METADATA}{path}"'
            assert await told(app, path, real_time.token(scope=scope, aud=US)) == (403, challenged)
        assert (await told(app, path, real_time.token(scope="mcp operator", aud=US)))[0] == 200
        stream = {"Accept": "text/event-stream"}
        assert (await told(app, "/mcp/x", "", **stream)) == (401, f'Bearer scope="mcp", {METADATA}/mcp/x"')


async def test_whose_tokens_ran_out_shut_nobody_out_who_comes_from_the_same_address(real_time, tmp_path):
    limits = {"address": {"failures_per_min": 0.1, "failures_burst": 2, "loopback": True}}
    async with running(tmp_path, {"issuers": [{"issuer": real_time.url}]}, limits) as app:
        stream = {"Accept": "text/event-stream"}
        for _ in range(4):
            assert (await told(app, "/mcp/x", real_time.token(aud=US, exp=1_000_000), **stream))[0] == 401
        assert (await told(app, "/api/v1/servers", real_time.token(aud=US)))[0] == 200
        for _ in range(2):
            assert (await told(app, "/mcp/x", "guessed", **stream))[0] == 401
        assert (await told(app, "/api/v1/servers", real_time.token(aud=US)))[0] == 429


@pytest.mark.parametrize("name", ["access_token", "token", "api_key", "key", "authorization"])
async def test_what_stands_in_a_url_opens_nothing(real_time, tmp_path, name):
    auth = {
        "issuers": [{"issuer": real_time.url}],
        "keys": [{"name": "op", "sha256": hashlib.sha256(KEY.encode()).hexdigest()}],
    }
    async with running(tmp_path, auth) as app:
        for secret in (real_time.token(aud=US), KEY.replace(" ", "%20")):
            assert (await told(app, f"/api/v1/servers?{name}={secret}"))[0] == 401
            assert (await told(app, f"/sse?{name}={secret}"))[0] == 401
        assert real_time.asked == []


async def test_a_client_is_known_by_its_certificate_and_only_by_one_of_the_configured_authority(tmp_path):
    ours, strangers = Ca(tmp_path, "ours"), Ca(tmp_path, "strangers")
    web = ours.issue("web", x509.IPAddress(ipaddress.ip_address("127.0.0.1")))
    agent = ours.issue("agent", x509.UniformResourceIdentifier("spiffe://x/agent/1"))
    nobody = ours.issue("nobody", x509.DNSName("nobody.example"))
    forged = strangers.issue("forged", x509.UniformResourceIdentifier("spiffe://x/agent/1"))
    auth = {"certificates": [{"subject": "uri:spiffe://x/agent/*", "scopes": ["operator"]}]}
    files = {"cert": str(web[0]), "key": str(web[1]), "client_ca": str(ours.file)}

    async def asked(app: App, shown: tuple[Path, Path, bytes] | None) -> int:
        context = ssl.create_default_context(cafile=str(ours.file))
        if shown is not None:
            context.load_cert_chain(shown[0], shown[1])
        connector = aiohttp.TCPConnector(ssl=context)
        async with aiohttp.ClientSession(connector=connector) as http, http.get(f"{app.url}/api/v1/status") as r:
            return r.status

    async with running(tmp_path / "a", auth, tls=files) as app:
        assert [await asked(app, shown) for shown in (agent, None, nobody)] == [200, 401, 401]
        with pytest.raises(aiohttp.ClientError):
            await asked(app, forged)
    async with running(tmp_path / "b", auth, tls={**files, "client_certificates": "required"}) as app:
        assert await asked(app, agent) == 200
        for shown in (None, forged):
            with pytest.raises(aiohttp.ClientError):
                await asked(app, shown)


async def test_a_bound_token_is_worth_nothing_on_another_connection(real_time, tmp_path):
    ours = Ca(tmp_path, "ours")
    web = ours.issue("web", x509.IPAddress(ipaddress.ip_address("127.0.0.1")))
    mine, thief = ours.issue("mine"), ours.issue("thief")
    files = {"cert": str(web[0]), "key": str(web[1]), "client_ca": str(ours.file)}
    bound = base64.urlsafe_b64encode(hashlib.sha256(mine[2]).digest()).rstrip(b"=").decode()
    token = real_time.token(aud=US, cnf={"x5t#S256": bound})
    async with running(tmp_path / "a", {"issuers": [{"issuer": real_time.url}]}, tls=files) as app:
        for shown, status in ((mine, 200), (thief, 401)):
            context = ssl.create_default_context(cafile=str(ours.file))
            context.load_cert_chain(shown[0], shown[1])
            headers = {"Authorization": f"Bearer {token}"}
            connector = aiohttp.TCPConnector(ssl=context)
            async with (
                aiohttp.ClientSession(connector=connector) as http,
                http.get(f"{app.url}/api/v1/servers", headers=headers) as r,
            ):
                assert r.status == status


async def test_a_key_that_is_revoked_loses_what_it_has_open(tmp_path):
    keys = [
        {"name": "op", "sha256": hashlib.sha256(KEY.encode()).hexdigest(), "scopes": ["operator"]},
        {"name": "agent", "sha256": hashlib.sha256(b"agent's key").hexdigest()},
    ]
    async with running(tmp_path, {"keys": keys}) as app, aiohttp.ClientSession() as http:
        async with http.ws_connect(f"{app.url}/ws", headers={"Authorization": "Bearer agent's key"}) as socket:
            operator = {"Authorization": f"Bearer {KEY}"}
            body = {"credential": "key/agent", "reason": "lost"}
            async with http.put(f"{app.url}/api/v1/revoked", json=body, headers=operator) as r:
                assert r.status == 200, await r.text()
            async with asyncio.timeout(10):
                assert (await socket.receive()).data == aiohttp.WSCloseCode.GOING_AWAY
        assert (await told(app, "/api/v1/servers", "agent's key"))[0] == 401
