"""How an upstream MCP server is reached, and within which bounds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal
from urllib.parse import urlsplit

from node.credentials.ports import UpstreamCredentials
from proto.errors import Invalid
from proto.names import check_server_name

if TYPE_CHECKING:
    from node.outbound.outbound import Outbound

Transport = Literal["auto", "http", "sse", "websocket"]
"""How a `url` is spoken to. `auto`: by its scheme, and over HTTP whichever of the two transports answers."""

Sharing = Literal["principal", "shared", "session"]
"""Whose calls may meet in one session with a server: one principal's, everybody's, or one client session's."""

LIMITS = ("memory_mb", "cpu_s", "open_files")

_ABOVE_ZERO = (
    *("start_timeout_s", "call_timeout_s", "probe_every_s", "concurrency", "message_bytes_max"),
    *("session_idle_s", "ask_timeout_s"),
)
_SCHEMES = ("http", "https", "ws", "wss")


@dataclass(frozen=True, slots=True)
class UpstreamSpec:
    """One server that this node hosts (`command`) or connects to (`url`); exactly one of the two.

    `command` is an argument vector, never given to a shell; `env` is added to a short list of harmless variables,
    the rest of the node's own environment stays with the node. It runs as `user`, or as the node does. `headers` go
    with every HTTP request. Errors of a field are raised as `Invalid` naming it. `retry_safe`: every tool, or those
    that are named, may be run twice.

    `tenant` and `teams` say whose it is, `scopes` what using its parts takes, by glob over their names. Of its tools
    those matching `tools_allow` (none: all) and not `tools_block` are published.

    `sessions_max` bounds the sessions beside the main one, each ended after `session_idle_s` without use; with 0
    everybody shares the main one, which can ask nobody. `ask_timeout_s` bounds what a server asks a client. `survey`:
    look once what the server lists for clients that declare everything. `limits` of a command's process: `LIMITS`.

    `outbound` judges each address that the `url` leads to; None: it is dialled as written, the operator's own.
    """

    name: str
    command: tuple[str, ...] = ()
    cwd: str | None = None
    user: str = ""
    env: Mapping[str, str] = field(default_factory=dict)
    url: str = ""
    transport: Transport = "auto"
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    title: str = ""
    description: str = ""
    service: str = ""
    stateless: bool = False
    retry_safe: bool | tuple[str, ...] = False
    labels: Mapping[str, str] = field(default_factory=dict)
    tenant: str = ""
    teams: tuple[str, ...] = ()
    scopes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    tools_allow: tuple[str, ...] = ()
    tools_block: tuple[str, ...] = ()
    start_timeout_s: float = 30.0
    call_timeout_s: float = 300.0
    probe_every_s: float = 15.0
    concurrency: int = 64
    message_bytes_max: int = 64 * 1024 * 1024
    sessions: Sharing = "principal"
    sessions_max: int = 16
    session_idle_s: float = 300.0
    ask_timeout_s: float = 600.0
    survey: bool = False
    limits: Mapping[str, int] = field(default_factory=dict)
    credentials: UpstreamCredentials | None = field(default=None, repr=False, compare=False)
    outbound: Outbound | None = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        check_server_name(self.name)
        where = f"server {self.name!r}"
        if bool(self.command) == bool(self.url):
            raise Invalid(f"{where}: give either 'command' or 'url', and not both")
        if isinstance(self.command, str):
            raise Invalid(f"{where}: 'command' is one string; write it as a list of arguments")
        if self.command and not self.command[0]:
            raise Invalid(f"{where}: the first item of 'command' is empty; it names the program to run")
        if self.url:
            self._check_url(where)
        for name in _ABOVE_ZERO:
            if not getattr(self, name) > 0:
                raise Invalid(f"{where}: {name!r} is {getattr(self, name)}; it must be above zero")
        if self.sessions_max < 0:
            raise Invalid(f"{where}: 'sessions_max' is {self.sessions_max}; it must be zero or above")
        for name, limit in self.limits.items():
            if name not in LIMITS or limit <= 0:
                raise Invalid(f"{where}: 'limits' takes {', '.join(LIMITS)}, each above zero; not {name}: {limit}")
        if self.limits and not self.command:
            raise Invalid(f"{where}: 'limits' are for a 'command'; a server at a 'url' is not this node's process")

    def _check_url(self, where: str) -> None:
        parts = urlsplit(self.url)
        if parts.scheme not in _SCHEMES or not parts.hostname:
            raise Invalid(f"{where}: 'url' must read http(s)://HOST[:PORT]/PATH or ws(s)://HOST[:PORT]/PATH")
        if parts.username or parts.password:
            raise Invalid(f"{where}: 'url' holds credentials; put them into 'headers' instead")
        for key, value in self.headers.items():
            if not key or any(c in key + value for c in "\r\n\0"):
                raise Invalid(f"{where}: header {key!r} is empty or holds a line break")

    @property
    def where(self) -> str:
        """For messages: the program, or the address without its query (which may hold a secret)."""
        if self.command:
            return f"command {self.command[0]!r}"
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.netloc}{parts.path}"
