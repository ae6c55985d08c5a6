"""The way of a person through this node's pages.

    /oauth/start/TICKET ┐                       ┌ /oauth/signin (key, password, certificate)
    /oauth/connect/NAME ┼─ not signed in? ──────┤
    /oauth              ┘                       └ /oauth/login/N ─► issuer ─► /oauth/login/callback
          │ signed in, as the one that it is for
          ▼
    what is asked ── POST /oauth/connect/NAME ─► authorization server ─► /oauth/callback ─► /oauth

A ticket is for one principal: signed in as anybody else, one is refused and nothing begins.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from urllib.parse import urlencode, urlsplit

from aiohttp import web

from node.consent import browser, pages
from node.consent.consents import CALLBACK, DOCUMENT, START, Consents
from node.consent.login import BEGIN, Logins
from node.consent.login import CALLBACK as LOGIN_CALLBACK
from node.consent.sessions import SESSION_COOKIE, SESSION_S, VISIT_COOKIE, Session, Sessions, key_of, new_id
from node.credentials.consent import ConsentSource
from node.credentials.consent_grants import holder_of
from node.credentials.ports import Asked
from node.credentials.registration import document
from node.ingress.incoming import credentials_of
from node.ports import Authenticator, Credentials
from proto.errors import Forbidden, Invalid, MeshError, Unauthenticated, Unknown
from proto.records import Principal

HOME, SIGN_IN, CONNECT = "/oauth", "/oauth/signin", "/oauth/connect"
_OWN_PATHS = re.compile(r"/oauth(?:/start/[A-Za-z0-9._-]{1,4096}|/connect/[a-z0-9-]{1,40})?")
"""Where a sign-in may lead: nowhere but to our own pages."""


@dataclass(frozen=True, slots=True)
class Listed:
    """A server of this node whose callers have accounts of their own."""

    name: str
    title: str


class ConsentPages:
    """`may_use(principal, server)` gives a server that the principal may see and whose callers have accounts of their
    own; it raises `Unknown` for any other. `told(principal, verb, what, outcome)` hears what was done."""

    def __init__(
        self,
        node: str,
        consents: Consents,
        authenticator: Authenticator,
        logins: Logins,
        public_url: Callable[[], str],
        may_use: Callable[[Principal, str], Listed],
        told: Callable[[Principal, str, str, str], None] = lambda _principal, _verb, _what, _outcome: None,
    ) -> None:
        self._node = node
        self._consents = consents
        self._authenticator = authenticator
        self._logins = logins
        self._public_url = public_url
        self._may_use = may_use
        self._told = told
        self.sessions = Sessions()

    def routes(self) -> list[web.RouteDef]:
        def edge(handler: browser.Handler) -> browser.Handler:
            return browser.edge(handler, self._public_url)

        return [
            web.get(HOME, edge(self._home)),
            web.get(f"{START}/{{ticket}}", edge(self._start)),
            web.get(SIGN_IN, edge(self._sign_in)),
            web.post(SIGN_IN, edge(self._signed)),
            web.post("/oauth/signout", edge(self._sign_out)),
            web.get(f"{BEGIN}/callback", edge(self._logged_in)),
            web.get(f"{BEGIN}/{{number:[0-9]{{1,3}}}}", edge(self._log_in)),
            web.get(f"{CONNECT}/{{server}}", edge(self._ask)),
            web.post(f"{CONNECT}/{{server}}", edge(self._connect)),
            web.get(CALLBACK, edge(self._callback)),
            web.post("/oauth/remove/{server}", edge(self._remove)),
            web.get(DOCUMENT, self._document),
        ]

    # ---- who it is -------------------------------------------------------------------------------

    def _session(self, request: web.Request) -> Session | None:
        session = self.sessions.find(request.cookies.get(SESSION_COOKIE, ""))
        if session is not None and not self._authenticator.valid(session.principal):
            self.sessions.end(session.key)
            return None
        return session

    async def _own_form(self, request: web.Request, cookie: str) -> dict[str, str]:
        browser.check_origin(request, self._public_url())
        form = await browser.form_of(request)
        if not self.sessions.is_own_form(request.cookies.get(cookie, ""), form.get("csrf", "")):
            raise Invalid("this form is too old, or not one of ours; go back, load the page again and repeat it")
        return form

    async def _signed_form(self, request: web.Request) -> tuple[Session, dict[str, str]]:
        session = self._session(request)
        if session is None:
            raise Unauthenticated("you are not signed in any more; nothing was done. Sign in and begin again")
        return session, await self._own_form(request, SESSION_COOKIE)

    def _token(self, request: web.Request) -> str:
        return self.sessions.form_token(request.cookies.get(SESSION_COOKIE, ""))

    async def _known_as(self, request: web.Request) -> Principal | None:
        """Who this browser is without showing anything but its certificate; None: nobody yet."""
        try:
            return await self._authenticator.authenticate(_bare(request))
        except MeshError:
            return None

    async def _sign_in(self, request: web.Request) -> web.Response:
        return await self._sign_in_page(request, _own_path(request.query.get("to", HOME)))

    async def _sign_in_page(self, request: web.Request, to: str, wrong: str = "", status: int = 200) -> web.Response:
        known = await self._known_as(request)
        visit = new_id()
        text = pages.sign_in(
            self._node,
            self.sessions.form_token(visit),
            to,
            [pages.Login(one.issuer, f"{one.path}?{urlencode({'to': to})}") for one in self._logins.offered],
            known_as=_named(known) if known is not None else "",
            wrong=wrong,
        )
        response = browser.page(text, status)
        browser.set_cookie(response, VISIT_COOKIE, visit, int(SESSION_S))
        return response

    async def _signed(self, request: web.Request) -> web.Response:
        form = await self._own_form(request, VISIT_COOKIE)
        to = _own_path(form.get("to", HOME))
        bare = _bare(request)
        match form.get("how"):
            case "known":
                shown = bare
            case "key":
                shown = replace(bare, certificate=b"", api_key=form.get("key", "").strip())
            case "user":
                shown = replace(bare, certificate=b"", basic=f"{form.get('user', '')}:{form.get('password', '')}")
            case _:
                raise Invalid("this form does not say how to sign in")
        if form.get("how") != "known" and not (shown.api_key or shown.basic.strip(":")):
            return await self._sign_in_page(request, to, "Nothing was entered.", 403)
        try:
            principal = await self._authenticator.authenticate(shown)
            if form.get("how") != "known" and principal.kind == "anonymous":
                raise Unauthenticated("nobody is known by that")
        except Unauthenticated:
            return await self._sign_in_page(request, to, "That is not a key or password that is known here.", 403)
        return self._begin_session(request, principal, to)

    def _begin_session(self, request: web.Request, principal: Principal, to: str) -> web.Response:
        before = self.sessions.find(request.cookies.get(SESSION_COOKIE, ""))
        if before is not None:
            self.sessions.end(before.key)
        response = browser.to(to)
        browser.set_cookie(response, SESSION_COOKIE, self.sessions.begin(principal), int(SESSION_S))
        browser.drop_cookie(response, VISIT_COOKIE)
        return response

    async def _sign_out(self, request: web.Request) -> web.Response:
        session, _ = await self._signed_form(request)
        self.sessions.end(session.key)
        response = browser.to(SIGN_IN)
        browser.drop_cookie(response, SESSION_COOKIE)
        return response

    async def _log_in(self, request: web.Request) -> web.Response:
        to = _own_path(request.query.get("to", HOME))
        visit = new_id()
        url = await self._logins.begin(int(request.match_info["number"]), key_of(visit), to)
        response = browser.to(url)
        browser.set_cookie(response, VISIT_COOKIE, visit, int(SESSION_S))
        return response

    async def _logged_in(self, request: web.Request) -> web.Response:
        visit = request.cookies.get(VISIT_COOKIE, "")
        if not visit:
            raise Invalid("this browser has not begun to sign in here, or too long ago; begin again")
        token, to = await self._logins.finish(browser.single(list(request.query.items())), key_of(visit))
        principal = await self._authenticator.authenticate(
            Credentials(bearer=token, peer=_bare(request).peer, resource=LOGIN_CALLBACK)
        )
        return self._begin_session(request, principal, to)

    # ---- what it agrees to -----------------------------------------------------------------------

    async def _home(self, request: web.Request) -> web.Response:
        session = self._session(request)
        if session is None:
            return browser.to(_sign_in_at(HOME))
        holder = holder_of(session.principal)
        known = []
        for name in sorted(self._consents.sources):
            grant = self._consents.grants.get(name, holder)
            try:
                title = self._may_use(session.principal, name).title
            except (Unknown, Forbidden):
                if grant is None:
                    continue
                title = ""
            if grant is None:
                known.append(pages.Connection(name, title))
            else:
                at = datetime.fromtimestamp(grant.granted_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
                known.append(pages.Connection(name, title, grant.token.issuer, grant.token.scopes, at))
        connected = request.query.get("connected", "")
        shown = connected if any(one.server == connected and one.connected_at for one in known) else ""
        return browser.page(
            pages.connections(self._node, _named(session.principal), known, self._token(request), connected=shown)
        )

    async def _start(self, request: web.Request) -> web.Response:
        text = request.match_info["ticket"]
        ticket = self._consents.tickets.open(text)
        session = self._session(request)
        if session is None:
            return browser.to(_sign_in_at(f"{START}/{text}"))
        return await self._ask_page(request, session, ticket.server, text)

    async def _ask(self, request: web.Request) -> web.Response:
        server = request.match_info["server"]
        session = self._session(request)
        if session is None:
            return browser.to(_sign_in_at(f"{CONNECT}/{server}"))
        return await self._ask_page(request, session, server, "")

    async def _ask_page(self, request: web.Request, session: Session, server: str, ticket: str) -> web.Response:
        refused = self._not_for(session.principal, server, ticket)
        if refused:
            text = pages.message(
                "This is not for you", refused, form_token=self._token(request), who=_named(session.principal)
            )
            return browser.page(text, 403)
        source, listed = self._usable(session.principal, server)
        intent = await source.intent(self._asked(ticket))
        text = pages.ask(
            node=self._node,
            who=_named(session.principal),
            server=server,
            title=listed.title,
            issuer=intent.server.issuer,
            goes_to=urlsplit(intent.server.authorization_endpoint).netloc,
            scopes=intent.scopes,
            form_token=self._token(request),
            ticket=ticket,
            again=self._consents.grants.get(server, holder_of(session.principal)) is not None,
        )
        return browser.page(text)

    async def _connect(self, request: web.Request) -> web.Response:
        session, form = await self._signed_form(request)
        server, ticket = request.match_info["server"], form.get("ticket", "")
        refused = self._not_for(session.principal, server, ticket)
        if refused:
            self._told(session.principal, "consent", server, "forbidden")
            raise Forbidden(refused)
        source, _ = self._usable(session.principal, server)
        elicitation = self._consents.tickets.open(ticket).elicitation if ticket else ""
        url = await source.begin(session.principal, self._asked(ticket), session.key, elicitation)
        return browser.page(pages.go(url, urlsplit(url).netloc))

    async def _callback(self, request: web.Request) -> web.Response:
        session = self._session(request)
        if session is None:
            raise Unauthenticated("you are not signed in here any more, so the answer is thrown away; begin again")
        grant = await self._consents.finish(browser.single(list(request.query.items())), session.key)
        self._told(session.principal, "consent", grant.server, "ok")
        return browser.to(f"{HOME}?{urlencode({'connected': grant.server})}")

    async def _remove(self, request: web.Request) -> web.Response:
        session, _ = await self._signed_form(request)
        server = request.match_info["server"]
        if server in self._consents.sources and await self._consents.remove(server, holder_of(session.principal)):
            self._told(session.principal, "grant remove", server, "ok")
        return browser.to(HOME)

    async def _document(self, request: web.Request) -> web.Response:
        """What authorization servers fetch to know this node as a client; nothing of it is secret."""
        where = self._consents.where()
        if not where.document:
            raise web.HTTPNotFound
        return web.json_response(
            document(where.document, where.redirect_uri),
            headers={"Cache-Control": "max-age=3600", "X-Content-Type-Options": "nosniff"},
        )

    def _not_for(self, principal: Principal, server: str, ticket: str) -> str:
        """Why this ticket is not for this principal and server; empty where it is, or there is none."""
        if not ticket:
            return ""
        opened = self._consents.tickets.open(ticket)
        if opened.holder != holder_of(principal):
            return (
                "This address was made for somebody else. If it is your agent that asked, sign out and sign in as the "
                "one that it calls as; otherwise close the page. Nothing has happened."
            )
        return "" if opened.server == server else "This address was made for another server."

    def _asked(self, ticket: str) -> Asked:
        return Asked(scopes=self._consents.tickets.open(ticket).scopes if ticket else ())

    def _usable(self, principal: Principal, server: str) -> tuple[ConsentSource, Listed]:
        listed = self._may_use(principal, server)
        return self._consents.sources[listed.name], listed


def _bare(request: web.Request) -> Credentials:
    """What the connection itself says of the browser."""
    return replace(credentials_of(request), bearer="", basic="", api_key="")


def _own_path(text: str) -> str:
    return text if _OWN_PATHS.fullmatch(text) else HOME


def _sign_in_at(path: str) -> str:
    return f"{SIGN_IN}?{urlencode({'to': path})}"


def _named(principal: Principal) -> str:
    where = ", ".join(part for part in (principal.tenant, principal.issuer) if part)
    return f"{principal.subject} ({where})" if where else principal.subject
