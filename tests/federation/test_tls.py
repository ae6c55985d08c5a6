"""Loading a node's certificate: each way in which the three files may not fit names the file and the mend."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

from federation.ca import IssuedFiles, init_ca, issue
from federation.tls import MeshTls, identity_of, peer_identity, split_address
from proto.errors import Invalid, Unauthenticated
from proto.names import NodeId

A, B = NodeId.of("mesh.test", "eu", "a"), NodeId.of("mesh.test", "eu", "b")


@pytest.fixture
def files(tmp_path: Path) -> IssuedFiles:
    init_ca(tmp_path / "ca", "mesh.test")
    return issue(tmp_path / "ca", A, tmp_path / "a")


def rewrite(
    home: Path, files: IssuedFiles, names: list[x509.GeneralName], *, begins_days: int = -1, ends_days: int = 1
) -> None:
    """Sign the node's certificate again with other names or dates."""
    ca = x509.load_pem_x509_certificate((home / "ca/ca.pem").read_bytes())
    key = load_pem_private_key((home / "ca/ca-key.pem").read_bytes(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    old = x509.load_pem_x509_certificate(files.cert.read_bytes())
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(old.subject)
        .issuer_name(ca.subject)
        .public_key(old.public_key())
        .serial_number(1)
        .not_valid_before(now + timedelta(days=begins_days))
        .not_valid_after(now + timedelta(days=ends_days))
    )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    files.cert.write_bytes(builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM))


URI, DNS = x509.UniformResourceIdentifier, x509.DNSName


def test_a_node_knows_who_it_is_and_until_when(files: IssuedFiles) -> None:
    tls = MeshTls.load(*files)
    assert tls.identity() == A
    assert timedelta(days=364) < tls.expires_at - datetime.now(UTC) < timedelta(days=366)
    assert repr(tls) == f"MeshTls({A.uri} until {tls.expires_at:%Y-%m-%d})"
    assert MeshTls(tls.ca_pem, tls.cert_pem, tls.key_pem) == tls


@pytest.mark.parametrize("which", [0, 1, 2])
def test_a_missing_file_is_named_with_its_setting(files: IssuedFiles, which: int) -> None:
    files[which].unlink()
    with pytest.raises(Invalid, match=f"tls.{('ca', 'cert', 'key')[which]} .*{files[which].name} cannot be read"):
        MeshTls.load(*files)


@pytest.mark.parametrize("which", [0, 1, 2])
def test_a_file_that_is_no_pem_is_named(files: IssuedFiles, which: int) -> None:
    files[which].write_text("nonsense")
    with pytest.raises(Invalid, match=f"{files[which].name} is not an? .*PEM"):
        MeshTls.load(*files)


def test_a_key_of_another_certificate_is_refused(files: IssuedFiles, tmp_path: Path) -> None:
    other = issue(tmp_path / "ca", B, tmp_path / "b")
    with pytest.raises(Invalid, match=r"b-key\.pem is not the key of .*a\.pem"):
        MeshTls.load(files.ca, files.cert, other.key)


def test_a_ca_that_did_not_issue_it_is_refused(files: IssuedFiles, tmp_path: Path) -> None:
    init_ca(tmp_path / "other", "mesh.test")
    with pytest.raises(Invalid, match="was not issued by"):
        MeshTls.load(tmp_path / "other/ca.pem", files.cert, files.key)


def test_while_a_ca_is_replaced_either_of_two_in_one_file_will_do(files: IssuedFiles, tmp_path: Path) -> None:
    init_ca(tmp_path / "other", "mesh.test")
    files.ca.write_bytes((tmp_path / "other/ca.pem").read_bytes() + files.ca.read_bytes())
    assert MeshTls.load(*files).identity() == A


def test_an_expired_certificate_is_refused_with_its_date(files: IssuedFiles, tmp_path: Path) -> None:
    rewrite(tmp_path, files, [URI(A.uri), DNS(A.dns)], begins_days=-3, ends_days=-1)
    with pytest.raises(Invalid, match=r"a\.pem expired at .* issue a new one"):
        MeshTls.load(*files)


def test_a_certificate_of_the_future_points_at_the_clock(files: IssuedFiles, tmp_path: Path) -> None:
    rewrite(tmp_path, files, [URI(A.uri), DNS(A.dns)], begins_days=1, ends_days=3)
    with pytest.raises(Invalid, match="clock"):
        MeshTls.load(*files)


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        ([], "0 URI names"),
        ([DNS(A.dns)], "0 URI names"),
        ([URI(A.uri), URI(B.uri), DNS(A.dns)], "2 URI names"),
        ([URI("https://mesh.test/"), DNS(A.dns)], "no node id"),
        ([URI(A.uri)], "lacks the DNS name 'a.eu.mesh.test'"),
        ([URI(A.uri), DNS(B.dns)], "lacks the DNS name 'a.eu.mesh.test'"),
    ],
)
def test_names_that_do_not_prove_one_node_are_refused(
    files: IssuedFiles, tmp_path: Path, names: list[x509.GeneralName], reason: str
) -> None:
    rewrite(tmp_path, files, names)
    with pytest.raises(Invalid, match=reason):
        MeshTls.load(*files)


def test_the_dialled_node_is_pinned_by_its_name_and_the_link_kept_alive(files: IssuedFiles) -> None:
    options = dict(MeshTls.load(*files).channel_options(B))
    assert options["grpc.ssl_target_name_override"] == B.dns
    assert (options["grpc.keepalive_time_ms"], options["grpc.keepalive_timeout_ms"]) == (5_000, 3_000)
    # It is also the time that one attempt to connect is given.
    assert options["grpc.min_reconnect_backoff_ms"] >= 1_000


class Context:
    def __init__(self, **auth: list[bytes]) -> None:
        self._auth = auth

    def auth_context(self) -> dict[str, list[bytes]]:
        return self._auth


def test_who_dials_is_read_from_the_verified_certificate_alone() -> None:
    assert peer_identity(Context(transport_security_type=[b"ssl"], peer_uri=[A.uri.encode()])) == A


@pytest.mark.parametrize(
    "auth",
    [
        {},
        {"peer_uri": [A.uri.encode()]},
        {"transport_security_type": [b"ssl"]},
        {"transport_security_type": [b"ssl"], "peer_uri": [A.uri.encode(), B.uri.encode()]},
        {"transport_security_type": [b"ssl"], "peer_uri": [b"https://mesh.test"]},
        {"transport_security_type": [b"ssl"], "peer_uri": [b"\xff"]},
    ],
)
def test_whoever_proves_no_single_node_id_is_unauthenticated(auth: dict[str, list[bytes]]) -> None:
    with pytest.raises(Unauthenticated):
        peer_identity(Context(**auth))


def test_a_certificate_without_names_is_unauthenticated(files: IssuedFiles, tmp_path: Path) -> None:
    rewrite(tmp_path, files, [])
    with pytest.raises(Unauthenticated, match="0 URI names"):
        identity_of(x509.load_pem_x509_certificate(files.cert.read_bytes()))


def test_addresses_are_host_and_port() -> None:
    assert split_address("node.example:7400") == ("node.example", 7400)
    assert split_address("[::1]:1") == ("::1", 1)
