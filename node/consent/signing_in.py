"""Who a browser is: by a form, by its certificate, or by an issuer's own sign-in; and for how long.

Guesses are counted by the address that they come from, with those at every other door of the node.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Protocol
from urllib.parse import urlencode

from aiohttp import web

from node.consent import browser, pages
from node.consent.login import BEGIN, Logins
from node.consent.login import CALLBACK as LOGIN_CALLBACK
from node.consent.sessions import SESSION_COOKIE, SESSION_S, VISIT_COOKIE, Session, Sessions, key_of, new_id
from node.ingress.incoming import credentials_of
from node.ports import Authenticator, Credentials
from proto.errors import Exhausted, Invalid, MeshError, Unauthenticated
from proto.records import Principal

HOME, SIGN_IN = "/oauth", "/oauth/signin"
_OWN_PATHS = re.compile(r"/oauth(?:/start/[A-Za-z0-9._-]{1,4096}|/connect/[a-z0-9-]{1,40})?")
"""Where a sign-in may lead: nowhere but to our own pages."""
_VISIT = re.compile(r"[A-Za-z0-9_-]{43}")


class Guesses(Protocol):
    """Refused credentials, by address: the door's own count."""

    def barred_s(self, address: str) -> float:
        """How long nothing that comes from there is looked at; 0: it is."""

    def failed(self, address: str) -> None: ...


class Uncounted:
    """The twin for tests."""

    def barred_s(self, address: str) -> float:
        return 0.0

    def failed(self, address: str) -> None:
        return


class SigningIn:
    """Of the node `node`. `guesses()` is asked at each attempt. `demanded`: whoever calls must prove who it is; without
    that a browser may go on as nobody in particular."""

    def __init__(
        self,
        node: str,
        authenticator: Authenticator,
        logins: Logins,
        public_url: Callable[[], str],
        *,
        guesses: Callable[[], Guesses] = Uncounted,
        demanded: bool = True,
    ) -> None:
        self._node = node
        self._authenticator = authenticator
        self._logins = logins
        self._public_url = public_url
        self._guesses = guesses
        self._demanded = demanded
        self.sessions = Sessions()

    def __repr__(self) -> str:
        return f"SigningIn({self.sessions!r}, {self._logins!r})"

    def routes(self) -> list[web.RouteDef]:
        def edge(handler: browser.Handler) -> browser.Handler:
            return browser.edge(handler, self._public_url)

        return [
            web.get(SIGN_IN, edge(self._page), allow_head=False),
            web.post(SIGN_IN, edge(self._signed)),
            web.post("/oauth/signout", edge(self._sign_out)),
            web.get(LOGIN_CALLBACK, edge(self._logged_in), allow_head=False),
            web.get(f"{BEGIN}/{{number:[0-9]{{1,3}}}}", edge(self._log_in), allow_head=False),
        ]

    # ---- for the other pages ---------------------------------------------------------------------

    def session(self, request: web.Request) -> Session | None:
        """None: this browser has not signed in, or it is too long ago, or what it showed then counts no more."""
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

    async def signed_form(self, request: web.Request) -> tuple[Session, dict[str, str]]:
        """Raises `Unauthenticated`, and `Invalid` for a form that is not this session's own."""
        session = self.session(request)
        if session is None:
            raise Unauthenticated("you are not signed in any more; nothing was done. Sign in and begin again")
        return session, await self._own_form(request, SESSION_COOKIE)

    def form_token(self, request: web.Request) -> str:
        """For the forms of a page that is shown to a session."""
        return self.sessions.form_token(request.cookies.get(SESSION_COOKIE, ""))

    async def _known_as(self, request: web.Request) -> Principal | None:
        """Who this browser is without showing anything but its certificate; None: nobody yet."""
        bare = _bare(request)
        if self._demanded and not bare.certificate:
            return None
        try:
            return await self._authenticator.authenticate(bare)
        except MeshError:
            return None

    async def _page(self, request: web.Request) -> web.Response:
        return await self._shown(request, _own_path(request.query.get("to", HOME)))

    async def _shown(self, request: web.Request, to: str, wrong: str = "", status: int = 200) -> web.Response:
        known = await self._known_as(request)
        # The one that is there, if one is: a form in another tab is still good.
        visit = request.cookies.get(VISIT_COOKIE, "")
        if not _VISIT.fullmatch(visit):
            visit = new_id()
        text = pages.sign_in(
            self._node,
            self.sessions.form_token(visit),
            to,
            [pages.Login(one.issuer, f"{one.path}?{urlencode({'to': to})}") for one in self._logins.offered],
            known_as=named(known) if known is not None else "",
            wrong=wrong,
        )
        response = browser.page(text, status)
        browser.set_cookie(response, VISIT_COOKIE, visit, int(SESSION_S))
        return response

    async def _signed(self, request: web.Request) -> web.Response:
        form = await self._own_form(request, VISIT_COOKIE)
        to = _own_path(form.get("to", HOME))
        bare = _bare(request)
        if wait_s := self._guesses().barred_s(bare.peer):
            raise Exhausted("too many keys and passwords from your address were wrong; wait", retry_after_s=wait_s)
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
            return await self._shown(request, to, "Nothing was entered.", 403)
        try:
            principal = await self._authenticator.authenticate(shown)
            if form.get("how") != "known" and principal.kind == "anonymous":
                raise Unauthenticated("nobody is known by that")
        except Unauthenticated:
            self._guesses().failed(bare.peer)
            return await self._shown(request, to, "That is not a key or password that is known here.", 403)
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
        session, _ = await self.signed_form(request)
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


def sign_in_at(path: str) -> str:
    """Where to sign in first, to come to this page of ours then."""
    return f"{SIGN_IN}?{urlencode({'to': path})}"


def named(principal: Principal) -> str:
    """For a person to recognise itself by."""
    where = ", ".join(part for part in (principal.tenant, principal.issuer) if part)
    return f"{principal.subject} ({where})" if where else principal.subject


def _bare(request: web.Request) -> Credentials:
    """What the connection itself says of the browser."""
    return replace(credentials_of(request), bearer="", basic="", api_key="")


def _own_path(text: str) -> str:
    return text if _OWN_PATHS.fullmatch(text) else HOME
