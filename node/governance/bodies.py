"""The bodies of what is laid down: JSON objects with exactly these fields, as operators send and authorities publish.

A record names its kind and id; what the id is stands beside each body. A body that a newer release wrote with fields
unknown here cannot be honoured, and counts for what it would deny: see `Broken`.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from node.guard.governed import Held, KeyRecord, PolicyRule, Revoked, Tenant
from proto import jsons
from proto.errors import Invalid
from proto.names import check_node_name, check_server_name
from proto.records import Kind, Record, RecordKey

POLICY_BYTES_MAX = 64 * 1024
PROBLEMS_SHOWN = 5
BY_CHARACTERS_MAX = 256


def _network(value: str) -> str:
    try:
        return str(ipaddress.ip_network(value, strict=False))
    except ValueError:
        raise ValueError(f"{value!r} is no address or network; write it like 10.0.0.0/8 or 2001:db8::/32") from None


def _small(value: str) -> str:
    if len(value.encode("utf-8", "surrogatepass")) > POLICY_BYTES_MAX:
        raise ValueError(f"is larger than {POLICY_BYTES_MAX} bytes; split it into several policies")
    return value


def _name_of_node(value: str) -> str:
    try:
        return check_node_name(value) if value else value
    except Invalid as e:
        raise ValueError(e.message) from None


Name = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9._@-]+$")]
"""Of a key, a policy, a tenant."""
Word = Annotated[str, Field(min_length=1, max_length=128, pattern=r"^[\x21\x23-\x5b\x5d-\x7e]+$")]
"""A scope (RFC 6749 §3.3) or a group."""
Glob = Annotated[str, Field(min_length=1, max_length=200)]
Network = Annotated[str, Field(max_length=64), AfterValidator(_network)]
NodeName = Annotated[str, AfterValidator(_name_of_node)]
Text = Annotated[str, Field(max_length=500)]
Credential = Annotated[str, Field(max_length=1_024, pattern=r"^(key|user|token|jti|cert|subject)/[^\x00-\x1f\x7f]+$")]


class Body(BaseModel):
    """`by` is the subject that laid it down, `at` when (unix seconds)."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, hide_input_in_errors=True)


class Authored(Body):
    by: Annotated[str, Field(max_length=BY_CHARACTERS_MAX)] = ""
    at: Annotated[int, Field(ge=0, le=1 << 53)] = 0


class KeyBody(Authored):
    """KEY, id: the key's name. `sha256` in hex; `expires_s` in unix seconds, 0: never."""

    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$", repr=False)]
    tenant: Name | Literal[""] = ""
    groups: Annotated[tuple[Word, ...], Field(max_length=100)] = ()
    scopes: Annotated[tuple[Word, ...], Field(max_length=100)] = ()
    servers: Annotated[tuple[Glob, ...], Field(max_length=200)] = ("*",)
    expires_s: Annotated[int, Field(ge=0, le=1 << 53)] = 0
    addresses: Annotated[tuple[Network, ...], Field(max_length=100)] = ()


class PolicyBody(Authored):
    """POLICY, id: its name. `text` in Cedar."""

    text: Annotated[str, Field(min_length=1), AfterValidator(_small)]
    mode: Literal["enforce", "shadow"] = "enforce"


class TenantBody(Authored):
    """TENANT, id: its name."""

    title: Annotated[str, Field(max_length=200)] = ""
    addresses: Annotated[tuple[Network, ...], Field(max_length=100)] = ()


class HeldEntry(Authored):
    """`tool` empty: the whole server; `owner` empty: wherever it is."""

    tool: Annotated[str, Field(max_length=2_048)] = ""
    owner: NodeName = ""
    reason: Text = ""


class HeldBody(Body):
    """QUARANTINE, id: the server's bare name."""

    held: Annotated[tuple[HeldEntry, ...], Field(min_length=1, max_length=5_000)]


class RevokedBody(Authored):
    """REVOCATION, id: the credential, see `Revoked`."""

    reason: Text = ""


BODIES: Mapping[Kind, type[Body]] = {
    Kind.KEY: KeyBody,
    Kind.POLICY: PolicyBody,
    Kind.TENANT: TenantBody,
    Kind.QUARANTINE: HeldBody,
    Kind.REVOCATION: RevokedBody,
}
"""The kinds that this release honours; records of others govern nothing yet."""


class _Name(BaseModel):
    name: Name


class _Credential(BaseModel):
    credential: Credential


def check_id(kind: Kind, record_id: str) -> str:
    """The id itself. Raises `Invalid`."""
    if kind is Kind.QUARANTINE:
        return check_server_name(record_id)
    try:
        if kind is Kind.REVOCATION:
            return _Credential(credential=record_id).credential
        return _Name(name=record_id).name
    except ValidationError:
        shown = record_id[:80]
    if kind is Kind.REVOCATION:
        raise Invalid(
            f"credential {shown!r} is not valid: write key/NAME, user/NAME, jti/ID, token/DIGEST, cert/SERIAL or "
            "subject/ISSUER|SUBJECT"
        )
    raise Invalid(f"{kind} name {shown!r} is not valid: use letters, digits and . _ @ -, at most 64 of them")


def body_of(kind: Kind, data: Mapping[str, Any]) -> Body:
    """Raises `Invalid` naming each wrong field."""
    return _parsed(BODIES[kind], jsons.dumps(dict(data)))


def record_of(kind: Kind, record_id: str, body: Body) -> Record:
    return Record.of(kind, check_id(kind, record_id), body.model_dump(mode="json", exclude_defaults=True))


@dataclass(frozen=True, slots=True)
class Broken:
    """A record that cannot be honoured, and why."""

    reason: str


Item = KeyRecord | PolicyRule | Tenant | tuple[Held, ...] | Revoked | Broken


def item_of(record: Record, authority: str) -> Item:
    """What a record of this authority (a node's name) says. Never raises."""
    try:
        check_id(record.kind, record.id)
        return _item(record.id, _parsed(BODIES[record.kind], record.body), authority)
    except Invalid as e:
        return Broken(e.message)


def governs(key: RecordKey) -> bool:
    return key.kind in BODIES


def _item(name: str, body: Body, authority: str) -> Item:
    match body:
        case KeyBody():
            return KeyRecord(
                name,
                bytes.fromhex(body.sha256),
                body.tenant,
                body.groups,
                body.scopes,
                body.servers,
                body.expires_s,
                body.addresses,
                authority,
            )
        case PolicyBody():
            return PolicyRule(name, body.text, body.mode, authority)
        case TenantBody():
            return Tenant(name, body.title, body.addresses, authority)
        case HeldBody():
            return tuple(Held(name, h.tool, h.owner, h.reason, h.by, h.at, authority) for h in body.held)
        case RevokedBody():
            return Revoked(name, body.at, authority, body.reason, body.by)
    raise AssertionError(body)


def _parsed(model: type[Body], raw: bytes) -> Body:
    try:
        return model.model_validate_json(raw)
    except ValidationError as e:
        raise Invalid("; ".join(map(_problem, e.errors(include_url=False)[:PROBLEMS_SHOWN]))) from None


def _problem(error: Mapping[str, Any]) -> str:
    field = ".".join(map(str, error["loc"])) or "the body"
    if error["type"] == "extra_forbidden":
        return f"{field!r} is not known here; leave it out"
    if error["type"] == "missing":
        return f"{field!r} is missing"
    message = str(error["msg"]).removeprefix("Value error, ")
    return f"{field!r}: {message[:1].lower()}{message[1:]}"
