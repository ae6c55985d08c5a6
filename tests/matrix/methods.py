"""What callers get for each method of MCP at each endpoint, as a table that people read and a test holds the node to.

    ok      a result                           who     not let in at all
    empty   a list, and nothing in it          scope   a scope is missing, and said which
    hid     as if it did not exist: the same bytes as for a name that nobody ever gave
    bad     invalid: arguments that are not permitted, or a task of somebody else
    never   there is no such method here       none    no such task, method or place, whoever asks

`era`: `both`, `old` (2024-11-05 to 2025-11-25) or `new` (2026-07-28), as the protocol has the method. `nobody` are
four: without a credential, with a token for another audience, with one that has ended, with a key that was revoked.
`other` is of another tenant than `reader` (who may not call), `user` and `landlord`; `admin` is of none.

Each row is asked over all transports that the path has: Streamable HTTP of both eras, /sse, /ws (both eras), at
/mcp/{name} also as a peer asks the owner, at /mcp also through `toolmesh stdio`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

COLUMNS = ("nobody", "other", "reader", "user", "landlord", "admin")

TABLE = """
# ---- /mcp: the meta-tools ------------------------------------------------------------------------------
#path       method                    what                            era   nobody other reader user landlord admin
/mcp        initialize                -                               old   who    ok    ok    ok    ok    ok
/mcp        server/discover           -                               new   who    ok    ok    ok    ok    ok
/mcp        ping                      -                               old   who    ok    ok    ok    ok    ok
/mcp        logging/setLevel          -                               old   who    ok    ok    ok    ok    ok
/mcp        tools/list                -                               both  who    ok    ok    ok    ok    ok
/mcp        tools/call                search_mcp_server               both  who    ok    ok    ok    ok    ok
/mcp        tools/call                add_mcp_server=open             both  who    ok    ok    ok    ok    ok
/mcp        tools/call                add_mcp_server=vault            both  who    hid   ok    ok    ok    hid
/mcp        tools/call                add_mcp_server=more             both  who    hid   hid   hid   hid   hid
/mcp        tools/call                use_tool=open/echo              both  who    ok    hid   ok    ok    ok
/mcp        tools/call                use_tool=open/echo+etc          both  who    bad   hid   bad   bad   bad
/mcp        tools/call                use_tool=vault/echo             both  who    hid   hid   ok    ok    hid
/mcp        tools/call                use_tool=vault/echo+etc         both  who    hid   hid   bad   bad   hid
/mcp        tools/call                use_tool=shut/hush              both  who    hid   hid   hid   hid   hid
/mcp        tools/call                use_tool=scoped/write           both  who    scope hid   scope scope ok
/mcp        tools/call                use_tool=open/prompts/get       both  who    ok    ok    ok    ok    ok
/mcp        tools/call                use_tool=vault/prompts/get      both  who    hid   ok    ok    ok    hid
/mcp        tools/call                use_tool=open/resources/read    both  who    ok    ok    ok    ok    ok
/mcp        tools/call                use_tool=vault/resources/read   both  who    hid   ok    ok    ok    hid
/mcp        tools/call                use_read_only_tool=open/look    both  who    ok    hid   ok    ok    ok
/mcp        tools/call                use_read_only_tool=open/write   both  who    bad   hid   bad   bad   bad
/mcp        tools/call                use_read_only_tool=vault/look   both  who    hid   hid   ok    ok    hid
/mcp        tools/call                mcp-find                        both  who    ok    ok    ok    ok    ok
/mcp        tools/call                mcp-add=open                    both  who    ok    ok    ok    ok    ok
/mcp        tools/call                mcp-add=vault                   both  who    hid   ok    ok    ok    hid
/mcp        tools/call                mcp-exec=open/echo              both  who    ok    hid   ok    ok    ok
/mcp        tools/call                mcp-exec=vault/echo             both  who    hid   hid   ok    ok    hid
/mcp        tools/call                mcp-exec=shut/hush              both  who    hid   hid   hid   hid   hid
/mcp        tools/call                find_tool                       both  who    ok    ok    ok    ok    ok
/mcp        tools/call                call_tool=open/echo+etc         both  who    bad   hid   bad   bad   bad
/mcp        tools/call                call_tool=vault/echo            both  who    hid   hid   ok    ok    hid
/mcp        tools/call                call_tool=scoped/write          both  who    scope hid   scope scope ok
/mcp        resources/list            -                               both  who    ok    ok    ok    ok    ok
/mcp        resources/templates/list  -                               both  who    empty empty empty empty empty
/mcp        resources/read            summary                         both  who    ok    ok    ok    ok    ok
/mcp        resources/read            vault                           both  who    hid   hid   hid   hid   hid
/mcp        resources/subscribe       summary                         old   who    ok    ok    ok    ok    ok
/mcp        resources/unsubscribe     summary                         old   who    ok    ok    ok    ok    ok
/mcp        subscriptions/listen      summary                         new   who    ok    ok    ok    ok    ok
/mcp        prompts/list              -                               both  who    never never never never never
/mcp        prompts/get               greet                           both  who    never never never never never
/mcp        completion/complete       greet                           both  who    never never never never never
/mcp        tasks/list                -                               both  who    never never never never never
/mcp        tasks/get                 vault/none                      both  who   hid   hid   bad   bad   hid
/mcp        tasks/result              vault/none                      old   who   hid   hid   bad   bad   hid
/mcp        tasks/result              vault/none                      new   who   hid   hid   never never hid
/mcp        tasks/cancel              vault/none                      both  who   hid   hid   bad   bad   hid
/mcp        tasks/update              vault/none                      both  who   hid   hid   bad   bad   hid
/mcp        odd/method                -                               both  who    never never never never never

# ---- /mcp/{name}: one server ---------------------------------------------------------------------------
/mcp/open   initialize                -                               old   who    ok    ok    ok    ok    ok
/mcp/open   server/discover           -                               new   who    ok    ok    ok    ok    ok
/mcp/open   ping                      -                               old   who    ok    ok    ok    ok    ok
/mcp/open   logging/setLevel          -                               old   who    ok    ok    ok    ok    ok
/mcp/open   tools/list                -                               both  who    ok    empty ok    ok    ok
/mcp/open   tools/call                echo                            both  who    ok    hid   ok    ok    ok
/mcp/open   tools/call                echo+etc                        both  who    bad   hid   bad   bad   bad
/mcp/open   tools/call                task                            both  who    ok    hid   ok    ok    ok
/mcp/open   tools/call                gone                            both  who    hid   hid   hid   hid   hid
/mcp/open   prompts/list              -                               both  who    ok    ok    ok    ok    ok
/mcp/open   prompts/get               greet                           both  who    ok    ok    ok    ok    ok
/mcp/open   resources/list            -                               both  who    ok    ok    ok    ok    ok
/mcp/open   resources/templates/list  -                               both  who    ok    ok    ok    ok    ok
/mcp/open   resources/read            note                            both  who    ok    ok    ok    ok    ok
/mcp/open   resources/subscribe       note                            old   who    ok    ok    ok    ok    ok
/mcp/open   resources/unsubscribe     note                            old   who    ok    ok    ok    ok    ok
/mcp/open   completion/complete       greet                           both  who    ok    ok    ok    ok    ok
/mcp/open   subscriptions/listen      note                            new   who    ok    ok    ok    ok    ok
/mcp/open   tasks/list                -                               both  who   never hid   never never never
/mcp/open   tasks/get                 none                            both  who   bad   hid   bad   bad   bad
/mcp/open   tasks/result              none                            old   who   bad   hid   bad   bad   bad
/mcp/open   tasks/result              none                            new   who   never hid   never never never
/mcp/open   tasks/cancel              none                            both  who   bad   hid   bad   bad   bad
/mcp/open   tasks/update              none                            both  who   bad   hid   bad   bad   bad
/mcp/open   odd/method                -                               both  who    never hid   never never never
/mcp/vault  initialize                -                               old   who    hid   ok    ok    ok    hid
/mcp/vault  server/discover           -                               new   who    hid   ok    ok    ok    hid
/mcp/vault  tools/list                -                               both  who    hid   empty ok    ok    hid
/mcp/vault  tools/call                echo                            both  who    hid   hid   ok    ok    hid
/mcp/vault  tools/call                echo+etc                        both  who    hid   hid   bad   bad   hid
/mcp/vault  prompts/list              -                               both  who    hid   ok    ok    ok    hid
/mcp/vault  prompts/get               greet                           both  who    hid   ok    ok    ok    hid
/mcp/vault  resources/list            -                               both  who    hid   ok    ok    ok    hid
/mcp/vault  resources/templates/list  -                               both  who    hid   ok    ok    ok    hid
/mcp/vault  resources/read            note                            both  who    hid   ok    ok    ok    hid
/mcp/vault  completion/complete       greet                           both  who    hid   ok    ok    ok    hid
/mcp/vault  subscriptions/listen      note                            new   who    hid   ok    ok    ok    hid
/mcp/vault  tasks/list                -                               both  who   hid   hid   never never hid
/mcp/vault  tasks/get                 none                            both  who   hid   hid   bad   bad   hid
/mcp/vault  tasks/result              none                            old   who   hid   hid   bad   bad   hid
/mcp/vault  tasks/result              none                            new   who   hid   hid   never never hid
/mcp/vault  tasks/cancel              none                            both  who   hid   hid   bad   bad   hid
/mcp/vault  tasks/update              none                            both  who    hid   hid   bad   bad   hid
/mcp/vault  odd/method                -                               both  who   hid   hid   never never hid
/mcp/shut   tools/call                hush                            both  who    hid   hid   hid   hid   hid
/mcp/scoped tools/call                write                           both  who    scope hid   scope scope ok

# ---- /mcp-all: everything, under names of the whole mesh -----------------------------------------------
/mcp-all    initialize                -                               old   who    ok    ok    ok    ok    ok
/mcp-all    server/discover           -                               new   who    ok    ok    ok    ok    ok
/mcp-all    ping                      -                               old   who    ok    ok    ok    ok    ok
/mcp-all    logging/setLevel          -                               old   who    ok    ok    ok    ok    ok
/mcp-all    tools/list                -                               both  who    ok    empty ok    ok    ok
/mcp-all    tools/call                open__echo                      both  who    ok    hid   ok    ok    ok
/mcp-all    tools/call                open__echo+etc                  both  who    bad   hid   bad   bad   bad
/mcp-all    tools/call                vault__echo                     both  who    hid   hid   ok    ok    hid
/mcp-all    tools/call                shut__hush                      both  who    hid   hid   hid   hid   hid
/mcp-all    tools/call                scoped__write                   both  who    scope hid   scope scope ok
/mcp-all    prompts/list              -                               both  who    ok    ok    ok    ok    ok
/mcp-all    prompts/get               open__greet                     both  who    ok    ok    ok    ok    ok
/mcp-all    prompts/get               vault__greet                    both  who    hid   ok    ok    ok    hid
/mcp-all    resources/list            -                               both  who    ok    ok    ok    ok    ok
/mcp-all    resources/templates/list  -                               both  who    ok    ok    ok    ok    ok
/mcp-all    resources/read            open                            both  who    ok    ok    ok    ok    ok
/mcp-all    resources/read            vault                           both  who    hid   ok    ok    ok    hid
/mcp-all    resources/subscribe       open                            old   who    ok    ok    ok    ok    ok
/mcp-all    resources/unsubscribe     open                            old   who    ok    ok    ok    ok    ok
/mcp-all    completion/complete       vault__greet                    both  who    hid   ok    ok    ok    hid
/mcp-all    subscriptions/listen      open                            new   who    ok    ok    ok    ok    ok
/mcp-all    tasks/list                -                               both  who    never never never never never
/mcp-all    tasks/get                 vault/none                      both  who   hid   hid   bad   bad   hid
/mcp-all    tasks/result              vault/none                      old   who   hid   hid   bad   bad   hid
/mcp-all    tasks/result              vault/none                      new   who   hid   hid   never never hid
/mcp-all    tasks/cancel              vault/none                      both  who   hid   hid   bad   bad   hid
/mcp-all    tasks/update              vault/none                      both  who    hid   hid   bad   bad   hid
/mcp-all    odd/method                -                               both  who    never never never never never
"""

TWINS = {
    "vault": "vaunt", "open": "ofen", "shut": "shub", "scoped": "scopes", "more": "mose",
    "echo": "ecko", "hush": "huss", "look": "lool", "write": "wrine", "greet": "grees", "gone": "gohe",
}  # fmt: skip
"""What is asked for instead to learn what is said of what nobody ever named: as long, so that lengths say nothing."""

ETC = {"path": "/etc/passwd"}


class Row(NamedTuple):
    path: str
    method: str
    what: str
    era: str
    cells: tuple[str, ...]

    @property
    def params(self) -> dict[str, Any]:
        """What is asked, in the protocol's words."""
        return params_of(self.path, self.method, self.what)

    def expected(self, who: str) -> str:
        return self.cells[COLUMNS.index(who) if who in COLUMNS else 0]

    def __str__(self) -> str:
        return f"{self.path} {self.method} {self.what}"


def params_of(path: str, method: str, what: str) -> dict[str, Any]:
    name, _, etc = what.partition("+")
    arguments: dict[str, Any] = ETC if etc else {"n": 1}
    at = path.removeprefix("/mcp/") if path.startswith("/mcp/") else name
    uri = "toolmesh://catalogue" if name == "summary" else f"shelf://{at}/note"
    match method:
        case "tools/call" if path == "/mcp":
            return {"name": name.partition("=")[0], "arguments": _meta_arguments(name, arguments)}
        case "tools/call":
            more = {"task": {"ttl": 60_000}} if name == "task" else {}
            return {"name": name, "arguments": arguments, **more}
        case "prompts/get":
            return {"name": name}
        case "completion/complete":
            return {"ref": {"type": "ref/prompt", "name": name}, "argument": {"name": "a", "value": ""}}
        case "resources/read" | "resources/subscribe" | "resources/unsubscribe":
            return {"uri": uri}
        case "subscriptions/listen":
            return {"notifications": {"resourceSubscriptions": [uri]}}
        case "logging/setLevel":
            return {"level": "info"}
        case "tasks/get" | "tasks/result" | "tasks/cancel" | "tasks/update":
            server, _, task = name.rpartition("/")
            return {"taskId": f"{server}__{task}" if server else task}
    return {}


def _meta_arguments(asked: str, arguments: dict[str, Any]) -> dict[str, Any]:
    tool, _, target = asked.partition("=")
    server, _, inner = target.partition("/")
    match tool:
        case "search_mcp_server":
            return {"task_description": "echo what is said"}
        case "mcp-find":
            return {"query": "echo"}
        case "find_tool":
            return {"tool_description": "echo"}
        case "add_mcp_server":
            return {"mcp_server_name": server}
        case "mcp-add":
            return {"name": server}
        case "mcp-exec":
            return {"name": f"{server}__{inner}", "arguments": arguments}
        case "call_tool":
            return {"tool_name": f"{server}__{inner}", "parameters": arguments}
    given = {"prompts/get": {"name": "greet"}, "resources/read": {"uri": f"shelf://{server}/note"}}
    return {"mcp_server_name": server, "mcp_tool_name": inner, "params": given.get(inner, arguments)}


def rows() -> list[Row]:
    found = []
    for line in TABLE.splitlines():
        if line and not line.startswith("#"):
            path, method, what, era, *cells = line.split()
            assert len(cells) == len(COLUMNS), line
            found.append(Row(path, method, what, era, tuple(cells)))
    assert len({row[:4] for row in found}) == len(found), "a row stands twice"
    return found
