"""The operators' routes to what is laid down for the whole mesh: keys, policies, tenants, what is disabled or revoked.

All need the right to administer. PUT and DELETE may be repeated; a node that is no authority carries them to one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from aiohttp import web

from node.governance.asked import Asked
from node.identity.keys import fresh_key
from node.ingress.incoming import credentials_of
from node.operator.edge import answer, body_of, edge
from node.operator.governed import Governing
from node.ports import Authenticator
from proto.errors import Invalid
from proto.records import Kind, Principal

BODY_BYTES_MAX = 256 * 1024
NAME_CHARACTERS_MAX = 4_096
_FLAGS = {"": False, "0": False, "1": True}


class GoverningApi:
    """Routes over a `Governing`."""

    def __init__(self, governing: Governing, authenticator: Authenticator) -> None:
        self._governing = governing
        self._authenticator = authenticator

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/api/v1/governance", edge(self._status)),
            web.post("/api/v1/governance/forget", edge(self._forget)),
            web.get("/api/v1/keys", edge(self._keys)),
            web.put("/api/v1/keys/{name}", edge(self._create_key)),
            web.delete("/api/v1/keys/{name}", edge(self._revoke_key)),
            web.get("/api/v1/policies", edge(self._policies)),
            web.post("/api/v1/policies/check", edge(self._check_policy)),
            web.put("/api/v1/policies/{name}", edge(self._set_policy)),
            web.delete("/api/v1/policies/{name}", edge(self._remove_policy)),
            web.get("/api/v1/tenants", edge(self._tenants)),
            web.put("/api/v1/tenants/{name}", edge(self._set_tenant)),
            web.delete("/api/v1/tenants/{name}", edge(self._remove_tenant)),
            web.get("/api/v1/held", edge(self._held)),
            web.put("/api/v1/held", edge(self._hold)),
            web.delete("/api/v1/held", edge(self._release)),
            web.get("/api/v1/revoked", edge(self._revoked)),
            web.put("/api/v1/revoked", edge(self._revoke)),
            web.delete("/api/v1/revoked", edge(self._lift)),
        ]

    # ---- all of it ------------------------------------------------------------------------------

    async def _status(self, request: web.Request) -> web.Response:
        await self._looking(request)
        return answer(self._governing.status())

    async def _forget(self, request: web.Request) -> web.Response:
        principal = await self._caller(request)
        body = await body_of(request, BODY_BYTES_MAX, ("authority",))
        name = _text(body, "authority")
        self._governing.forget(name, principal)
        return answer({"forgotten": name})

    # ---- keys -----------------------------------------------------------------------------------

    async def _keys(self, request: web.Request) -> web.Response:
        principal = await self._looking(request, at_keys=True)
        return answer({"keys": self._governing.keys(principal.tenant)})

    async def _create_key(self, request: web.Request) -> web.Response:
        """Without `sha256` the key is made here: only its digest leaves this node, but for the answer."""
        name, principal = request.match_info["name"], await self._caller(request)
        body = await body_of(request, BODY_BYTES_MAX)
        made = ""
        if "sha256" not in body:
            made = fresh_key(name)
            body = {**body, "sha256": hashlib.sha256(made.encode()).hexdigest()}
        done = await self._governing.change(Asked("set", Kind.KEY, name, body), principal)
        return answer({**done, "key": made} if made else done)

    async def _revoke_key(self, request: web.Request) -> web.Response:
        principal, reason = await self._caller(request), _asked(request, ("reason",))
        return await self._change(principal, Asked("remove", Kind.KEY, request.match_info["name"], reason))

    # ---- policies and tenants -------------------------------------------------------------------

    async def _policies(self, request: web.Request) -> web.Response:
        await self._looking(request)
        return answer({"policies": self._governing.policies()})

    async def _check_policy(self, request: web.Request) -> web.Response:
        await self._looking(request)
        body = await body_of(request, BODY_BYTES_MAX, ("name", "text"))
        self._governing.check_policy(_text(body, "name", "policy"), _text(body, "text"))
        return answer({"compiles": True})

    async def _set_policy(self, request: web.Request) -> web.Response:
        return await self._put(request, Kind.POLICY)

    async def _remove_policy(self, request: web.Request) -> web.Response:
        principal, force = await self._caller(request), _asked(request, ("force",)).get("force", "")
        if force not in _FLAGS:
            raise Invalid("parameter 'force' must be 0 or 1")
        data = {"force": True} if _FLAGS[force] else {}
        return await self._change(principal, Asked("remove", Kind.POLICY, request.match_info["name"], data))

    async def _tenants(self, request: web.Request) -> web.Response:
        await self._looking(request)
        return answer({"tenants": self._governing.tenants()})

    async def _set_tenant(self, request: web.Request) -> web.Response:
        return await self._put(request, Kind.TENANT)

    async def _remove_tenant(self, request: web.Request) -> web.Response:
        principal = await self._caller(request)
        return await self._change(principal, Asked("remove", Kind.TENANT, request.match_info["name"]))

    # ---- what is disabled, and what is revoked --------------------------------------------------

    async def _held(self, request: web.Request) -> web.Response:
        await self._looking(request)
        return answer({"held": self._governing.held()})

    async def _hold(self, request: web.Request) -> web.Response:
        principal = await self._caller(request)
        body = await body_of(request, BODY_BYTES_MAX, ("server", "tool", "owner", "reason"))
        server = _text(body, "server")
        data = {k: v for k, v in body.items() if k != "server"}
        return await self._change(principal, Asked("set", Kind.QUARANTINE, server, data))

    async def _release(self, request: web.Request) -> web.Response:
        principal = await self._caller(request)
        asked = dict(_asked(request, ("server", "tool", "owner")))
        server = asked.pop("server", "")
        if not server:
            raise Invalid("parameter 'server' is missing: name what is to be enabled")
        return await self._change(principal, Asked("remove", Kind.QUARANTINE, server, asked))

    async def _revoked(self, request: web.Request) -> web.Response:
        await self._looking(request)
        return answer({"revoked": self._governing.revoked()})

    async def _revoke(self, request: web.Request) -> web.Response:
        principal = await self._caller(request)
        body = await body_of(request, BODY_BYTES_MAX, ("credential", "reason"))
        data = {k: v for k, v in body.items() if k != "credential"}
        return await self._change(principal, Asked("set", Kind.REVOCATION, _text(body, "credential"), data))

    async def _lift(self, request: web.Request) -> web.Response:
        principal = await self._caller(request)
        credential = _asked(request, ("credential",)).get("credential", "")
        if not credential:
            raise Invalid("parameter 'credential' is missing: name what counts again")
        return await self._change(principal, Asked("remove", Kind.REVOCATION, credential, {}))

    # ---- within ---------------------------------------------------------------------------------

    async def _put(self, request: web.Request, kind: Kind) -> web.Response:
        principal = await self._caller(request)
        body = await body_of(request, BODY_BYTES_MAX)
        return await self._change(principal, Asked("set", kind, request.match_info["name"], body))

    async def _change(self, principal: Principal, asked: Asked) -> web.Response:
        """Which decides whether the principal may, and puts on record that it tried."""
        return answer(await self._governing.change(asked, principal))

    async def _looking(self, request: web.Request, *, at_keys: bool = False) -> Principal:
        principal = await self._caller(request)
        self._governing.look(principal, at_keys=at_keys)
        return principal

    async def _caller(self, request: web.Request) -> Principal:
        return await self._authenticator.authenticate(credentials_of(request))


def _text(body: Mapping[str, Any], name: str, default: str = "") -> str:
    value = body.get(name, default)
    if not isinstance(value, str) or not value:
        raise Invalid(f"field {name!r} must be a text, and not empty")
    return value


def _asked(request: web.Request, names: Sequence[str]) -> dict[str, str]:
    """Parameters that are given. Raises `Invalid` for any other."""
    if unknown := request.query.keys() - set(names):
        raise Invalid(f"parameter {min(unknown)[:80]!r} is not known here; leave it out")
    found = {name: request.query[name] for name in names if request.query.get(name)}
    if long := next((name for name, text in found.items() if len(text) > NAME_CHARACTERS_MAX), None):
        raise Invalid(f"parameter {long!r} is longer than {NAME_CHARACTERS_MAX} characters; shorten it")
    return found
