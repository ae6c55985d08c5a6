"""A mesh's own certificate authority: one key in a directory, from which nodes get their certificates.

Layout of the directory: `ca.pem` (given to every node) and `ca-key.pem` (0600; needed only to issue). Keys are
EC P-256. A node's certificate carries its id twice (SPIFFE X509-SVID §2 for the URI; the DNS name because gRPC's
dialling side verifies names only) and its roles as the organisational units of its subject.
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from proto.errors import Conflict, Invalid
from proto.names import NodeId, check_trust_domain

CA_FILE = "ca.pem"
CA_KEY_FILE = "ca-key.pem"
CA_DAYS = 3650
BACKDATE = timedelta(minutes=5)
"""Certificates begin this much before now: the clocks of nodes differ."""
ROLES = frozenset({"authority", "relay"})
_COMMON_NAME_MAX = 64


class IssuedFiles(NamedTuple):
    """Paths of PEM files; `ca` is a copy beside the other two, so that one directory equips a node."""

    ca: Path
    cert: Path
    key: Path


def init_ca(directory: Path, trust_domain: str) -> None:
    """Make a CA for one trust domain, valid for ten years.

    Its name constraints hold it to that domain: whoever gets hold of its key cannot vouch for other names.
    Raises `Conflict` if the directory holds a CA already, `Invalid` for a bad trust domain.
    """
    check_trust_domain(trust_domain)
    cert_file, key_file = directory / CA_FILE, directory / CA_KEY_FILE
    for file in (cert_file, key_file):
        if file.exists():
            raise Conflict(f"{file} exists already: choose another directory, or remove it to begin a new mesh")
    directory.mkdir(parents=True, exist_ok=True)
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "toolmesh"),
            x509.NameAttribute(NameOID.COMMON_NAME, f"{trust_domain} mesh CA"[:_COMMON_NAME_MAX]),
        ]
    )
    now = datetime.now(UTC)
    cert = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATE)
        .not_valid_after(now + timedelta(days=CA_DAYS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(ca=True), critical=True)
        .add_extension(
            # Not critical: TLS stacks that cannot judge URI constraints must still accept the chain.
            x509.NameConstraints(
                permitted_subtrees=[x509.UniformResourceIdentifier(trust_domain)], excluded_subtrees=None
            ),
            critical=False,
        )
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    _write(key_file, _pem_of_key(key), 0o600)
    _write(cert_file, cert.public_bytes(serialization.Encoding.PEM), 0o644)


def issue(
    directory: Path, node: NodeId, out: Path, *, hosts: Sequence[str] = (), days: int = 365, roles: Sequence[str] = ()
) -> IssuedFiles:
    """A key and a certificate for one node, in `out` as `ca.pem`, `NODE.pem` and `NODE-key.pem` (0600).

    `hosts` are further names and IP addresses under which it may be dialled. Files of an earlier issue are
    replaced. Raises `Invalid` if there is no usable CA in `directory`, the node is of another trust domain
    than the CA, or a host or role is malformed.
    """
    ca_cert, ca_key = _load_ca(directory)
    _check_domain(ca_cert, node, directory)
    unknown = set(roles) - ROLES
    if unknown:
        raise Invalid(f"role {sorted(unknown)[0]!r} is not known: use {' or '.join(sorted(ROLES))}")
    if days < 1:
        raise Invalid(f"days is {days}: a certificate is valid for at least 1 day")
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.now(UTC)
    subject = [x509.NameAttribute(NameOID.COMMON_NAME, node.name)]
    subject += [x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, role) for role in sorted(set(roles))]
    cert = (
        x509.CertificateBuilder()
        .subject_name(x509.Name(subject))
        .issuer_name(ca_cert.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATE)
        .not_valid_after(min(now + timedelta(days=days), ca_cert.not_valid_after_utc))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(ca=False), critical=True)
        .add_extension(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False
        )
        .add_extension(
            x509.SubjectAlternativeName(
                [x509.UniformResourceIdentifier(node.uri), x509.DNSName(node.dns), *map(_host_name, hosts)]
            ),
            critical=False,
        )
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    out.mkdir(parents=True, exist_ok=True)
    files = IssuedFiles(out / CA_FILE, out / f"{node.name}.pem", out / f"{node.name}-key.pem")
    _write(files.key, _pem_of_key(key), 0o600)
    _write(files.cert, cert.public_bytes(serialization.Encoding.PEM), 0o644)
    if out.resolve() != directory.resolve():
        _write(files.ca, ca_cert.public_bytes(serialization.Encoding.PEM), 0o644)
    return files


def roles_of(cert: x509.Certificate) -> frozenset[str]:
    """The roles that a node's certificate carries; unknown ones are left out."""
    units = cert.subject.get_attributes_for_oid(NameOID.ORGANIZATIONAL_UNIT_NAME)
    return frozenset(str(u.value) for u in units) & ROLES


def _load_ca(directory: Path) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    cert_file, key_file = directory / CA_FILE, directory / CA_KEY_FILE
    for file in (cert_file, key_file):
        if not file.is_file():
            raise Invalid(f"{file} is missing: make a CA there first")
    try:
        cert = x509.load_pem_x509_certificate(cert_file.read_bytes())
        key = serialization.load_pem_private_key(key_file.read_bytes(), password=None)
    except (ValueError, TypeError, OSError) as e:
        raise Invalid(f"the CA in {directory} cannot be read: {e}") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != cert.public_key():
        raise Invalid(f"{key_file} is not the key of {cert_file}: restore the pair, or make a new CA")
    if cert.not_valid_after_utc <= datetime.now(UTC):
        raise Invalid(f"{cert_file} expired on {cert.not_valid_after_utc:%Y-%m-%d}: make a new CA")
    return cert, key


def _check_domain(ca_cert: x509.Certificate, node: NodeId, directory: Path) -> None:
    try:
        constraints = ca_cert.extensions.get_extension_for_class(x509.NameConstraints).value
    except x509.ExtensionNotFound:
        return  # a CA made elsewhere may do without; the dialled side still checks the trust domain
    uris = [s.value for s in constraints.permitted_subtrees or () if isinstance(s, x509.UniformResourceIdentifier)]
    if uris and node.trust_domain not in uris:
        raise Invalid(
            f"node {node.uri} is of trust domain {node.trust_domain!r}, but the CA in {directory} is for "
            f"{uris[0]!r}: issue from that domain's own CA"
        )


def _host_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        pass  # no address: a name
    try:
        return x509.DNSName(host)
    except ValueError as e:
        raise Invalid(f"host {host!r} is neither an IP address nor a DNS name: {e}") from None


def _key_usage(*, ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not ca,
        key_cert_sign=ca,
        crl_sign=ca,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _pem_of_key(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _write(file: Path, data: bytes, mode: int) -> None:
    # Through a new file that was never readable by others, renamed into place: no moment of half a key.
    fresh = file.with_name(file.name + ".new")
    fresh.unlink(missing_ok=True)
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as f:
        f.write(data)
    fresh.replace(file)
