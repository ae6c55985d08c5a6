"""What operators and people see of grants over the operator's API, and which they may remove."""

from __future__ import annotations

from collections.abc import AsyncIterator

import aiohttp
import pytest
from aiohttp import web

from node.credentials.consent_grants import digest_of, holder_of
from node.operator.grants import GrantsApi
from proto.records import Principal
from tests.node.consent.conftest import ALICE, BOB, Site
from tests.node.consent.test_grants import consent

ADMIN = Principal("admin", "mesh.test", kind="key")
ACME_ADMIN = Principal("acme-admin", "mesh.test", "acme", kind="key")


class Api:
    def __init__(self, base: str, http: aiohttp.ClientSession) -> None:
        self.base, self.http = base, http

    async def list(self, who: str) -> list[dict]:
        async with self.http.get(f"{self.base}/api/v1/grants", headers={"X-API-Key": who}) as answer:
            assert answer.status == 200
            text = await answer.text()
            assert "at-" not in text, "a token is shown"
            return (await answer.json())["grants"]

    async def remove(self, who: str, grant: object) -> int:
        headers = {"X-API-Key": who}
        async with self.http.post(f"{self.base}/api/v1/grants/remove", json={"id": grant}, headers=headers) as answer:
            return answer.status


@pytest.fixture
async def api(site: Site, authority) -> AsyncIterator[Api]:
    known = {"alice": ALICE, "bob": BOB, "admin": ADMIN, "acme-admin": ACME_ADMIN}
    authenticate = site.known.authenticate

    async def by_name(credentials):
        return known.get(credentials.api_key) or await authenticate(credentials)

    site.known.authenticate = by_name
    app = web.Application()
    told = lambda principal, *rest: site.told.append((principal.subject, *rest))  # noqa: E731
    app.add_routes(GrantsApi(site.consents, site.known, lambda p: p.subject.endswith("admin"), told).routes())
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    async with aiohttp.ClientSession() as http:
        yield Api(f"http://127.0.0.1:{runner.addresses[0][1]}", http)
    await runner.cleanup()


async def test_each_sees_its_own_and_who_administers_all(site, authority, api):
    for person, account in ((BOB, "b"), (ALICE, "a")):
        await consent(site, authority, person, account)
    assert [g["subject"] for g in await api.list("alice")] == ["alice"]
    everybodys = await api.list("admin")
    assert {g["subject"] for g in everybodys} == {"alice", "bob"}
    (mine,) = await api.list("bob")
    assert mine["by"] == authority.base
    assert mine["refreshable"] is True
    assert set(mine["scopes"]) == {"read", "write", "offline_access"}
    assert sum(g["lists"] for g in everybodys) == 1


async def test_who_administers_for_a_tenant_has_that_tenants_alone(site, authority, api):
    of_tenant = Principal("carol", "mesh.test", "acme", kind="user")
    await consent(site, authority, ALICE, "a")
    await consent(site, authority, of_tenant, "c")
    (carols,) = await api.list("acme-admin")
    assert (carols["subject"], carols["lists"]) == ("carol", False)
    alices = next(g for g in await api.list("admin") if g["subject"] == "alice")
    assert await api.remove("acme-admin", alices["id"]) == 404
    assert await api.remove("acme-admin", carols["id"]) == 200
    assert [g["subject"] for g in await api.list("admin")] == ["alice"]


async def test_nobody_removes_anothers_but_who_administers(site, authority, api):
    await consent(site, authority, ALICE, "a")
    await consent(site, authority, BOB, "b")
    (alices,) = await api.list("alice")
    assert await api.remove("bob", alices["id"]) == 404
    assert await api.remove("bob", "files/none") == 404
    assert await api.remove("bob", 7) == 400
    assert await api.remove("bob", (await api.list("bob"))[0]["id"]) == 200
    assert await api.remove("admin", alices["id"]) == 200
    assert await api.list("admin") == []
    assert len(authority.revoked) == 2
    assert [t for t in site.told if t[1] == "grants remove"] == [
        ("bob", "grants remove", alices["id"], "unknown"),
        ("bob", "grants remove", "files/none", "unknown"),
        ("bob", "grants remove", f"files/{_digest(BOB)}", "ok"),
        ("admin", "grants remove", alices["id"], "ok"),
    ]


async def test_who_is_not_known_sees_nothing(api):
    async with api.http.get(f"{api.base}/api/v1/grants") as answer:
        assert answer.status == 401


def _digest(principal: Principal) -> str:
    return digest_of(holder_of(principal))
