"""The PEM files for TLS to etcd, looked at before they are used: gRPC says no more than that a handshake failed."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from federation.etcd.settings import EtcdFiles
from proto.errors import Invalid


def load_files(ca: Path, cert: Path | None = None, key: Path | None = None) -> EtcdFiles:
    """Raises `Invalid` that names the file and the mend: unreadable, no PEM, expired, or no pair."""
    authorities = _certificates(_read(ca, "ca"), ca)
    if not any(_problem(authority) == "" for authority in authorities):
        raise Invalid(f"{ca} {_problem(authorities[0])}; give the CA of etcd's certificates")
    if cert is None or key is None:
        return EtcdFiles(_read(ca, "ca"))
    files = EtcdFiles(_read(ca, "ca"), _read(cert, "cert"), _read(key, "key"))
    own = _certificates(files.cert, cert)[0]
    if why := _problem(own):
        raise Invalid(f"{cert} {why}; give one that etcd accepts now")
    try:
        private = load_pem_private_key(files.key, password=None)
    except (ValueError, TypeError) as e:
        raise Invalid(f"{key} is not an unencrypted PEM private key: {e}") from None
    if private.public_key() != own.public_key():
        raise Invalid(f"{key} is not the key of {cert}: give the two files that were issued together")
    return files


def expires_at(files: EtcdFiles) -> datetime | None:
    """When our own certificate ends, in UTC; None without one."""
    return x509.load_pem_x509_certificates(files.cert)[0].not_valid_after_utc if files.cert else None


def _read(file: Path, what: str) -> bytes:
    try:
        return file.read_bytes()
    except OSError as e:
        raise Invalid(f"{what} {file} cannot be read ({e.strerror}): give the path of a PEM file") from None


def _certificates(pem: bytes, file: Path) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(pem)
    except ValueError as e:
        raise Invalid(f"{file} is not a PEM certificate: {e}") from None


def _problem(cert: x509.Certificate) -> str:
    now = datetime.now(UTC)
    if cert.not_valid_after_utc <= now:
        return f"expired at {cert.not_valid_after_utc:%Y-%m-%d %H:%M} UTC"
    if cert.not_valid_before_utc > now:
        return f"is valid only from {cert.not_valid_before_utc:%Y-%m-%d %H:%M} UTC"
    return ""
