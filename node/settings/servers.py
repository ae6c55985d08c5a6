"""One MCP server as a configuration describes it, and its translation into what the upstreams' side runs."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field, PlainValidator, SecretStr, field_validator, model_validator

from node.settings.guard import Glob, Scopes, ToolLists, Word
from node.settings.upstream_auth import UpstreamAuth, check_auth
from node.settings.values import FilePath, Seconds, Secret, Section, ServiceName

if TYPE_CHECKING:
    from node.upstreams.spec import UpstreamSpec

OWN_PYTHON = "{python}"
"""In a command: the interpreter that runs this node, wherever it is installed."""

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110 §5.6.2


def _argv(value: Any) -> Any:
    if isinstance(value, str):
        words = ", ".join(value.split())
        raise ValueError(f"must be a list, one item for each argument; no shell splits it. Write [{words}]")
    return value


Argv = Annotated[tuple[str, ...], BeforeValidator(_argv)]


def _retry_safe(value: Any) -> Any:
    if isinstance(value, bool):
        return value
    if value in ("true", "false"):
        # From the environment.
        return value == "true"
    if isinstance(value, list | tuple) and all(isinstance(name, str) and name for name in value):
        return tuple(value)
    raise ValueError("must be true, false, or a list of tool names, like [search, fetch]")


RetrySafe = Annotated[bool | tuple[str, ...], PlainValidator(_retry_safe)]


class ServerConfig(Section):
    """`command` (stdio) or `url` (HTTP or WebSocket), exactly one. `cwd` is the configuration's directory unless given.

    `transport` is for a `url`: `auto` takes Streamable HTTP, or HTTP+SSE where a server has only that; a ws:// address
    is always a WebSocket.

    `headers` go with every request to a `url`, as they are; `auth` gets tokens for it.

    `service` joins declared replicas under one name; `stateless` lets any of them take any call. `retry_safe`: running
    a tool twice does no harm; all of them, or those that are named.

    `tenant` and `teams` say whose it is (empty: everybody's), `tools` which of its tools are offered at all, `scopes`
    what a caller needs for those whose names match a glob.

    `approval`: an entry of the catalogue is brought in once an operator has agreed.

    `sessions`: whose calls may meet in one session with the server, where it needs sessions at all. `survey`: look
    once what it lists for clients that can do everything. `limits` are for a `command`.
    """

    command: Argv = ()
    cwd: FilePath = Path()
    user: str = Field(default="", max_length=64, pattern=r"^([a-z_][a-z0-9_-]*)?$")
    env: dict[str, Secret] = Field(default_factory=dict)
    url: str = ""
    transport: Literal["auto", "http", "sse", "websocket"] = "auto"
    headers: dict[str, Secret] = Field(default_factory=dict)
    auth: UpstreamAuth | None = None
    title: str = Field(default="", max_length=200)
    description: str = Field(default="", max_length=4_000)
    service: ServiceName = ""
    stateless: bool = False
    retry_safe: RetrySafe = False
    labels: dict[str, str] = Field(default_factory=dict, max_length=64)
    tenant: str = Field(default="", max_length=64)
    teams: tuple[Word, ...] = Field(default=(), max_length=64)
    approval: bool = False
    tools: ToolLists | None = None
    scopes: dict[Glob, Scopes] = Field(default_factory=dict, max_length=256)
    start_timeout_s: Seconds = 30
    call_timeout_s: Seconds = 300
    probe_every_s: Seconds = 15
    concurrency: int = Field(default=64, ge=1, le=10_000)
    message_bytes_max: int = Field(default=64 * 1024 * 1024, ge=1_024, le=1024 * 1024 * 1024)
    sessions: Literal["principal", "shared", "session"] = "principal"
    sessions_max: int = Field(default=16, ge=0, le=10_000)
    session_idle_s: Seconds = 300
    ask_timeout_s: Seconds = 600
    survey: bool = True
    limits: dict[Literal["memory_mb", "cpu_s", "open_files"], Annotated[int, Field(ge=1, le=2**31)]] = Field(
        default_factory=dict
    )

    @field_validator("command")
    @classmethod
    def _no_empty_program(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if value and not value[0].strip():
            raise ValueError("its first item is empty; name the program to start")
        if any("\0" in word for word in value):
            raise ValueError("holds a NUL character, which no program can be given")
        return value

    @field_validator("url")
    @classmethod
    def _http_url(cls, value: str) -> str:
        if not value:
            return value
        try:
            parts = urlsplit(value)
            good = parts.scheme in ("http", "https", "ws", "wss") and bool(parts.hostname) and parts.port != 0
        except ValueError:
            good = False
        if not good:
            raise ValueError("is not an http://, https://, ws:// or wss:// address with a host")
        if parts.username or parts.password:
            raise ValueError("holds a user name or password, which status pages would show; use headers instead")
        return value

    @field_validator("env")
    @classmethod
    def _env_names(cls, value: dict[str, SecretStr]) -> dict[str, SecretStr]:
        for name, secret in value.items():
            if not name or "=" in name or "\0" in name + secret.get_secret_value():
                raise ValueError(f"{name!r} cannot be an environment variable: no '=', no NUL, not empty")
        return value

    @field_validator("headers")
    @classmethod
    def _header_fields(cls, value: dict[str, SecretStr]) -> dict[str, SecretStr]:
        for name, secret in value.items():
            if not _TOKEN.fullmatch(name):
                raise ValueError(f"{name!r} is not a header name")
            if any(c in secret.get_secret_value() for c in "\r\n\0"):
                raise ValueError(f"the value of {name!r} holds a line break; headers are one line")
        return value

    @model_validator(mode="after")
    def _one_way_to_reach_it(self) -> ServerConfig:
        if bool(self.command) == bool(self.url):
            found = "both are given" if self.url else "neither is given"
            raise ValueError(f"needs exactly one of 'command' (a program) and 'url' (HTTP or WebSocket); {found}")
        if self.url and self.env:
            raise ValueError("'env' is for a 'command'; a 'url' takes 'headers'")
        if self.command and self.headers:
            raise ValueError("'headers' are for a 'url'; a 'command' takes 'env'")
        if self.url and self.user:
            raise ValueError("'user' is for a 'command'; a server at a 'url' is not a process of this node")
        if self.url and self.limits:
            raise ValueError("'limits' are for a 'command'; a server at a 'url' is not a process of this node")
        if self.command and self.transport != "auto":
            raise ValueError("'transport' is for a 'url'; a 'command' is spoken to over its pipes")
        check_auth(self)
        if self.url.startswith(("ws:", "wss:")) and self.transport not in ("auto", "websocket"):
            raise ValueError(f"'transport' is {self.transport!r}, but a ws:// address can only be a WebSocket")
        return self

    def argv(self) -> tuple[str, ...]:
        """The command with `{python}` replaced by the running interpreter."""
        return tuple(sys.executable if word == OWN_PYTHON else word for word in self.command)

    def to_spec(self, name: str) -> UpstreamSpec:
        """What `node.upstreams` starts or connects to, secrets in the clear."""
        from node.upstreams.spec import UpstreamSpec

        return UpstreamSpec(
            name=name,
            command=self.argv(),
            cwd=str(self.cwd) if self.command else None,
            user=self.user,
            env={k: v.get_secret_value() for k, v in self.env.items()},
            url=self.url,
            transport=self.transport,
            headers={k: v.get_secret_value() for k, v in self.headers.items()},
            title=self.title,
            description=self.description,
            service=self.service,
            stateless=self.stateless,
            retry_safe=self.retry_safe,
            labels=self.labels,
            tenant=self.tenant,
            teams=self.teams,
            scopes=self.scopes,
            tools_allow=self.tools.allow if self.tools else (),
            tools_block=self.tools.block if self.tools else (),
            start_timeout_s=self.start_timeout_s,
            call_timeout_s=self.call_timeout_s,
            probe_every_s=self.probe_every_s,
            concurrency=self.concurrency,
            message_bytes_max=self.message_bytes_max,
            sessions=self.sessions,
            sessions_max=self.sessions_max,
            session_idle_s=self.session_idle_s,
            ask_timeout_s=self.ask_timeout_s,
            survey=self.survey,
            limits={str(name): limit for name, limit in self.limits.items()},
        )
