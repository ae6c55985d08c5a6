"""Mutual TLS between nodes: who we are, who dials us, and whom we dialled.

The answering side reads the caller's URI SAN. The dialling side of gRPC verifies names only and is told no
identity, so it pins the DNS SAN that encodes the expected id (`NodeId.dns`); where the id is not known yet,
`learn_identity` asks with one plain handshake. Either way the id comes from a certificate of the mesh's CA.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Protocol

import grpc
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from federation.ca import roles_of
from federation.credentials import (
    Credentials,
    identity_of,
    issued_by,
    one_identity,
    parse_chain,
    vouch,
)
from federation.refusals import Reason
from proto.errors import Invalid, Unauthenticated, Unavailable
from proto.names import NodeId

MESSAGE_BYTES_MAX = 16 * 1024 * 1024
"""Of one gRPC message, either way: far above a snapshot part or a chunk, far below what could hurt."""

KEEPALIVE_MS = 5_000
KEEPALIVE_TIMEOUT_MS = 3_000
CONNECTIONS_MAX = 4_096
"""At the listener, handshakes included; one more is closed at once, and those that are there stay. A peer needs one."""
STREAMS_MAX = 100
"""Of one connection; a peer that opens more waits for one to end. It needs a handful."""
METADATA_BYTES_MAX = 16 * 1024
RECONNECT_MIN_MS = 3_000
"""Between two attempts to connect, and also the time that gRPC gives one attempt: 100 ms never connects."""
RECONNECT_MAX_MS = 3_000


HANDSHAKE_MS = 10_000
"""A connection that does not finish its handshake in time is closed; gRPC would wait for two minutes."""

ACCEPT_S = 1.0


@dataclass(frozen=True, slots=True, repr=False)
class MeshTls:
    """One node's certificate, its key and the CA that the mesh trusts, all PEM.

    Raises `Invalid` on construction unless the three fit together and are valid now.
    """

    ca_pem: bytes
    cert_pem: bytes
    key_pem: bytes

    def __post_init__(self) -> None:
        self._check("the CA certificate", "the node certificate", "the node key")

    @classmethod
    def load(cls, ca: Path, cert: Path, key: Path) -> MeshTls:
        """From files. Raises `Invalid` naming the file and the mend."""
        data = []
        for file, what in ((ca, "tls.ca"), (cert, "tls.cert"), (key, "tls.key")):
            try:
                data.append(file.read_bytes())
            except OSError as e:
                raise Invalid(f"{what} {file} cannot be read ({e.strerror}): give the path of a PEM file") from None
        self = cls.__new__(cls)
        for name, value in zip(("ca_pem", "cert_pem", "key_pem"), data, strict=True):
            object.__setattr__(self, name, value)
        self._check(str(ca), str(cert), str(key))
        return self

    def _check(self, ca: str, cert: str, key: str) -> None:
        authorities, (own, *intermediate) = parse_chain(self.ca_pem, ca), parse_chain(self.cert_pem, cert)
        for authority in authorities:
            _check_dates(authority, ca)
        _check_dates(own, cert)
        try:
            private = load_pem_private_key(self.key_pem, password=None)
        except (ValueError, TypeError) as e:
            raise Invalid(f"{key} is not an unencrypted PEM private key: {e}") from None
        if private.public_key() != own.public_key():
            raise Invalid(f"{key} is not the key of {cert}: give the two files that were issued together")
        try:
            identity = identity_of(own)
        except Unauthenticated as e:
            raise Invalid(f"{cert}: {e.message}; issue it for a node of this mesh") from None
        if identity.dns not in _dns_names(own):
            raise Invalid(f"{cert} lacks the DNS name {identity.dns!r} that peers verify: issue it again")
        if not any(issued_by(own, issuer) for issuer in (*authorities, *intermediate)):
            raise Invalid(f"{cert} was not issued by {ca}: give the CA that issued it")

    def __repr__(self) -> str:
        return f"MeshTls({self.identity().uri} until {self.expires_at:%Y-%m-%d})"

    def identity(self) -> NodeId:
        """Who this node is, by its own certificate."""
        return identity_of(self._own())

    @property
    def roles(self) -> frozenset[str]:
        return roles_of(self._own())

    @property
    def expires_at(self) -> datetime:
        """When the certificate ends, in UTC."""
        return self._own().not_valid_after_utc

    def vouch(self, chain: bytes, peer: NodeId) -> Credentials:
        """What our CA says of a peer whom TLS has proved, by the PEM chain it presents. Raises `Unauthenticated`."""
        return vouch(chain, parse_chain(self.ca_pem, "the CA certificate"), peer, datetime.now(UTC))

    def _own(self) -> x509.Certificate:
        return parse_chain(self.cert_pem, "the node certificate")[0]

    def server_credentials(self) -> grpc.ServerCredentials:
        """For the answering side: callers without a certificate of this CA fail in the handshake."""
        return grpc.ssl_server_credentials(
            [(self.key_pem, self.cert_pem)], root_certificates=self.ca_pem, require_client_auth=True
        )

    def channel_credentials(self) -> grpc.ChannelCredentials:
        return grpc.ssl_channel_credentials(self.ca_pem, self.key_pem, self.cert_pem)

    def channel_options(self, expected: NodeId) -> list[tuple[str, Any]]:
        """For dialling one node: whoever answers without its DNS SAN fails in the handshake."""
        return [
            ("grpc.ssl_target_name_override", expected.dns),
            ("grpc.default_authority", expected.dns),
            *_KEEPALIVE,
            ("grpc.min_reconnect_backoff_ms", RECONNECT_MIN_MS),
            ("grpc.initial_reconnect_backoff_ms", 200),
            ("grpc.max_reconnect_backoff_ms", RECONNECT_MAX_MS),
            # A channel of its own per peer and purpose: sharing would tie their flow control together.
            ("grpc.use_local_subchannel_pool", 1),
            ("grpc.enable_http_proxy", 0),
            ("grpc.enable_retries", 0),
            *_SIZES,
        ]

    def server_options(self) -> list[tuple[str, Any]]:
        return [
            *_KEEPALIVE,
            # gRPC servers answer pings more often than each 5 minutes with GOAWAY unless told otherwise.
            ("grpc.http2.min_ping_interval_without_data_ms", KEEPALIVE_MS // 2),
            ("grpc.http2.min_recv_ping_interval_without_data_ms", KEEPALIVE_MS // 2),
            ("grpc.so_reuseport", 0),
            ("grpc.server_handshake_timeout_ms", HANDSHAKE_MS),
            ("grpc.max_allowed_incoming_connections", CONNECTIONS_MAX),
            ("grpc.max_concurrent_streams", STREAMS_MAX),
            ("grpc.max_metadata_size", METADATA_BYTES_MAX),
            *_SIZES,
        ]

    def client_context(self) -> ssl.SSLContext:
        """For a handshake outside gRPC: the chain is verified and our certificate shown, the name is not checked."""
        return _client_context(self.ca_pem, self.cert_pem, self.key_pem)


# One for all handshakes: made anew for each of hundreds of dead addresses, it left the loop no time for the living.
@lru_cache(maxsize=4)
def _client_context(ca_pem: bytes, cert_pem: bytes, key_pem: bytes) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_REQUIRED
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_verify_locations(cadata=ca_pem.decode("ascii"))
    context.set_alpn_protocols(["h2"])
    # `ssl` loads a key from files only; the directory is 0700 and gone again at once.
    with TemporaryDirectory(prefix="toolmesh-") as directory:
        cert, key = Path(directory) / "cert.pem", Path(directory) / "key.pem"
        cert.write_bytes(cert_pem)
        key.write_bytes(key_pem)
        context.load_cert_chain(cert, key)
    return context


_KEEPALIVE: list[tuple[str, Any]] = [
    ("grpc.keepalive_time_ms", KEEPALIVE_MS),
    ("grpc.keepalive_timeout_ms", KEEPALIVE_TIMEOUT_MS),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
]
_SIZES: list[tuple[str, Any]] = [
    ("grpc.max_send_message_length", MESSAGE_BYTES_MAX),
    ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
]


def _check_dates(cert: x509.Certificate, what: str) -> None:
    now = datetime.now(UTC)
    if cert.not_valid_after_utc <= now:
        raise Invalid(f"{what} expired at {cert.not_valid_after_utc:%Y-%m-%d %H:%M} UTC: issue a new one")
    if cert.not_valid_before_utc > now:
        raise Invalid(
            f"{what} is valid only from {cert.not_valid_before_utc:%Y-%m-%d %H:%M} UTC: set this machine's clock"
        )


def _dns_names(cert: x509.Certificate) -> list[str]:
    try:
        names = cert.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    return names.get_values_for_type(x509.DNSName)


class _Context(Protocol):
    def auth_context(self) -> Mapping[str, Iterable[bytes]]: ...


def peer_identity(context: _Context) -> NodeId:
    """Who dialled us, by the certificate that TLS verified. Raises `Unauthenticated`.

    Whether its trust domain is one of ours is for the caller to decide.
    """
    auth = context.auth_context()
    if not auth.get("transport_security_type"):
        raise Unauthenticated("the connection is not protected by TLS")
    return one_identity([uri.decode("utf-8", "replace") for uri in auth.get("peer_uri", ())])


def peer_credentials(context: _Context) -> Credentials:
    """Who dialled us, with its roles and until when its certificate is valid. Raises `Unauthenticated`."""
    peer = peer_identity(context)
    pem = next(iter(context.auth_context().get("x509_pem_cert", ())), b"")
    try:
        credentials = Credentials.of(parse_chain(pem, "the certificate")[0])
    except Invalid as e:
        raise Unauthenticated(e.message) from None
    if credentials.node != peer:
        raise Unauthenticated(f"the certificate names {credentials.node.uri}, not {peer.uri}")
    return credentials


async def learn_identity(address: str, tls: MeshTls, timeout_s: float = 5.0) -> NodeId:
    """Who answers at `host:port`: one TLS handshake, nothing sent after it.

    Raises `Unavailable` if nobody answers in time, `Unauthenticated` if the certificate is not of this mesh's CA
    or holds no node id, or (with `refused="there"`) if ours is not accepted, `Invalid` for a malformed address.
    """
    host, port = split_address(address)
    writer: asyncio.StreamWriter | None = None
    try:
        async with asyncio.timeout(timeout_s):
            reader, writer = await asyncio.open_connection(host, port, ssl=tls.client_context())
        der = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        accepted = await _accepted(reader)
    except ssl.SSLCertVerificationError as e:
        raise Unauthenticated(
            f"{address} shows a certificate that this mesh's CA does not vouch for: {e.verify_message}",
            reason=Reason.CERTIFICATE,
        ) from None
    except ssl.SSLError as e:
        raise Unauthenticated(
            f"{address} does not complete a TLS handshake: {e.reason or e}", reason=Reason.CERTIFICATE
        ) from None
    except TimeoutError:
        raise Unavailable(f"{address} did not answer within {timeout_s:g} s") from None
    except OSError as e:
        raise Unavailable(f"{address} cannot be reached: {e.strerror or e}") from None
    finally:
        if writer is not None:
            # Not closed with a farewell: gRPC answers none before it was spoken to, and that costs a second.
            writer.transport.abort()
            with suppress(OSError):
                await writer.wait_closed()
    try:
        identity = identity_of(x509.load_der_x509_certificate(der))
    except Unauthenticated as e:
        raise Unauthenticated(f"{address}: {e.message}", reason=Reason.IDENTITY) from None
    if not accepted:
        raise Unauthenticated(
            f"{identity.uri} at {address} does not accept the certificate of this node, {tls!r}: was it issued by "
            "the CA that the other side trusts, and do both clocks agree?",
            reason=Reason.CERTIFICATE,
            refused="there",
        )
    return identity


async def _accepted(reader: asyncio.StreamReader) -> bool:
    """Whether our own certificate was taken. In TLS 1.3 the dialling side is through before the other has judged it.

    One that takes it begins to speak HTTP/2 at once, one that does not hangs up (with an alert, or without).
    """
    try:
        async with asyncio.timeout(ACCEPT_S):
            return bool(await reader.read(1))
    except TimeoutError:
        return True  # it waits for us to speak first
    except OSError:
        return False


def split_address(address: str) -> tuple[str, int]:
    """(host, port) of `host:port` or `[v6]:port`. Raises `Invalid`."""
    host, sep, port = address.rpartition(":")
    if not sep or not host or not port.isascii() or not port.isdigit() or not 0 < int(port) < 65536:
        raise Invalid(f"address {address!r} is not valid: it reads host:port, such as 10.0.0.7:7400 or [::1]:7400")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise Invalid(f"address {address!r} is not host:port: an IPv6 host stands in brackets, as in [::1]:7400")
    return host, int(port)
