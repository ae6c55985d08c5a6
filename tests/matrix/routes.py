"""Who gets what at each HTTP route of a node, as a table that people read and a test holds the node to.

    ok      200                          who     401, a credential is missing or does not count
    scope   403, a scope is missing      hid     404, as if there were nothing
    bad     400, asked for wrongly       had     409, there is another already
    page    303, to the page where one signs in
    refuse  403, a form without its session
    up      426, this is dialled by WebSocket
    sse     406, the Accept header is no stream's
    verb    405, this method is for nobody
    tls     the handshake fails: a certificate that the listener's `client_ca` did not sign

`none` shows nothing; `wrong` a token for another audience, `expired` one that has ended, `revoked` a key that was
revoked; `other` is of another tenant than `reader`, `user` and `landlord`, who operates that tenant; `admin` operates
all. `peer` shows the certificate of a node of the mesh, `foreign` one of another authority. What is allowed and would
change a node is asked for wrongly, so that it is told (`bad`) and not done.
"""

from __future__ import annotations

from typing import Any

COLUMNS = (
    "none", "wrong", "expired", "revoked", "other", "reader", "user", "landlord", "admin", "peer", "foreign",
)  # fmt: skip

TABLE = """
# MCP, legacy and modern: what is asked there is in methods.py; here a message is missing.
GET     /mcp                        who who who who  bad bad bad bad bad  tls tls
POST    /mcp                        who who who who  bad bad bad bad bad  tls tls
DELETE  /mcp                        who who who who  bad bad bad bad bad  tls tls
PUT     /mcp                        verb verb verb verb  verb verb verb verb verb  tls tls
GET     /mcp/{name}                 who who who who  bad bad bad bad bad  tls tls
POST    /mcp/{name}                 who who who who  bad bad bad bad bad  tls tls
DELETE  /mcp/{name}                 who who who who  bad bad bad bad bad  tls tls
PUT     /mcp/{name}                 verb verb verb verb  verb verb verb verb verb  tls tls
GET     /v1/mcp                     who who who who  bad bad bad bad bad  tls tls
POST    /v1/mcp                     who who who who  bad bad bad bad bad  tls tls
DELETE  /v1/mcp                     who who who who  bad bad bad bad bad  tls tls
PUT     /v1/mcp                     verb verb verb verb  verb verb verb verb verb  tls tls
GET     /v1/mcp/{name}              who who who who  bad bad bad bad bad  tls tls
POST    /v1/mcp/{name}              who who who who  bad bad bad bad bad  tls tls
DELETE  /v1/mcp/{name}              who who who who  bad bad bad bad bad  tls tls
PUT     /v1/mcp/{name}              verb verb verb verb  verb verb verb verb verb  tls tls
GET     /mcp-all                    who who who who  bad bad bad bad bad  tls tls
POST    /mcp-all                    who who who who  bad bad bad bad bad  tls tls
DELETE  /mcp-all                    who who who who  bad bad bad bad bad  tls tls
PUT     /mcp-all                    verb verb verb verb  verb verb verb verb verb  tls tls
GET     /sse                        who who who who  sse sse sse sse sse  tls tls
POST    /sse                        who who who who  bad bad bad bad bad  tls tls
DELETE  /sse                        verb verb verb verb  verb verb verb verb verb  tls tls
PUT     /sse                        verb verb verb verb  verb verb verb verb verb  tls tls
GET     /sse/{name}                 who who who who  sse sse sse sse sse  tls tls
POST    /sse/{name}                 who who who who  bad bad bad bad bad  tls tls
DELETE  /sse/{name}                 verb verb verb verb  verb verb verb verb verb  tls tls
PUT     /sse/{name}                 verb verb verb verb  verb verb verb verb verb  tls tls
GET     /sse-all                    who who who who  sse sse sse sse sse  tls tls
POST    /sse-all                    who who who who  bad bad bad bad bad  tls tls
DELETE  /sse-all                    verb verb verb verb  verb verb verb verb verb  tls tls
PUT     /sse-all                    verb verb verb verb  verb verb verb verb verb  tls tls
GET     /ws                         who who who who  up up up up up  tls tls
GET     /ws/{name}                  who who who who  up up up up up  tls tls
GET     /ws-all                     who who who who  up up up up up  tls tls

# What everybody may know.
GET     /healthz                                        ok ok ok ok  ok ok ok ok ok  tls tls
GET     /readyz                                         ok ok ok ok  ok ok ok ok ok  tls tls
GET     /.well-known/oauth-protected-resource           ok ok ok ok  ok ok ok ok ok  tls tls
GET     /.well-known/oauth-protected-resource{path}     ok ok ok ok  ok ok ok ok ok  tls tls
GET     /oauth/client/{tag}.json                        ok ok ok ok  ok ok ok ok ok  tls tls

# What callers may ask, each of what it may see.
GET     /api/v1/search              who who who who  ok ok ok ok ok  tls tls
GET     /api/v1/servers             who who who who  ok ok ok ok ok  tls tls
GET     /api/v1/grants              who who who who  ok ok ok ok ok  tls tls
POST    /api/v1/grants/remove       who who who who  hid hid hid hid hid  tls tls

# What operators of a tenant may ask, too.
GET     /api/v1/audit               who who who who  scope scope scope ok ok  tls tls
GET     /api/v1/keys                who who who who  scope scope scope ok ok  tls tls
PUT     /api/v1/keys/{name}         who who who who  scope scope scope ok had  tls tls
DELETE  /api/v1/keys/{name}         who who who who  scope scope scope hid ok  tls tls

# What is of all tenants.
GET     /metrics                    who who who who  scope scope scope hid ok  tls tls
GET     /api/v1/status              who who who who  scope scope scope hid ok  tls tls
GET     /api/v1/calls               who who who who  scope scope scope hid ok  tls tls
GET     /api/v1/peers               who who who who  scope scope scope hid ok  tls tls
GET     /api/v1/peers/{name}        who who who who  scope scope scope hid ok  tls tls
GET     /api/v1/explain             who who who who  scope scope scope hid ok  tls tls
GET     /api/v1/approvals           who who who who  scope scope scope hid ok  tls tls
PUT     /api/v1/approvals/{name}    who who who who  scope scope scope hid bad  tls tls
GET     /api/v1/policy/diff         who who who who  scope scope scope hid ok  tls tls
GET     /api/v1/audit/status        who who who who  scope scope scope hid ok  tls tls
POST    /api/v1/drain               who who who who  scope scope scope hid bad  tls tls
POST    /api/v1/leave               who who who who  scope scope scope hid bad  tls tls
POST    /api/v1/feedback/reset      who who who who  scope scope scope hid bad  tls tls
GET     /api/v1/governance          who who who who  scope scope scope hid ok  tls tls
POST    /api/v1/governance/forget   who who who who  scope scope scope hid hid  tls tls
GET     /api/v1/policies            who who who who  scope scope scope hid ok  tls tls
POST    /api/v1/policies/check      who who who who  scope scope scope hid ok  tls tls
PUT     /api/v1/policies/{name}     who who who who  scope scope scope hid bad  tls tls
DELETE  /api/v1/policies/{name}     who who who who  scope scope scope hid ok  tls tls
GET     /api/v1/tenants             who who who who  scope scope scope hid ok  tls tls
PUT     /api/v1/tenants/{name}      who who who who  scope scope scope hid bad  tls tls
DELETE  /api/v1/tenants/{name}      who who who who  scope scope scope hid ok  tls tls
GET     /api/v1/held                who who who who  scope scope scope hid ok  tls tls
PUT     /api/v1/held                who who who who  scope scope scope hid ok  tls tls
DELETE  /api/v1/held                who who who who  scope scope scope hid ok  tls tls
GET     /api/v1/revoked             who who who who  scope scope scope hid ok  tls tls
PUT     /api/v1/revoked             who who who who  scope scope scope hid ok  tls tls
DELETE  /api/v1/revoked             who who who who  scope scope scope hid ok  tls tls

# Pages for browsers: nobody is signed in there by a header. That of signing in is everybody's.
GET     /oauth                      page page page page  page page page page page  tls tls
GET     /oauth/signin               ok ok ok ok  ok ok ok ok ok  tls tls
POST    /oauth/signin               bad bad bad bad  bad bad bad bad bad  tls tls
POST    /oauth/signout              refuse refuse refuse refuse  refuse refuse refuse refuse refuse  tls tls
GET     /oauth/login/callback       bad bad bad bad  bad bad bad bad bad  tls tls
GET     /oauth/login/{number}       hid hid hid hid  hid hid hid hid hid  tls tls
GET     /oauth/start/{ticket}       bad bad bad bad  bad bad bad bad bad  tls tls
GET     /oauth/connect/{server}     page page page page  page page page page page  tls tls
POST    /oauth/connect/{server}     refuse refuse refuse refuse  refuse refuse refuse refuse refuse  tls tls
GET     /oauth/callback             refuse refuse refuse refuse  refuse refuse refuse refuse refuse  tls tls
GET     /oauth/callback/{tag}       refuse refuse refuse refuse  refuse refuse refuse refuse refuse  tls tls
POST    /oauth/remove/{server}      refuse refuse refuse refuse  refuse refuse refuse refuse refuse  tls tls

# Whatever else is asked of operators' addresses is not there, for nobody.
GET     /api/{tail}                 hid hid hid hid  hid hid hid hid hid  tls tls
POST    /api/{tail}                 hid hid hid hid  hid hid hid hid hid  tls tls
DELETE  /api/{tail}                 hid hid hid hid  hid hid hid hid hid  tls tls
PUT     /api/{tail}                 hid hid hid hid  hid hid hid hid hid  tls tls
"""

EVERY = ("GET", "POST", "DELETE", "PUT")
"""The methods asked of a route that takes all; PUT stands for those that are nobody's."""

WORDS: dict[str, tuple[int, str]] = {
    "ok": (200, ""), "who": (401, "unauthenticated"), "scope": (403, "scope_required"), "hid": (404, "unknown"),
    "bad": (400, "invalid"), "had": (409, "conflict"), "page": (303, ""), "refuse": (403, ""), "up": (426, ""),
    "sse": (406, ""), "verb": (405, ""),
}  # fmt: skip

FILLED = {
    "name": "matrix", "path": "/mcp", "number": "0", "ticket": "none", "server": "accounts", "tail": "v1/nothing",
    "tag": "0" * 32,
}  # fmt: skip
MORE: dict[str, str] = {
    "GET /api/v1/peers/{name}": "west",
    "PUT /api/v1/keys/{name}": "acme.matrix",
    "DELETE /api/v1/keys/{name}": "acme.none",
    "GET /api/v1/explain": "?tool=open/echo",
    "GET /api/v1/search": "?q=echo",
    "DELETE /api/v1/held": "?server=nothing-here",
    "DELETE /api/v1/revoked": "?credential=jti/nothing",
}
"""What else stands in the address: a query, or the name instead of `FILLED`'s."""

BODIES: dict[str, Any] = {
    "POST /api/v1/governance/forget": {"authority": "nobody"},
    "PUT /api/v1/keys/{name}": {},
    "PUT /api/v1/policies/{name}": {"text": "not cedar"},
    "POST /api/v1/policies/check": {"text": "permit(principal, action, resource);"},
    "PUT /api/v1/tenants/{name}": {"titel": 1},
    "PUT /api/v1/approvals/{name}": {"approved": 1},
    "PUT /api/v1/held": {"server": "nothing-here"},
    "PUT /api/v1/revoked": {"credential": "jti/nothing"},
    "POST /api/v1/grants/remove": {"id": "accounts/none"},
    "POST /api/v1/drain": {"on": 1},
    "POST /api/v1/leave": {"cut": 1},
}


def rows() -> dict[str, tuple[str, ...]]:
    """Route (`GET /mcp`) → what each of `COLUMNS` gets."""
    found: dict[str, tuple[str, ...]] = {}
    for line in TABLE.splitlines():
        if line and not line.startswith("#"):
            method, path, *cells = line.split()
            route = f"{method} {path}"
            assert len(cells) == len(COLUMNS), line
            assert route not in found, line
            found[route] = tuple(cells)
    return found
