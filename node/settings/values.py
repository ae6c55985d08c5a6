"""The kinds of value that a configuration is made of, each checked where it stands.

Validators take `{"base": Path, "secrets": StoredSecrets}` as pydantic's context: the directory that relative paths are
read from, and what `{store: NAME}` leads to.
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import SplitResult, urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationInfo,
    field_validator,
)

from proto.errors import Invalid
from proto.names import check_node_name, check_region, check_server_name, check_trust_domain

SECRET_BYTES_MAX = 64 * 1024


class Section(BaseModel):
    """Every section: unknown keys refused, nothing changes after loading, no input echoed in an error."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, validate_default=True, hide_input_in_errors=True, allow_inf_nan=False
    )

    @field_validator("*", mode="before")
    @classmethod
    def _no_flag_for_a_number(cls, value: Any, info: ValidationInfo) -> Any:
        # To Python true is 1, and pydantic agrees.
        if isinstance(value, bool) and cls.model_fields[info.field_name or ""].annotation in (int, float):
            raise ValueError(f"must be a number, not {str(value).lower()}")
        return value


def _named(check: Callable[[str], str], *, may_be_empty: bool = False) -> AfterValidator:
    def validate(value: str) -> str:
        if may_be_empty and not value:
            return value
        try:
            return check(value)
        except Invalid as e:
            raise ValueError(e.message) from None

    return AfterValidator(validate)


NodeName = Annotated[str, _named(check_node_name)]
Region = Annotated[str, _named(check_region)]
Zone = Annotated[str, _named(check_region, may_be_empty=True)]
TrustDomain = Annotated[str, _named(check_trust_domain)]
ServerName = Annotated[str, _named(check_server_name)]
ServiceName = Annotated[str, _named(check_server_name, may_be_empty=True)]


def split_host_port(value: str) -> tuple[str, int]:
    """`host:port` or `[v6]:port` → (host without brackets, port). Raises ValueError with the mend."""
    host, sep, port = value.rpartition(":")
    if not sep or not host or not port.isascii() or not port.isdigit() or int(port) > 65_535:
        raise ValueError(f"{value!r} is not HOST:PORT; write it like 127.0.0.1:7400 or [::1]:7400")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ValueError(f"{value!r} is ambiguous; put the IPv6 address in brackets, like [::1]:7400")
    return host, int(port)


def _host_port(value: str) -> str:
    split_host_port(value)
    return value


def _host_port_or_empty(value: str) -> str:
    return _host_port(value) if value else value


def _dialable(value: str) -> str:
    host, port = split_host_port(value)
    if is_unspecified(host) or port == 0:
        raise ValueError(f"{value!r} cannot be dialled; name a host and a port that other nodes reach")
    return value


HostPort = Annotated[str, AfterValidator(_host_port)]
OptionalHostPort = Annotated[str, AfterValidator(_host_port_or_empty)]
Dialable = Annotated[str, AfterValidator(_dialable)]


def http_url(value: str) -> SplitResult | None:
    """The parts of `http(s)://HOST[:PORT]/PATH`; None for anything else, also with a query or credentials."""
    try:
        parts = urlsplit(value)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return None
    return parts if good and not (parts.query or parts.fragment or parts.username) else None


def is_loopback(host: str) -> bool:
    """Only this machine can reach it: 127.0.0.0/8, ::1 or localhost."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def is_unspecified(host: str) -> bool:
    """0.0.0.0 or ::, fit for listening only."""
    try:
        return ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return False


def base_of(info: ValidationInfo) -> Path:
    context = info.context or {}
    base = context.get("base")
    return base if isinstance(base, Path) else Path.cwd()


def _absolute(value: Path, info: ValidationInfo) -> Path:
    return base_of(info) / value.expanduser()


FilePath = Annotated[Path, AfterValidator(_absolute)]
"""Relative paths are relative to the configuration file."""


def read_secret_file(path: str, info: ValidationInfo) -> str:
    """The text of a file that holds one secret, less a trailing line break. Raises ValueError."""
    full = base_of(info) / Path(path).expanduser()
    try:
        with full.open("rb") as f:
            raw = f.read(SECRET_BYTES_MAX + 1)
        text = raw.decode("utf-8").rstrip("\r\n")
    except OSError as e:
        raise ValueError(f"file {str(full)!r} cannot be read: {e.strerror or e}") from None
    except UnicodeDecodeError:
        raise ValueError(f"file {str(full)!r} is not UTF-8 text") from None
    if len(raw) > SECRET_BYTES_MAX:
        raise ValueError(f"file {str(full)!r} is larger than {SECRET_BYTES_MAX} bytes; a secret is one short text")
    if not text:
        raise ValueError(f"file {str(full)!r} is empty; put the secret into it")
    return text


def read_secret_env(variable: str) -> str:
    """The value of an environment variable that must be set. Raises ValueError."""
    value = os.environ.get(variable, "")
    if not value:
        raise ValueError(f"environment variable {variable} is not set; set it before starting")
    return value


def _resolve(value: Any, info: ValidationInfo) -> Any:
    if isinstance(value, SecretStr | str):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if isinstance(value, dict) and len(value) == 1:
        (how, where), *_ = value.items()
        if how == "file" and isinstance(where, str):
            return read_secret_file(where, info)
        if how == "env" and isinstance(where, str):
            return read_secret_env(where)
        if how == "store" and isinstance(where, str):
            return _stored(where, info)
    raise ValueError("must be text (in quotes), {file: PATH}, {env: VARIABLE} or {store: NAME}")


def _stored(name: str, info: ValidationInfo) -> str:
    found = (info.context or {}).get("secrets")
    if found is None:
        raise ValueError("a secret of the store cannot be used here")
    value: str = found.get(name)
    return value


Secret = Annotated[SecretStr, BeforeValidator(_resolve)]
"""A literal, `{file: PATH}`, `{env: VARIABLE}` or `{store: NAME}`, read once; never shown by repr or in an error."""

Seconds = Annotated[float, Field(gt=0, le=86_400)]
