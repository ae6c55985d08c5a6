"""The way of a person through this node's pages.

    /oauth/start/TICKET ┐                       ┌ /oauth/signin (key, password, certificate)
    /oauth/connect/NAME ┼─ not signed in? ──────┤
    /oauth              ┘                       └ /oauth/login/N ─► issuer ─► /oauth/login/callback
          │ signed in, as the one that it is for
          ▼
    what is asked ── POST /oauth/connect/NAME ─► authorization server ─► /oauth/callback[/ISSUER] ─► /oauth

A ticket is for one principal: signed in as anybody else, one is refused and nothing begins.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import urlencode, urlsplit

from aiohttp import web

from node.consent import browser, pages
from node.consent.consents import CALLBACK, CONNECT, DOCUMENT, START, TAG, Consents
from node.consent.sessions import Session
from node.consent.signing_in import HOME, SigningIn, named, sign_in_at
from node.credentials.consent import ConsentSource
from node.credentials.consent_grants import Grant, holder_of
from node.credentials.ports import Asked
from node.credentials.registration import document
from node.credentials.single_flight import SingleFlight
from proto.errors import Forbidden, Unauthenticated, Unknown
from proto.records import Principal

Told = Callable[[Principal, str, str, str], None]


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
        signing_in: SigningIn,
        public_url: Callable[[], str],
        may_use: Callable[[Principal, str], Listed],
        told: Told = lambda _principal, _verb, _what, _outcome: None,
    ) -> None:
        self._node = node
        self._consents = consents
        self._signing_in = signing_in
        self._public_url = public_url
        self._may_use = may_use
        self._told = told
        self._finishing: SingleFlight[Grant] = SingleFlight()

    def __repr__(self) -> str:
        return f"ConsentPages({self._consents!r}, {self._signing_in!r})"

    def routes(self) -> list[web.RouteDef]:
        def edge(handler: browser.Handler) -> browser.Handler:
            return browser.edge(handler, self._public_url)

        return [
            *self._signing_in.routes(),
            web.get(HOME, edge(self._home), allow_head=False),
            web.get(f"{START}/{{ticket}}", edge(self._start), allow_head=False),
            web.get(f"{CONNECT}/{{server}}", edge(self._ask), allow_head=False),
            web.post(f"{CONNECT}/{{server}}", edge(self._connect)),
            web.get(CALLBACK, edge(self._callback), allow_head=False),
            web.get(f"{CALLBACK}/{{tag:{TAG}}}", edge(self._callback), allow_head=False),
            web.post("/oauth/remove/{server}", edge(self._remove)),
            web.get(f"{DOCUMENT}/{{tag:{TAG}}}.json", self._document, allow_head=False),
        ]

    async def close(self) -> None:
        await self._finishing.close()

    async def _home(self, request: web.Request) -> web.Response:
        session = self._signing_in.session(request)
        if session is None:
            return browser.to(sign_in_at(HOME))
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
            pages.connections(
                self._node, named(session.principal), known, self._signing_in.form_token(request), connected=shown
            )
        )

    async def _start(self, request: web.Request) -> web.Response:
        text = request.match_info["ticket"]
        ticket = self._consents.tickets.open(text)
        session = self._signing_in.session(request)
        if session is None:
            return browser.to(sign_in_at(f"{START}/{text}"))
        return await self._ask_page(request, session, ticket.server, text)

    async def _ask(self, request: web.Request) -> web.Response:
        server = request.match_info["server"]
        session = self._signing_in.session(request)
        if session is None:
            return browser.to(sign_in_at(f"{CONNECT}/{server}"))
        return await self._ask_page(request, session, server, "")

    async def _ask_page(self, request: web.Request, session: Session, server: str, ticket: str) -> web.Response:
        refused = self._not_for(session.principal, server, ticket)
        if refused:
            text = pages.message(
                "This is not for you",
                refused,
                form_token=self._signing_in.form_token(request),
                who=named(session.principal),
            )
            return browser.page(text, 403)
        source, listed = self._usable(session.principal, server)
        intent = await source.intent(self._asked(ticket))
        text = pages.ask(
            node=self._node,
            who=named(session.principal),
            server=server,
            title=listed.title,
            issuer=intent.server.issuer,
            goes_to=urlsplit(intent.server.authorization_endpoint).netloc,
            scopes=intent.scopes,
            form_token=self._signing_in.form_token(request),
            ticket=ticket,
            again=self._consents.grants.get(server, holder_of(session.principal)) is not None,
        )
        return browser.page(text)

    async def _connect(self, request: web.Request) -> web.Response:
        session, form = await self._signing_in.signed_form(request)
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
        session = self._signing_in.session(request)
        if session is None:
            raise Unauthenticated("you are not signed in here any more, so the answer is thrown away; begin again")
        parameters = browser.single(list(request.query.items()))
        # A browser that goes away now must not cut off what uses the code up; one that asks twice gets one answer.
        grant = await self._finishing.run(
            (session.key, request.path, parameters.get("state")),
            lambda: self._consents.finish(parameters, session.key, request.path),
        )
        self._told(session.principal, "consent", grant.server, "ok")
        return browser.to(f"{HOME}?{urlencode({'connected': grant.server})}")

    async def _remove(self, request: web.Request) -> web.Response:
        session, _ = await self._signing_in.signed_form(request)
        server = request.match_info["server"]
        if server in self._consents.sources and await self._consents.remove(server, holder_of(session.principal)):
            self._told(session.principal, "grants remove", server, "ok")
        return browser.to(HOME)

    async def _document(self, request: web.Request) -> web.Response:
        """What authorization servers fetch to know this node as a client; nothing of it is secret."""
        where = self._consents.where_at(request.match_info["tag"])
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
