"""How the client under test signs in: with the node's own machinery, and with a browser that agrees to everything.

What a person does in a browser is one GET here: the suite's authorization server sends straight back.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qsl, urlsplit

import aiohttp

from node.credentials.bearer import BearerCredentials
from node.credentials.choose import Signing, consenting
from node.credentials.consent import ConsentSource, Where
from node.credentials.consent_flow import Flows
from node.credentials.consent_grants import Grants
from node.credentials.discovery import Discovery
from node.credentials.http import OutboundHttp
from node.credentials.ports import Asked, ConsentNeeded, Token
from node.credentials.registration import Registrar
from node.outbound.outbound import Outbound
from node.secrets.memory import MemorySecrets
from node.settings.consent_auth import AuthorizationCodeAuth
from node.settings.servers import ServerConfig
from node.upstreams.spec import UpstreamSpec
from proto.names import NodeId
from proto.records import Principal

AGENT = Principal("agent", "conformance", kind="user")
DOCUMENT = "https://conformance-test.local/client-metadata.json"
"""The client id metadata document that the suite knows."""
_CALLBACK = "http://127.0.0.1:1/oauth/callback"


async def spec(url: str, scenario: str, context: dict[str, Any], up_s: float) -> UpstreamSpec:
    """The suite's server, with what the scenario says of our client."""
    outbound = Outbound(["localhost", "127.0.0.1"])
    if scenario.startswith("auth/client-credentials"):
        proof = {"client_secret": context.get("client_secret"), "client_key": context.get("private_key_pem")}
        auth = {"kind": "client_credentials", "client_id": context["client_id"]}
        auth |= {name: value for name, value in proof.items() if value}
        if "client_secret" in auth:
            # An operator knows which authorization server a secret is for; here the suite's metadata has to tell.
            auth["issuer"] = await _issuer_of(url, outbound)
        config = ServerConfig.model_validate({"url": url, "auth": auth, "start_timeout_s": up_s, "survey": False})
        from node.credentials.callers import CallerTokens

        return Signing(NodeId.of("conformance", "local", "local"), outbound, CallerTokens()).spec("suite", config)
    http = OutboundHttp(outbound, "the suite", [url])
    known = {name: context[name] for name in ("client_id", "client_secret", "issuer") if name in context}
    auth_code = AuthorizationCodeAuth.model_validate({"kind": "authorization_code", **known})
    discovery = Discovery("suite", url, http, issuer=auth_code.issuer)
    secrets = MemorySecrets()
    source = ConsentSource(
        "suite",
        auth_code,
        discovery,
        http,
        Grants(secrets),
        Registrar(secrets, http),
        Flows(),
        lambda _issuer: Where(_CALLBACK, DOCUMENT),
    )
    credentials = BearerCredentials(
        "suite",
        Agreeing(source),
        node="local",
        whose=consenting("suite"),
        discovery=discovery,
        closes=(http.close,),
    )
    return UpstreamSpec("suite", url=url, start_timeout_s=up_s, credentials=credentials)


async def _issuer_of(url: str, outbound: Outbound) -> str:
    http = OutboundHttp(outbound, "the suite", [url])
    try:
        return (await Discovery("suite", url, http).find()).server.issuer
    finally:
        await http.close()


class Agreeing:
    """A `TokenSource` whose person agrees at once, and always to what is asked."""

    def __init__(self, source: ConsentSource) -> None:
        self._source = source

    async def obtain(self, principal: Principal | None, asked: Asked) -> Token:
        try:
            return await self._source.obtain(AGENT, asked)
        except ConsentNeeded:
            return await self._agree(asked)

    async def renew(self, principal: Principal | None, token: Token, asked: Asked) -> Token:
        try:
            return await self._source.renew(AGENT, token, asked)
        except ConsentNeeded:
            return await self._agree(asked)

    async def _agree(self, asked: Asked) -> Token:
        address = await self._source.begin(AGENT, asked)
        async with aiohttp.ClientSession() as browser, browser.get(address, allow_redirects=False) as answer:
            back = answer.headers["Location"]
        await self._source.finish(dict(parse_qsl(urlsplit(back).query)))
        return await self._source.obtain(AGENT, asked)
