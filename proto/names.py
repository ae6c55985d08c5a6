"""Names: of nodes, servers and tools, and how each is written where it is shown.

Everything here is pure and total: a bad name raises `Invalid` with the rule it breaks.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

from proto.errors import Invalid

_LABEL = r"[a-z0-9]+(?:-[a-z0-9]+)*"
_LABEL_RE = re.compile(_LABEL)
_DOMAIN_RE = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")
_SPIFFE_RE = re.compile(rf"spiffe://({_DOMAIN_RE.pattern})/region/({_LABEL})/node/({_LABEL})")

NODE_NAME_MAX = 32
SERVER_NAME_MAX = 40
TRUST_DOMAIN_MAX = 128
LISTED_TOOL_MAX = 64
RECORD_ID_MAX = 4096
"""Characters of a record's id: SERVER/NAME, where a resource's name is its URI."""
_DNS_LABEL_MAX = 63

_RULE = "lower-case letters and digits in groups joined by single hyphens"


def _check(value: str, what: str, limit: int, pattern: re.Pattern[str] = _LABEL_RE) -> str:
    if len(value) > limit:
        raise Invalid(f"{what} {value[:limit]!r}… is {len(value)} characters long; at most {limit} are allowed")
    if not pattern.fullmatch(value):
        raise Invalid(f"{what} {value!r} is not valid: use {_RULE}, such as 'eu-1'")
    return value


def check_node_name(value: str) -> str:
    """The value itself, or `Invalid`."""
    return _check(value, "node name", NODE_NAME_MAX)


def check_region(value: str) -> str:
    return _check(value, "region", NODE_NAME_MAX)


def check_trust_domain(value: str) -> str:
    _check(value, "trust domain", TRUST_DOMAIN_MAX, _DOMAIN_RE)
    for label in value.split("."):
        if len(label) > _DNS_LABEL_MAX:
            raise Invalid(
                f"trust domain {value!r}: {label!r} is longer than the {_DNS_LABEL_MAX} letters of a DNS label"
            )
    return value


def check_server_name(value: str) -> str:
    return _check(value, "server name", SERVER_NAME_MAX)


@dataclass(frozen=True, slots=True, order=True)
class NodeId:
    """Who a node is: proved by its certificate, never taken from a message."""

    trust_domain: str
    region: str
    name: str

    @property
    def uri(self) -> str:
        """The URI SAN (SPIFFE-ID §2): what the answering side of TLS reads."""
        return f"spiffe://{self.trust_domain}/region/{self.region}/node/{self.name}"

    @property
    def dns(self) -> str:
        """The DNS SAN: what the dialling side of gRPC pins, since it verifies names only."""
        return f"{self.name}.{self.region}.{self.trust_domain}"

    def __str__(self) -> str:
        return self.name

    @classmethod
    def of(cls, trust_domain: str, region: str, name: str) -> NodeId:
        return cls(check_trust_domain(trust_domain), check_region(region), check_node_name(name))

    @classmethod
    def parse(cls, uri: str) -> NodeId:
        """From the URI form; `Invalid` for anything else."""
        m = _SPIFFE_RE.fullmatch(uri)
        if m is None:
            raise Invalid(f"{uri[:200]!r} is not a node id; it reads spiffe://TRUST-DOMAIN/region/REGION/node/NODE")
        return cls.of(m[1], m[2], m[3])


def qualified(server: str, node: str) -> str:
    """`NAME--NODE`: one server on one node, whatever else bears its name."""
    return f"{server}--{node}"


def split_qualified(name: str) -> tuple[str, str | None]:
    """(server, node), or (server, None) for a bare name. Server and node names hold no double hyphen."""
    server, sep, node = name.partition("--")
    check_server_name(server)
    if not sep:
        return server, None
    return server, check_node_name(node)


def listed_tool(server: str, tool: str) -> str:
    """`SERVER__TOOL` for aggregated lists: within `[A-Za-z0-9_-]{1,64}`, unique by a hash where it had to change.

    The first `__` splits (server names hold no underscore). A name that is too long, or holds characters that
    agents' model APIs refuse, is rewritten and ends in `_` + 8 hex digits of the full name's hash.
    """
    full = f"{server}__{tool}"
    safe = re.sub(r"[^A-Za-z0-9_-]", "_", full)
    if safe == full and len(full) <= LISTED_TOOL_MAX:
        return full
    tag = hashlib.sha256(full.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return f"{safe[: LISTED_TOOL_MAX - 9]}_{tag}"


def member_id(server: str, name: str) -> str:
    """Record id of something a server offers (tool, prompt, resource, template): `SERVER/NAME`."""
    return f"{server}/{name}"


def split_member(record_id: str) -> tuple[str, str]:
    """(server, name): the first slash splits, since server names hold none."""
    server, sep, name = record_id.partition("/")
    if not sep or not name:
        raise Invalid(f"record id {record_id!r} lacks its second part; it reads SERVER/NAME")
    return server, name
