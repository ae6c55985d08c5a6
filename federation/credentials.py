"""What a certificate of the mesh says of a node: its id, its roles and until when. Proved, or not there at all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.x509.oid import ExtendedKeyUsageOID

from federation.ca import roles_of
from proto.errors import Invalid, Unauthenticated
from proto.names import NodeId

CHAIN_BYTES_MAX = 64 * 1024
"""Of a presented chain, as PEM: a certificate of ours has 800 bytes."""

INTERMEDIATES_MAX = 3


@dataclass(frozen=True, slots=True)
class Credentials:
    """`not_after` is in UTC. Roles are those that this release knows."""

    node: NodeId
    roles: frozenset[str]
    not_after: datetime

    @property
    def authority(self) -> bool:
        """May this node govern?"""
        return "authority" in self.roles

    @classmethod
    def of(cls, cert: x509.Certificate) -> Credentials:
        """Of a certificate that was verified already. Raises `Unauthenticated` unless it names exactly one node."""
        return cls(identity_of(cert), roles_of(cert), cert.not_valid_after_utc)


def parse_chain(pem: bytes, what: str) -> list[x509.Certificate]:
    """At least one certificate, as they stand. Raises `Invalid` naming `what`."""
    # A CA file may hold two while one is being replaced, a node's file the chain up to it.
    try:
        return x509.load_pem_x509_certificates(pem)
    except ValueError as e:
        raise Invalid(f"{what} is not a PEM certificate: {e}") from None


def identity_of(cert: x509.Certificate) -> NodeId:
    """The node id in a certificate whose chain was verified. Raises `Unauthenticated` unless it has exactly one."""
    try:
        names = cert.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return one_identity(())
    return one_identity(names.get_values_for_type(x509.UniformResourceIdentifier))


def one_identity(uris: Sequence[str]) -> NodeId:
    """The node id among URI SANs. Raises `Unauthenticated`."""
    # SPIFFE X509-SVID §2: exactly one URI SAN, or the certificate is rejected.
    if len(uris) != 1:
        raise Unauthenticated(f"the certificate holds {len(uris)} URI names, not exactly one spiffe:// id")
    try:
        return NodeId.parse(uris[0])
    except Invalid as e:
        raise Unauthenticated(f"the certificate's URI name is no node id: {e.message}") from None


def issued_by(cert: x509.Certificate, issuer: x509.Certificate) -> bool:
    """Whether `issuer` signed it; whether it may sign at all is another question."""
    try:
        cert.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def vouch(pem: bytes, authorities: Sequence[x509.Certificate], peer: NodeId, now: datetime) -> Credentials:
    """What the mesh's CA says of `peer`, by a chain that the peer presents: its own certificate first.

    For roles and dates only. TLS has proved beforehand that `peer` answers; this proves that the CA gave these roles
    to that name. Raises `Unauthenticated`, saying why, unless the chain leads to one of `authorities`, is valid at
    `now` and names exactly `peer`.
    """
    if len(pem) > CHAIN_BYTES_MAX:
        raise Unauthenticated(f"the certificate chain has {len(pem)} bytes; at most {CHAIN_BYTES_MAX} are read")
    try:
        own, *intermediates = parse_chain(pem, "what it presents")
        credentials = Credentials.of(own)
        if credentials.node != peer:
            raise Unauthenticated(f"the certificate names {credentials.node.uri}, not {peer.uri}")
        _check_usage(own)
        _check_path(own, intermediates, authorities, now)
    except (ValueError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType) as e:
        raise Unauthenticated(f"the certificate cannot be read: {e}") from None
    except Invalid as e:
        raise Unauthenticated(e.message) from None
    return credentials


def _check_path(
    cert: x509.Certificate, links: Sequence[x509.Certificate], authorities: Sequence[x509.Certificate], now: datetime
) -> None:
    """From the node's certificate up, each signed by the next, the last by a CA of ours.

    Written out, because the verifier of `cryptography` refuses every chain under a CA that is held to a URI name.
    """
    if len(links) > INTERMEDIATES_MAX:
        raise Unauthenticated(f"the chain has {len(links)} intermediate certificates; at most {INTERMEDIATES_MAX}")
    _check_dates(cert, now)
    for below, link in enumerate((*links, None)):
        root = next((a for a in authorities if issued_by(cert, a) and _may_issue(a, below)), None)
        if root is not None:
            _check_dates(root, now)
            return
        if link is None or not (issued_by(cert, link) and _may_issue(link, below)):
            raise Unauthenticated("this mesh's CA did not issue the certificate, nor does its chain lead there")
        _check_dates(link, now)
        cert = link


def _may_issue(cert: x509.Certificate, below: int) -> bool:
    """Whether it is a CA that may stand over a chain with so many intermediates below it."""
    try:
        basic = cert.extensions.get_extension_for_class(x509.BasicConstraints).value
    except x509.ExtensionNotFound:
        return False
    if not basic.ca or (basic.path_length is not None and basic.path_length < below):
        return False
    try:
        return cert.extensions.get_extension_for_class(x509.KeyUsage).value.key_cert_sign
    except x509.ExtensionNotFound:
        return True


def _check_usage(cert: x509.Certificate) -> None:
    try:
        usage = cert.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return
    if ExtendedKeyUsageOID.SERVER_AUTH not in usage:
        raise Unauthenticated("the certificate is not one of a node that answers (extended key usage)")


def _check_dates(cert: x509.Certificate, now: datetime) -> None:
    if cert.not_valid_after_utc <= now:
        raise Unauthenticated(f"the certificate expired at {cert.not_valid_after_utc:%Y-%m-%d %H:%M} UTC")
    if cert.not_valid_before_utc > now:
        raise Unauthenticated(f"the certificate is valid only from {cert.not_valid_before_utc:%Y-%m-%d %H:%M} UTC")
