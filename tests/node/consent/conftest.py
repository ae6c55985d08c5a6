"""A node's pages over HTTP, a strict authorization server behind them, and browsers that follow every form."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from html import unescape
from html.parser import HTMLParser
from urllib.parse import urljoin, urlsplit

import aiohttp
import pytest
from aiohttp import web
from yarl import URL

from node.consent.consents import Consents
from node.consent.login import Logins
from node.consent.routes import ConsentPages, Listed
from node.consent.sessions import Sessions
from node.consent.signing_in import SigningIn
from node.credentials.consent import ConsentSource
from node.credentials.discovery import Discovery
from node.credentials.http import OutboundHttp
from node.outbound.outbound import Outbound
from node.ports import Credentials
from node.sealing import Sealer
from node.secrets.memory import MemorySecrets
from node.settings.consent_auth import AuthorizationCodeAuth
from proto.errors import Unauthenticated, Unknown
from proto.records import Principal
from tests.node.consent.authority import Authority

ALICE = Principal("alice", "mesh.test", kind="key", credential="key/alice")
BOB = Principal("bob", "mesh.test", kind="user", credential="user/bob")
KEYS = {"alice-key": ALICE}
USERS = {"bob:secret": BOB}


class Known:
    """The authenticator of these tests: one key, one user; `ended` holds credentials that count no more."""

    def __init__(self) -> None:
        self.ended: set[str] = set()
        self.tokens: dict[str, Principal] = {}

    async def authenticate(self, credentials: Credentials) -> Principal:
        found = KEYS.get(credentials.api_key) or USERS.get(credentials.basic) or self.tokens.get(credentials.bearer)
        if found is None:
            raise Unauthenticated("nobody is known by that")
        return found

    def valid(self, principal: Principal) -> bool:
        return principal.credential not in self.ended

    def principals(self) -> dict[str, Principal]:
        return {}


class Guesses:
    """The door's count of wrong credentials: three are allowed."""

    def __init__(self) -> None:
        self.wrong = 0

    def barred_s(self, address: str) -> float:
        return 30.0 if self.wrong >= 3 else 0.0

    def failed(self, address: str) -> None:
        assert address == "127.0.0.1"
        self.wrong += 1


class _Forms(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.forms: list[dict[str, str]] = []
        self.links: list[str] = []
        self.refresh = ""
        self.tags: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        said = {k: v or "" for k, v in attrs}
        if tag == "form":
            self.forms.append({"_action": said.get("action", ""), "_method": said.get("method", "get")})
        elif tag == "input" and self.forms and "name" in said:
            self.forms[-1][said["name"]] = said.get("value", "")
        elif tag == "a":
            self.links.append(said["href"])
        elif tag == "meta" and said.get("http-equiv") == "refresh":
            self.refresh = said["content"].partition("url=")[2]


@dataclass
class Page:
    url: str
    status: int
    text: str
    headers: dict[str, str]
    forms: list[dict[str, str]] = field(default_factory=list)
    links: list[str] = field(default_factory=list)
    refresh: str = ""
    tags: set[str] = field(default_factory=set)

    def form(self, action: str, **match: str) -> dict[str, str]:
        return next(
            f for f in self.forms if f["_action"].startswith(action) and all(f.get(k) == v for k, v in match.items())
        )

    @property
    def says(self) -> str:
        return unescape(re.sub(r"<[^>]+>", " ", self.text))


class Browser:
    """Keeps cookies, follows redirects and a page's refresh; submits the forms that it was shown, as they are."""

    def __init__(self, base: str) -> None:
        self.base = base
        jar = aiohttp.CookieJar(unsafe=True, treat_as_secure_origin=[URL(base)])
        self.http = aiohttp.ClientSession(cookie_jar=jar)
        self.went: list[str] = []

    async def get(self, url: str, *, follow: bool = True, headers: dict[str, str] | None = None) -> Page:
        return await self._ask("GET", url, None, follow, headers)

    async def submit(self, page: Page, form: dict[str, str], *, follow: bool = True, **fields: str) -> Page:
        data = {k: v for k, v in {**form, **fields}.items() if not k.startswith("_")}
        parts = urlsplit(page.url)
        headers = {"Origin": f"{parts.scheme}://{parts.netloc}", "Sec-Fetch-Site": "same-origin"}
        return await self._ask("POST", urljoin(page.url, form["_action"]), data, follow, headers)

    async def post(self, path: str, data: dict[str, str], headers: dict[str, str] | None = None) -> Page:
        return await self._ask("POST", path, data, True, headers)

    async def sign_in(self, *, key: str = "", user: str = "", password: str = "", at: Page | None = None) -> Page:
        page = at or await self.get("/oauth/signin")
        if key:
            return await self.submit(page, page.form("/oauth/signin", how="key"), key=key)
        return await self.submit(page, page.form("/oauth/signin", how="user"), user=user, password=password)

    def cookies(self) -> dict[str, str]:
        return {c.key: c.value for c in self.http.cookie_jar}

    async def _ask(
        self, method: str, url: str, data: dict[str, str] | None, follow: bool, headers: dict[str, str] | None
    ) -> Page:
        url = urljoin(self.base, url)
        for _ in range(12):
            self.went.append(url)
            async with self.http.request(
                method, URL(url, encoded=True), data=data, allow_redirects=False, headers=headers
            ) as r:
                text = await r.text()
                status, head = r.status, dict(r.headers)
            if follow and status in (302, 303):
                url, method, data, headers = urljoin(url, head["Location"]), "GET", None, None
                continue
            seen = _Forms()
            seen.feed(text)
            if follow and seen.refresh:
                url, method, data, headers = seen.refresh, "GET", None, None
                continue
            return Page(url, status, text, head, seen.forms, seen.links, seen.refresh, seen.tags)
        raise AssertionError(f"went round and round: {self.went[-4:]}")


@dataclass
class Site:
    """One node's consents behind its pages. `granted` and `told` hold what it called back."""

    base: str
    consents: Consents
    source: ConsentSource
    signing_in: SigningIn
    sessions: Sessions
    known: Known
    guesses: Guesses
    granted: list[tuple[str, tuple[str, str, str]]]
    told: list[tuple[str, str, str, str]]


@pytest.fixture
async def authority() -> AsyncIterator[Authority]:
    authority = Authority()
    runner = await authority.serve()
    yield authority
    await runner.cleanup()


@pytest.fixture
async def site(authority: Authority) -> AsyncIterator[Site]:
    runners: list[web.AppRunner] = []
    https: list[OutboundHttp] = []
    yield await make_site(authority, runners, https)
    for http in https:
        await http.close()
    for runner in runners:
        await runner.cleanup()


async def make_site(
    authority: Authority,
    runners: list[web.AppRunner],
    https: list[OutboundHttp],
    auth: AuthorizationCodeAuth | None = None,
    logins: Callable[[OutboundHttp, Callable[[], str]], Logins] | None = None,
) -> Site:
    at: list[str] = [""]
    known = Known()
    http = OutboundHttp(Outbound(["127.0.0.1"]), "test")
    https.append(http)
    consents = Consents("eu-1", MemorySecrets(), Sealer.alone(), lambda: at[0])
    granted: list[tuple[str, tuple[str, str, str]]] = []
    told: list[tuple[str, str, str, str]] = []
    consents.changed = lambda server, holder: granted.append((server, holder))
    url = authority.base + authority.resource_path
    auth = auth or AuthorizationCodeAuth(kind="authorization_code")
    source = consents.source("files", auth, Discovery("files", url, http), http)

    def may_use(principal: Principal, server: str) -> Listed:
        if server != "files" or principal.subject == "stranger":
            raise Unknown("there is no such server")
        return Listed("files", "The <files> & more")

    ways = logins(http, lambda: at[0]) if logins else Logins((), http, lambda: at[0])
    guesses = Guesses()
    signing_in = SigningIn("eu-1", known, ways, lambda: at[0], guesses=lambda: guesses)
    consent_pages = ConsentPages(
        "eu-1",
        consents,
        signing_in,
        lambda: at[0],
        may_use,
        lambda principal, *rest: told.append((principal.subject, *rest)),
    )
    app = web.Application()
    app.add_routes(consent_pages.routes())
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    runners.append(runner)
    at[0] = f"http://127.0.0.1:{runner.addresses[0][1]}"
    return Site(at[0], consents, source, signing_in, signing_in.sessions, known, guesses, granted, told)


@pytest.fixture
async def browser(site: Site) -> AsyncIterator[Browser]:
    browser = Browser(site.base)
    yield browser
    await browser.http.close()


@pytest.fixture
async def other_browser(site: Site) -> AsyncIterator[Browser]:
    browser = Browser(site.base)
    yield browser
    await browser.http.close()
