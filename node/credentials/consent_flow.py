"""One person's way through an authorization server and back: what is sent there, and what may come back.

    begin    S256 challenge, random state, kept here with everything that the answer must fit (RFC 7636, RFC 6749 §4.1)
    finish   the state is known, used for the first time, not too old, and of this very browser; the issuer is the one
             that was asked (RFC 9207), and the address that it came to the one that was given to it; only then the code
             is shown to its token endpoint, and to no other

What is kept lies in memory: a node that restarts asks its people to begin again.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from base64 import urlsafe_b64encode
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from node.credentials.consent_grants import Holder
from node.credentials.metadata import AuthorizationServer
from node.credentials.tokens import OAuthClient
from node.settings.values import is_loopback
from proto.errors import Invalid, Unavailable

FLOW_S = 600.0
"""So long a person may stay at the authorization server."""
FLOWS_MAX = 1_000
"""Begun and not finished at this node; beyond it the oldest is forgotten."""
FLOWS_OF_ONE_MAX = 8
"""Of one person; beyond it the oldest is forgotten."""
PARAMETER_CHARS_MAX = 8_192
SAID_CHARS_MAX = 200

AFRESH = "begin again from your agent, or from the page of your connections"


@dataclass(frozen=True, slots=True)
class Flow:
    """What is waited for. `browser` says in whose browser; empty: whoever brings the state. `expires` is monotonic."""

    purpose: str
    """The server that is to be called, or whatever else the caller tells its flows apart by."""
    holder: Holder | None
    browser: str = field(repr=False)
    server: AuthorizationServer
    client: OAuthClient
    redirect_uri: str
    resource: str
    scopes: tuple[str, ...]
    verifier: str = field(repr=False)
    expires: float
    note: str = ""
    """Given back as it is."""


class Flows:
    """Those that were begun and have not come back. `clock` is monotonic, in seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._open: OrderedDict[str, Flow] = OrderedDict()

    def __repr__(self) -> str:
        return f"Flows({len(self._open)} open)"

    def begin(
        self,
        purpose: str,
        holder: Holder | None,
        server: AuthorizationServer,
        client: OAuthClient,
        redirect_uri: str,
        *,
        resource: str,
        scopes: tuple[str, ...],
        browser: str = "",
        note: str = "",
    ) -> str:
        """The URL at which the person goes on. Raises `Unavailable` for a server that nobody should be sent to."""
        check_server(server)
        verifier, state = secrets.token_urlsafe(48), secrets.token_urlsafe(32)
        expires = self._clock() + FLOW_S
        flow = Flow(purpose, holder, browser, server, client, redirect_uri, resource, scopes, verifier, expires, note)
        self._make_room(flow)
        self._open[_key(state)] = flow
        asked = {
            "response_type": "code",
            "client_id": client.client_id,
            "redirect_uri": redirect_uri,
            "state": state,
            "code_challenge": challenge_of(verifier),
            "code_challenge_method": "S256",
        }
        if scopes:
            asked["scope"] = " ".join(scopes)
        if resource:
            asked["resource"] = resource  # RFC 8707 §2.1
        if "offline_access" in scopes:
            asked["prompt"] = "consent"  # OpenID Connect Core §11
        return with_query(server.authorization_endpoint, asked)

    def take(self, parameters: Mapping[str, str], browser: str = "", arrived: str = "") -> tuple[Flow, str]:
        """The flow that an answer belongs to, which is over with this, and the code. Raises `Invalid` with the mend.

        `arrived` is the address of ours that it came to; empty: there is but one for all flows.
        """
        state = parameters.get("state", "")
        flow = self._open.pop(_key(state), None) if len(state) <= PARAMETER_CHARS_MAX else None
        if flow is None or flow.expires < self._clock():
            raise Invalid(f"nobody here waits for this answer: it is used, too old, or made up; {AFRESH}")
        if not hmac.compare_digest(flow.browser.encode(), browser.encode()):
            raise Invalid(f"this answer belongs to another browser session; {AFRESH}")
        if arrived and arrived != flow.redirect_uri:
            raise Invalid(f"this answer came to another address than that for {flow.server.issuer}; {AFRESH}")
        # Before all else that the answer says: of another issuer not even an error is believed.
        issuer = parameters.get("iss")
        if issuer is None and flow.server.authorization_response_iss_parameter_supported:
            raise Invalid(f"{flow.server.issuer} did not say that the answer is its own (RFC 9207); {AFRESH}")
        if issuer is not None and issuer != flow.server.issuer:
            raise Invalid(f"the answer comes from another issuer than {flow.server.issuer}; {AFRESH}")
        if "error" in parameters:
            said = parameters["error"][:SAID_CHARS_MAX]
            raise Invalid(f"{flow.server.issuer} did not agree: {said}; {AFRESH}", refused=said)
        code = parameters.get("code", "")
        if not code or len(code) > PARAMETER_CHARS_MAX:
            raise Invalid(f"{flow.server.issuer} sent an answer without a code; {AFRESH}")
        return flow, code

    def _make_room(self, flow: Flow) -> None:
        now = self._clock()
        for state in [s for s, f in self._open.items() if f.expires < now]:
            del self._open[state]
        if flow.holder is not None:
            mine = [s for s, f in self._open.items() if f.holder == flow.holder]
            for state in mine[: max(0, len(mine) - FLOWS_OF_ONE_MAX + 1)]:
                del self._open[state]
        while len(self._open) >= FLOWS_MAX:
            self._open.popitem(last=False)


def check_server(server: AuthorizationServer) -> None:
    """Raises `Unavailable` unless a person may be sent to it: an https address (or this machine), and PKCE by S256."""
    if "S256" not in server.code_challenge_methods:
        # MCP 2025-11-25, authorization: who does not say so is not to be used.
        raise Unavailable(
            f"{server.issuer} does not say that it knows PKCE with S256, without which nobody is sent to it"
        )
    check_address(server.authorization_endpoint, f"authorization_endpoint of {server.issuer}")


def check_address(url: str, what: str) -> None:
    """A browser is sent to nothing but https, or http on this machine: no `javascript:`, no `file:`."""
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
        good = parts.scheme == "https" or (parts.scheme == "http" and is_loopback(host))
        good = good and bool(host) and parts.port != 0 and not parts.username and not parts.password
        good = good and not parts.fragment and url.isascii() and all(32 < ord(c) < 127 for c in url)
        good = good and not set(url) & set("\"'<>\\^`{|}")
    except ValueError:
        good = False
    if not good:
        raise Unavailable(f"the {what} is not an https:// address that a browser may be sent to")


def with_query(url: str, more: Mapping[str, str]) -> str:
    """The URL with these parameters added; of its own, those of the same name are dropped (RFC 6749 §3.1)."""
    parts = urlsplit(url)
    kept = [(k, v) for k, v in parse_qsl(parts.query, keep_blank_values=True) if k not in more]
    return urlunsplit(parts._replace(query=urlencode([*kept, *more.items()])))


def challenge_of(verifier: str) -> str:
    """RFC 7636 §4.2, S256."""
    return urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).decode().rstrip("=")


def _key(state: str) -> str:
    # Looked up by digest: how long a look-up takes tells nothing of a state that is waited for.
    return hashlib.sha256(state.encode("utf-8", "surrogatepass")).hexdigest()
