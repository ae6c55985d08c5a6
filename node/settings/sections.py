"""The sections of a configuration, servers and keys apart. Defaults are in docs/operations.md, tested equal."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field

from federation.etcd.settings import ENDPOINTS_MAX, Endpoint
from node.settings.doors import AddressesSection, HostName, NetworkTexts
from node.settings.endpoint import Adapter, EndpointSection
from node.settings.issuers import protected_url
from node.settings.values import (
    Dialable,
    FilePath,
    HostPort,
    NodeName,
    OptionalHostPort,
    Region,
    Secret,
    Section,
    TrustDomain,
    Zone,
    split_host_port,
)
from node.settings.vectors import StoreSection
from proto.errors import Invalid


class NodeSection(Section):
    """Who this node is. `mesh` is the trust domain that its certificate must name.

    `drain_s`: so long may running calls take to end when it is told to stop. The rest of a stop takes a few seconds
    more, and Kubernetes kills after 30, so the default leaves ten.
    """

    name: NodeName = "local"
    region: Region = "local"
    zone: Zone = ""
    mesh: TrustDomain = "toolmesh.local"
    data_dir: FilePath = Path("data")
    drain_s: Annotated[float, Field(ge=0, le=3_600)] = 20


class HttpTls(Section):
    """PEM files of the listener that agents dial.

    With `client_ca` a client may show a certificate of these authorities, or must (`required`); what it proves is said
    in `auth.certificates`.
    """

    cert: FilePath
    key: FilePath
    client_ca: FilePath | None = None
    client_certificates: Literal["optional", "required"] = "optional"


def _public_url(value: str) -> str:
    return protected_url(value).rstrip("/") if value else value


def _origin(value: str) -> str:
    try:
        parts = urlsplit(value)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        good = False
    if not good or parts.path or parts.query or parts.fragment or parts.username:
        raise ValueError(f"{value!r} is not an origin; write scheme, host and port only, like https://chat.example.org")
    return value.lower()


Origin = Annotated[str, AfterValidator(_origin)]


class HttpSection(Section):
    """The listener that agents and operators dial.

    `public_url`: the URL by which clients reach it, where that is another than `listen` says: what tokens are for.
    `allowed_hosts`: names that it is called by, besides its own. `addresses`: who may come, by network.
    `trusted_proxies`: networks whose word counts about whom a request comes from (X-Forwarded-For, Forwarded).
    """

    listen: HostPort = "127.0.0.1:7400"
    public_url: Annotated[str, AfterValidator(_public_url)] = ""
    tls: HttpTls | None = None
    allowed_origins: tuple[Origin, ...] = ()
    allowed_hosts: tuple[HostName, ...] = Field(default=(), max_length=1_000)
    addresses: AddressesSection = AddressesSection()
    trusted_proxies: NetworkTexts = ()
    connections_max: int = Field(default=16_384, ge=1, le=1_000_000)
    connections_per_address_max: int = Field(default=1_024, ge=1, le=1_000_000)
    body_bytes_max: int = Field(default=4 * 1024 * 1024, ge=1_024, le=256 * 1024 * 1024)
    page_items: int = Field(default=1_000, ge=1, le=10_000)
    start_wait_s: float = Field(default=10, ge=0, le=300)
    sessions_max: int = Field(default=10_000, ge=1, le=1_000_000)
    session_idle_s: float = Field(default=1_800, ge=1, le=7 * 86_400)
    parked_s: float = Field(default=300, ge=1, le=86_400)
    parked_max: int = Field(default=1_000, ge=1, le=100_000)
    session_events_max: int = Field(default=256, ge=1, le=100_000)
    session_events_bytes_max: int = Field(default=4 * 1024 * 1024, ge=1_024, le=1024 * 1024 * 1024)
    events_bytes_max: int = Field(default=256 * 1024 * 1024, ge=1_024, le=64 * 1024 * 1024 * 1024)
    insecure_beyond_loopback: bool = False

    @property
    def host(self) -> str:
        return split_host_port(self.listen)[0]

    @property
    def port(self) -> int:
        return split_host_port(self.listen)[1]


class MeshTlsFiles(Section):
    """PEM files: the mesh's CA, this node's certificate and its key. 'toolmesh ca' makes all three."""

    ca: FilePath
    cert: FilePath
    key: FilePath


def _ip_address(value: str) -> str:
    try:
        ipaddress.ip_address(value)
    except ValueError:
        raise ValueError(f"{value!r} is not an IP address of one of this machine's interfaces") from None
    return value


class MdnsSection(Section):
    """Multicast DNS: a hint where peers are. `interface` is the IP address of the interface to use."""

    enabled: bool = True
    interface: Annotated[str, AfterValidator(_ip_address)] = "127.0.0.1"


def _etcd_endpoint(value: str) -> str:
    try:
        return str(Endpoint.parse(value))
    except Invalid as e:
        raise ValueError(e.message) from None


class EtcdTlsFiles(Section):
    """PEM files: the CA of etcd's certificates, and this node's own pair where etcd demands one (both or neither)."""

    ca: FilePath
    cert: FilePath | None = None
    key: FilePath | None = None


class EtcdSection(Section):
    """An etcd cluster that holds the nodes' addresses: on if `endpoints` are given. `lease_s` is in seconds.

    `insecure` allows http:// beyond loopback, where anybody on the way may read the password and misdirect nodes.
    """

    endpoints: tuple[Annotated[str, AfterValidator(_etcd_endpoint)], ...] = Field(default=(), max_length=ENDPOINTS_MAX)
    tls: EtcdTlsFiles | None = None
    username: str = Field(default="", max_length=200)
    password: Secret | None = None
    prefix: str = Field(default="", max_length=200, pattern=r"^(/[A-Za-z0-9._-]+)*$")
    lease_s: int = Field(default=15, ge=5, le=3_600)
    insecure: bool = False

    @property
    def enabled(self) -> bool:
        return bool(self.endpoints)

    def parsed(self) -> tuple[Endpoint, ...]:
        return tuple(map(Endpoint.parse, self.endpoints))


class FederationSection(Section):
    """The listener that other nodes dial: on if, and only if, `tls` is given.

    `mesh_keys` are files, the same at every node: the first one's key seals what clients bring back, both open it.
    """

    listen: HostPort = "127.0.0.1:7401"
    advertise: OptionalHostPort = ""
    tls: MeshTlsFiles | None = None
    mesh_keys: tuple[FilePath, ...] = Field(default=(), max_length=2)
    static: tuple[Dialable, ...] = Field(default=(), max_length=1_000)
    mdns: MdnsSection = MdnsSection()
    etcd: EtcdSection = EtcdSection()

    @property
    def enabled(self) -> bool:
        return self.tls is not None

    @property
    def host(self) -> str:
        return split_host_port(self.listen)[0]

    @property
    def advertised(self) -> str:
        """`host:port` that peers are told; its port is 0 where `listen` leaves the choice to the system."""
        return self.advertise or self.listen


class SearchSection(Section):
    """`embedder`: minilm, none (words only), http (asks `endpoint`), or the name or path of a sentence-transformers
    model (extra `models`). `adapter` and `precision` are for minilm, `device` and `batch_size` for such a model.

    `store`: where vectors are kept; `share_vectors`: with the other nodes of the mesh, so that each text is embedded
    once.

    What agents see of it: `top_k` hits in `token_budget` tokens for every five, tools under `aliases` too, and with
    `read_only_tool` one that runs only what servers matching `believe_hints` call read-only.

    `feedback`: learn from the calls that follow searches. `feedback_strength` is what one unit of likeness to a past
    query adds, in z-scores (a quarter unit at most counts); a vote is halved in `feedback_half_life_days`.
    """

    embedder: str = Field(default="minilm", min_length=1, max_length=400)
    adapter: Adapter = True
    precision: Literal["int8", "float32"] = "int8"
    device: str = Field(default="cpu", pattern=r"^[a-z]+(:[0-9]+)?$", max_length=40)
    batch_size: int = Field(default=16, ge=1, le=1_024)
    endpoint: EndpointSection = EndpointSection()
    top_k: int = Field(default=5, ge=1, le=50)
    token_budget: int = Field(default=600, ge=100, le=100_000)
    aliases: tuple[Literal["docker", "toolhive"], ...] = ()
    read_only_tool: bool = False
    believe_hints: tuple[Annotated[str, Field(min_length=1, max_length=200)], ...] = Field(default=(), max_length=1_000)
    store: StoreSection = StoreSection()
    share_vectors: bool = True
    feedback: bool = True
    feedback_strength: float = Field(default=6, gt=0, le=12)
    feedback_half_life_days: float = Field(default=30, ge=1, le=3_650)


class LogSection(Section):
    level: Literal["debug", "info", "warning", "error"] = "info"
    # `json` is a method of pydantic's models.
    as_json: bool = Field(default=False, alias="json")
