"""The TLS of the listener that agents dial."""

from __future__ import annotations

import ssl
from pathlib import Path

from cryptography import x509

from node.settings.sections import HttpTls
from proto.errors import Invalid

CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"
"""For TLS 1.2: forward secrecy and authenticated encryption only (RFC 9325 §4.2). Those of TLS 1.3 all are."""


def server_context(files: HttpTls) -> ssl.SSLContext:
    """TLS 1.2 and later. Raises `Invalid` where the files are no matching pair."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(CIPHERS)
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    try:
        context.load_cert_chain(files.cert, files.key)
    except (OSError, ssl.SSLError) as e:
        raise Invalid(f"http.tls: {files.cert} and {files.key} cannot be used: {e}") from None
    if files.client_ca is not None:
        try:
            context.load_verify_locations(files.client_ca)
        except (OSError, ssl.SSLError) as e:
            raise Invalid(f"http.tls.client_ca: {files.client_ca} cannot be used: {e}; give a PEM file") from None
        required = files.client_certificates == "required"
        context.verify_mode = ssl.CERT_REQUIRED if required else ssl.CERT_OPTIONAL
    return context


def names_in(certificate: Path) -> tuple[str, ...]:
    """DNS names and addresses that the first certificate of a PEM file is for; empty where it cannot be read."""
    try:
        parsed = x509.load_pem_x509_certificate(certificate.read_bytes())
        names = parsed.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (OSError, ValueError, x509.ExtensionNotFound):
        return ()
    addresses = map(str, names.get_values_for_type(x509.IPAddress))
    return (*names.get_values_for_type(x509.DNSName), *addresses)
