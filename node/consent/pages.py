"""The pages that a person sees: plain HTML, one style of their own, no script, nothing loaded from anywhere. Pure."""

from __future__ import annotations

import hashlib
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

_STYLE = """
body { font: 1.1rem/1.5 system-ui, sans-serif; max-width: 40rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; }
input, button { font: inherit; padding: .4rem .6rem; }
label { display: block; margin-top: .8rem; }
button { margin-top: 1rem; }
dt { font-weight: bold; }
dd { margin: 0 0 .6rem; overflow-wrap: anywhere; }
.wrong { border-left: .3rem solid #b00020; padding-left: .8rem; }
:root { color-scheme: light dark; }
"""
_STYLE_HASH = b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()

HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": (
        f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; form-action 'self'; frame-ancestors 'none'; "
        "base-uri 'none'"
    ),
    "X-Frame-Options": "DENY",
    "X-Content-Type-Options": "nosniff",
    # Not no-referrer: with that, browsers name no origin when our own forms are sent.
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}


@dataclass(frozen=True, slots=True)
class Login:
    """An issuer at which a browser can sign in; `path` begins that."""

    issuer: str
    path: str


@dataclass(frozen=True, slots=True)
class Connection:
    """One server at which a person may have an account: `connected_at` is RFC 3339, empty where it has not."""

    server: str
    title: str
    issuer: str = ""
    scopes: tuple[str, ...] = ()
    connected_at: str = ""


def sign_in(
    node: str, form_token: str, to: str, logins: Sequence[Login], *, known_as: str = "", wrong: str = ""
) -> str:
    """`known_as`: who this browser is without showing anything (its certificate, or nobody in particular)."""
    hidden = _hidden(csrf=form_token, to=to)
    parts = [f"<p>Sign in to node <strong>{escape(node)}</strong> as the one your agent calls as.</p>"]
    if wrong:
        parts.append(f'<p class="wrong" role="alert">{escape(wrong)}</p>')
    if known_as:
        parts.append(
            f'<form method="post" action="/oauth/signin">{hidden}<input type="hidden" name="how" value="known">'
            f"<button>Go on as {escape(known_as)}</button></form>"
        )
    for login in logins:
        parts.append(f'<p><a href="{escape(login.path)}">Sign in at {escape(login.issuer)}</a></p>')
    parts.append(
        f'<form method="post" action="/oauth/signin">{hidden}<input type="hidden" name="how" value="key">'
        "<h2>With an API key</h2>"
        '<label for="key">API key</label>'
        '<input id="key" name="key" type="password" autocomplete="off" required maxlength="4096">'
        "<div><button>Sign in</button></div></form>"
    )
    parts.append(
        f'<form method="post" action="/oauth/signin">{hidden}<input type="hidden" name="how" value="user">'
        "<h2>With a name and a password</h2>"
        '<label for="user">Name</label>'
        '<input id="user" name="user" autocomplete="username" required maxlength="256">'
        '<label for="password">Password</label>'
        '<input id="password" name="password" type="password" autocomplete="current-password" required '
        'maxlength="4096">'
        "<div><button>Sign in</button></div></form>"
    )
    return _page("Sign in", "".join(parts))


def ask(
    *,
    node: str,
    who: str,
    server: str,
    title: str,
    issuer: str,
    goes_to: str,
    scopes: Sequence[str],
    form_token: str,
    ticket: str,
    again: bool,
) -> str:
    """What is asked, by whom, for what, and where the person is sent next."""
    named = f"{escape(title)} ({escape(server)})" if title and title != server else escape(server)
    listed = "".join(f"<li><code>{escape(scope)}</code></li>" for scope in scopes) or "<li>what it gives unasked</li>"
    asked = "An agent that calls as you wants" if ticket else "You want"
    body = (
        f"<p>{asked} to use <strong>{named}</strong>, which acts on an account of your own.</p>"
        "<dl>"
        f"<dt>You are signed in as</dt><dd>{escape(who)}</dd>"
        f"<dt>Who will hold the permission</dt><dd>node {escape(node)}, encrypted, for your calls alone</dd>"
        f"<dt>Who gives it</dt><dd>{escape(issuer)}</dd>"
        f"<dt>Where you are sent next</dt><dd>{escape(goes_to)}</dd>"
        f"<dt>What is asked for</dt><dd><ul>{listed}</ul></dd>"
        "</dl>"
        + ("<p>You have connected an account already; this replaces it.</p>" if again else "")
        + "<p>You can take it back at any time on the page of your connections. "
        "If you did not expect this, close the page: nothing has happened yet.</p>"
        f'<form method="post" action="/oauth/connect/{escape(server)}">{_hidden(csrf=form_token, ticket=ticket)}'
        f"<button>Go to {escape(goes_to)}</button></form>"
        f"{_signed_in_as(who, form_token)}"
    )
    return _page(f"Connect {server}", body)


def go(url: str, goes_to: str) -> str:
    """Leads on by itself: a redirect that answers a form may not leave this host (form-action)."""
    body = f'<p>You are sent to <a href="{escape(url)}" rel="noreferrer">{escape(goes_to)}</a>.</p>'
    return _page("On your way", body, head=f'<meta http-equiv="refresh" content="0; url={escape(url)}">')


def connections(
    node: str, who: str, known: Sequence[Connection], form_token: str, *, connected: str = "", can_leave: bool = True
) -> str:
    parts = []
    if connected:
        parts.append(
            f'<p role="status"><strong>{escape(connected)} is connected.</strong> Go back to your agent: it can make '
            "its call again now.</p>"
        )
    if not known:
        parts.append("<p>No server here acts on accounts of its callers.</p>")
    for one in known:
        parts.append(_connection(one, form_token))
    parts.append(_signed_in_as(who, form_token) if can_leave else "")
    return _page(f"Your connections at node {node}", "".join(parts))


def message(heading: str, text: str, *, form_token: str = "", who: str = "") -> str:
    """One thing to say. With a `form_token` the person may sign out, to come as somebody else."""
    leave = _signed_in_as(who, form_token) if form_token else ""
    return _page(heading, f'<p role="alert">{escape(text)}</p><p><a href="/oauth">Your connections</a></p>{leave}')


def _connection(one: Connection, form_token: str) -> str:
    heading = f"<h2>{escape(one.title or one.server)}</h2>"
    if not one.connected_at:
        return f'{heading}<p>Not connected. <a href="/oauth/connect/{escape(one.server)}">Connect</a></p>'
    scopes = ", ".join(one.scopes) or "what it gives unasked"
    return (
        f"{heading}<dl><dt>Connected</dt><dd>{escape(one.connected_at)}, by {escape(one.issuer)}</dd>"
        f"<dt>May</dt><dd>{escape(scopes)}</dd></dl>"
        f'<form method="post" action="/oauth/remove/{escape(one.server)}">{_hidden(csrf=form_token)}'
        f"<button>Take back the permission for {escape(one.server)}</button></form>"
    )


def _signed_in_as(who: str, form_token: str) -> str:
    return (
        f'<form method="post" action="/oauth/signout">{_hidden(csrf=form_token)}'
        f"<p>Signed in as {escape(who)}. <button>Sign out</button></p></form>"
    )


def _hidden(**fields: str) -> str:
    return "".join(f'<input type="hidden" name="{name}" value="{escape(value)}">' for name, value in fields.items())


def _page(title: str, body: str, head: str = "") -> str:
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><title>{escape(title)} - toolmesh</title>'
        f"{head}<style>{_STYLE}</style></head>"
        f"<body><main><h1>{escape(title)}</h1>{body}</main></body></html>"
    )
