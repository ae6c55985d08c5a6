"""The mesh's own CA: what it issues, and what it will not."""

from __future__ import annotations

import ipaddress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from federation.ca import init_ca, issue, roles_of
from federation.tls import MeshTls
from proto.errors import Conflict, Invalid
from proto.names import NodeId

NODE = NodeId.of("mesh.test", "eu", "a")


@pytest.fixture
def ca(tmp_path: Path) -> Path:
    init_ca(tmp_path / "ca", "mesh.test")
    return tmp_path / "ca"


def read(file: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(file.read_bytes())


def test_a_ca_signs_nodes_of_its_trust_domain_and_no_other_cas(ca: Path) -> None:
    cert = read(ca / "ca.pem")
    constraints = cert.extensions.get_extension_for_class(x509.BasicConstraints)
    assert constraints.critical
    assert (constraints.value.ca, constraints.value.path_length) == (True, 0)
    names = cert.extensions.get_extension_for_class(x509.NameConstraints).value
    assert names.permitted_subtrees == [x509.UniformResourceIdentifier("mesh.test")]
    assert cert.not_valid_after_utc > datetime.now(UTC) + timedelta(days=3640)


def test_keys_are_for_their_owner_only(ca: Path, tmp_path: Path) -> None:
    files = issue(ca, NODE, tmp_path / "a")
    for key in (ca / "ca-key.pem", files.key):
        assert key.stat().st_mode & 0o777 == 0o600


def test_a_ca_is_never_overwritten(ca: Path) -> None:
    before = (ca / "ca.pem").read_bytes()
    with pytest.raises(Conflict, match="exists already"):
        init_ca(ca, "mesh.test")
    assert (ca / "ca.pem").read_bytes() == before
    (ca / "ca.pem").unlink()
    with pytest.raises(Conflict, match=r"ca-key\.pem exists already"):
        init_ca(ca, "mesh.test")


def test_a_bad_trust_domain_makes_no_ca(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="trust domain"):
        init_ca(tmp_path / "new", "Not A Domain")
    assert not (tmp_path / "new").exists()


def test_a_certificate_carries_the_id_twice_and_further_hosts(ca: Path, tmp_path: Path) -> None:
    cert = read(issue(ca, NODE, tmp_path / "a", hosts=["localhost", "10.0.0.7", "::1"], days=30).cert)
    names = cert.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.UniformResourceIdentifier) == [NODE.uri]
    assert names.get_values_for_type(x509.DNSName) == [NODE.dns, "localhost"]
    assert names.get_values_for_type(x509.IPAddress) == [
        ipaddress.ip_address("10.0.0.7"),
        ipaddress.ip_address("::1"),
    ]
    usage = cert.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert set(usage) == {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH}
    assert timedelta(days=29) < cert.not_valid_after_utc - datetime.now(UTC) < timedelta(days=31)
    cert.verify_directly_issued_by(read(ca / "ca.pem"))


def test_one_directory_equips_a_node(ca: Path, tmp_path: Path) -> None:
    files = issue(ca, NODE, tmp_path / "a")
    assert {f.name for f in (tmp_path / "a").iterdir()} == {"ca.pem", "a.pem", "a-key.pem"}
    assert MeshTls.load(*files).identity() == NODE


def test_a_certificate_is_renewed_in_place_with_a_new_key(ca: Path, tmp_path: Path) -> None:
    first = issue(ca, NODE, tmp_path / "a").key.read_bytes()
    assert issue(ca, NODE, tmp_path / "a").key.read_bytes() != first
    assert MeshTls.load(tmp_path / "a/ca.pem", tmp_path / "a/a.pem", tmp_path / "a/a-key.pem")


def test_roles_are_in_the_certificate(ca: Path, tmp_path: Path) -> None:
    assert roles_of(read(issue(ca, NODE, tmp_path / "a").cert)) == frozenset()
    files = issue(ca, NODE, tmp_path / "a", roles=["relay", "authority"])
    assert roles_of(read(files.cert)) == MeshTls.load(*files).roles == {"relay", "authority"}
    with pytest.raises(Invalid, match="role 'king'"):
        issue(ca, NODE, tmp_path / "a", roles=["king"])


def test_another_trust_domain_or_a_malformed_host_is_refused(ca: Path, tmp_path: Path) -> None:
    with pytest.raises(Invalid, match=r"other\.test"):
        issue(ca, NodeId.of("other.test", "eu", "a"), tmp_path / "a")
    with pytest.raises(Invalid, match="host 'ü'"):
        issue(ca, NODE, tmp_path / "a", hosts=["ü"])
    with pytest.raises(Invalid, match="days is 0"):
        issue(ca, NODE, tmp_path / "a", days=0)
    assert not (tmp_path / "a").exists()


def test_a_ca_that_is_missing_broken_or_not_a_pair_is_named(ca: Path, tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="is missing"):
        issue(tmp_path / "nowhere", NODE, tmp_path / "a")
    init_ca(tmp_path / "other", "mesh.test")
    (ca / "ca-key.pem").write_bytes((tmp_path / "other/ca-key.pem").read_bytes())
    with pytest.raises(Invalid, match="is not the key of"):
        issue(ca, NODE, tmp_path / "a")
    (ca / "ca.pem").write_text("nonsense")
    with pytest.raises(Invalid, match="cannot be read"):
        issue(ca, NODE, tmp_path / "a")
