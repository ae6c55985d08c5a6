"""Callers that TLS has proved by a client certificate: which of its names says who that is."""

from __future__ import annotations

import fnmatch
import hashlib
import re
from collections.abc import Iterator, Sequence
from functools import lru_cache

from cryptography import x509
from cryptography.x509.oid import NameOID

from node.settings.people import CertificateConfig
from proto.records import Principal

NAME_CHARACTERS_MAX = 255


class Certificates:
    """What the entries of `auth.certificates` make of a certificate; its chain and its dates TLS has checked."""

    def __init__(self, entries: Sequence[CertificateConfig], mesh: str) -> None:
        self._mesh = mesh
        self._entries = [(re.compile(fnmatch.translate(entry.subject)), entry) for entry in entries]
        self._found = lru_cache(maxsize=1_000)(self._read)

    def __repr__(self) -> str:
        return f"Certificates({len(self._entries)} entries)"

    def __bool__(self) -> bool:
        return bool(self._entries)

    def find(self, der: bytes) -> Principal | None:
        """None where no entry takes one of its names. The end of the certificate is the principal's."""
        return self._found(der) if self._entries else None

    def _read(self, der: bytes) -> Principal | None:
        try:
            certificate = x509.load_der_x509_certificate(der)
            names = list(_names(certificate))
        except ValueError:
            return None
        for name in names:
            for pattern, entry in self._entries:
                if pattern.fullmatch(name):
                    return Principal(
                        name,
                        self._mesh,
                        entry.tenant,
                        entry.groups,
                        entry.scopes,
                        entry.kind,
                        credential=f"cert/{certificate.serial_number:x}",
                        expires_s=int(certificate.not_valid_after_utc.timestamp()),
                    )
        return None


def thumbprint(der: bytes) -> bytes:
    """SHA-256 over the DER, 32 bytes: what a token that is bound to the certificate names (RFC 8705 §3.1)."""
    return hashlib.sha256(der).digest()


def _names(certificate: x509.Certificate) -> Iterator[str]:
    """Most particular first. A name that could be read in two ways is none."""
    try:
        other = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        other = None
    found: list[tuple[str, str]] = []
    if other is not None:
        found += [("uri", name) for name in other.get_values_for_type(x509.UniformResourceIdentifier)]
        found += [("dns", name.lower()) for name in other.get_values_for_type(x509.DNSName)]
    common = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    if len(common) == 1 and isinstance(common[0].value, str):
        found.append(("cn", common[0].value))
    for kind, name in found:
        if 0 < len(name) <= NAME_CHARACTERS_MAX and name.isprintable() and name == name.strip():
            yield f"{kind}:{name}"
