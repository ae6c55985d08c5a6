"""What the CA says of a node, by the chain that it presents: each way in which that may not hold."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from federation.credentials import CHAIN_BYTES_MAX, INTERMEDIATES_MAX, Credentials, vouch
from proto.errors import Unauthenticated
from proto.names import NodeId

A, B = NodeId.of("mesh.test", "eu", "a"), NodeId.of("mesh.test", "eu", "b")
NOW = datetime.now(UTC).replace(microsecond=0)


@dataclass(frozen=True)
class Issued:
    """A certificate and its key: of a node, or of whoever signs."""

    cert: x509.Certificate
    key: ec.EllipticCurvePrivateKey


@dataclass(frozen=True)
class Wanted:
    """What a certificate is to say."""

    name: str
    uris: tuple[str, ...] = ()
    roles: tuple[str, ...] = ()
    ca: bool = False
    path_length: int | None = None
    signs: bool = True
    begins: timedelta = timedelta(days=-1)
    ends: timedelta = timedelta(days=1)
    usage: x509.ObjectIdentifier | None = None


def make(wanted: Wanted, issuer: Issued | None = None) -> Issued:
    key = ec.generate_private_key(ec.SECP256R1())
    units = [x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, role) for role in wanted.roles]
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, wanted.name), *units])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.cert.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW + wanted.begins)
        .not_valid_after(NOW + wanted.ends)
        .add_extension(x509.BasicConstraints(wanted.ca, wanted.path_length), critical=True)
    )
    if wanted.uris:
        names = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(u) for u in wanted.uris])
        builder = builder.add_extension(names, critical=False)
    if wanted.ca:
        rest = dict.fromkeys(
            ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "crl_sign"), False
        )
        usage = x509.KeyUsage(
            digital_signature=False, key_cert_sign=wanted.signs, encipher_only=False, decipher_only=False, **rest
        )
        builder = builder.add_extension(usage, critical=True)
    if wanted.usage is not None:
        builder = builder.add_extension(x509.ExtendedKeyUsage([wanted.usage]), critical=False)
    return Issued(builder.sign(issuer.key if issuer else key, hashes.SHA256()), key)


CA = make(Wanted("ca", ca=True))
NODE = Wanted("a", (A.uri,), ("authority", "gardener"))


def judged(*chain: Issued, ca: Issued = CA, peer: NodeId = A) -> Credentials:
    pem = b"".join(i.cert.public_bytes(Encoding.PEM) for i in chain)
    return vouch(pem, [ca.cert], peer, NOW)


def test_roles_and_end_are_those_of_the_certificate_and_unknown_roles_are_left_out() -> None:
    credentials = judged(make(NODE, CA))
    assert credentials == Credentials(A, frozenset({"authority"}), NOW + timedelta(days=1))
    assert credentials.authority
    assert not judged(make(replace(NODE, roles=()), CA)).authority


def test_an_intermediate_ca_may_stand_in_between() -> None:
    middle = make(Wanted("middle", ca=True, path_length=0), CA)
    assert judged(make(NODE, middle), middle).authority
    assert judged(make(NODE, middle), middle, CA).authority


def test_while_a_ca_is_replaced_either_of_two_will_do() -> None:
    other, leaf = make(Wanted("other", ca=True)), make(NODE, CA)
    pem = leaf.cert.public_bytes(Encoding.PEM)
    assert vouch(pem, [other.cert, CA.cert], A, NOW).authority


def refused(match: str, *chain: Issued, ca: Issued = CA, peer: NodeId = A) -> None:
    with pytest.raises(Unauthenticated, match=match):
        judged(*chain, ca=ca, peer=peer)


def test_another_nodes_certificate_gives_nothing() -> None:
    refused("names .*node/a, not .*node/b", make(NODE, CA), peer=B)


def test_a_certificate_of_two_nodes_or_none_gives_nothing() -> None:
    refused("2 URI names", make(replace(NODE, uris=(A.uri, B.uri)), CA))
    refused("0 URI names", make(replace(NODE, uris=()), CA))


def test_a_certificate_of_another_ca_gives_nothing() -> None:
    refused("CA did not issue", make(NODE, make(Wanted("ca", ca=True))))


def test_a_node_cannot_issue_roles_to_itself() -> None:
    honest = make(replace(NODE, roles=()), CA)
    refused("CA did not issue", make(NODE, honest), honest)
    refused("CA did not issue", make(NODE, make(Wanted("a", (A.uri,)))))


def test_a_ca_that_may_not_issue_does_not() -> None:
    unable = make(Wanted("middle", ca=True, signs=False), CA)
    refused("CA did not issue", make(NODE, unable), unable)
    outer = make(Wanted("outer", ca=True, path_length=0), CA)
    inner = make(Wanted("inner", ca=True), outer)
    refused("CA did not issue", make(NODE, inner), inner, outer)


def test_whoever_is_out_of_time_gives_nothing() -> None:
    past, future = timedelta(seconds=0), timedelta(seconds=1)
    refused("expired at", make(replace(NODE, ends=past), CA))
    refused("valid only from", make(replace(NODE, begins=future), CA))
    middle = make(Wanted("middle", ca=True, ends=past), CA)
    refused("expired at", make(NODE, middle), middle)
    old = make(Wanted("ca", ca=True, ends=past))
    refused("expired at", make(NODE, old), ca=old)


def test_a_certificate_for_diallers_only_is_none_of_a_node_that_answers() -> None:
    refused("extended key usage", make(replace(NODE, usage=ExtendedKeyUsageOID.CLIENT_AUTH), CA))
    assert judged(make(replace(NODE, usage=ExtendedKeyUsageOID.SERVER_AUTH), CA)).authority


def test_a_chain_without_end_is_not_followed() -> None:
    chain = [make(Wanted("0", ca=True), CA)]
    for i in range(INTERMEDIATES_MAX):
        chain.insert(0, make(Wanted(str(i + 1), ca=True), chain[0]))
    refused("intermediate certificates; at most", make(NODE, chain[0]), *chain)
    with pytest.raises(Unauthenticated, match="at most"):
        vouch(b"x" * (CHAIN_BYTES_MAX + 1), [CA.cert], A, NOW)


@pytest.mark.parametrize("pem", [b"", b"nonsense", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"])
def test_what_is_no_certificate_gives_nothing(pem: bytes) -> None:
    with pytest.raises(Unauthenticated):
        vouch(pem, [CA.cert], A, NOW)
