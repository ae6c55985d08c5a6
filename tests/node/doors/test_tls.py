"""TLS of the listener, and the names that its certificate gives the node."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import aiohttp
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from node.config import parse
from node.doors.configured import door_settings
from node.doors.door import DoorSettings
from node.doors.names import Names
from node.doors.tls import names_in, server_context
from node.settings.sections import HttpTls
from proto.errors import Invalid
from tests.node.doors.conftest import Opens


@pytest.fixture
def files(tmp_path: Path) -> HttpTls:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "gw")])
    names = [x509.DNSName("gw.example.org"), x509.DNSName("*.gw.example.org"), x509.IPAddress(ip_address("192.0.2.1"))]
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .sign(key, hashes.SHA256())
    )
    (tmp_path / "cert.pem").write_bytes(certificate.public_bytes(Encoding.PEM))
    (tmp_path / "key.pem").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return HttpTls(cert=tmp_path / "cert.pem", key=tmp_path / "key.pem")


def client(files: HttpTls, **versions: ssl.TLSVersion) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(files.cert))
    for name, version in versions.items():
        setattr(context, name, version)
    return context


async def test_a_node_answers_to_the_names_in_its_certificate_over_tls(opens: Opens, files: HttpTls) -> None:
    names = Names.of(names_in(files.cert), [])
    port = await opens(DoorSettings(names=names, secure=True), server_context(files))
    context = client(files)
    context.check_hostname = False
    async with aiohttp.ClientSession() as http:
        for host, expected in (("gw.example.org", 200), ("a.gw.example.org", 200), ("192.0.2.1", 200), ("gw", 421)):
            async with http.get(
                f"https://127.0.0.1:{port.number}/mcp", headers={"Host": host}, ssl=context
            ) as response:
                assert response.status == expected, host
                assert response.headers["Strict-Transport-Security"] == "max-age=31536000"


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_both_good_versions_are_spoken_with_forward_secrecy(
    opens: Opens, files: HttpTls, version: ssl.TLSVersion
) -> None:
    port = await opens(DoorSettings(secure=True), server_context(files))
    context = client(files, minimum_version=version, maximum_version=version)
    context.check_hostname = False
    url = f"https://localhost:{port.number}/mcp"
    async with aiohttp.ClientSession() as http, http.get(url, ssl=context) as response:
        assert response.status == 200
    # What TLS 1.2 had before: a session that its server's key opens later.
    if version is ssl.TLSVersion.TLSv1_2:
        context.set_ciphers("AES256-GCM-SHA384:AES128-SHA:@SECLEVEL=0")
        async with aiohttp.ClientSession() as http:
            with pytest.raises(aiohttp.ClientConnectorError):
                await http.get(url, ssl=context)


def test_nothing_older_than_tls_1_2_is_agreed_on(files: HttpTls) -> None:
    context = server_context(files)
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2
    assert all("ECDHE" in c["name"] or c["protocol"] == "TLSv1.3" for c in context.get_ciphers())


def test_files_that_are_no_pair_are_refused_by_name(files: HttpTls, tmp_path: Path) -> None:
    (tmp_path / "other.pem").write_text("no key")
    with pytest.raises(Invalid, match=r"http\.tls: .*cert\.pem and .*other\.pem cannot be used"):
        server_context(HttpTls(cert=files.cert, key=tmp_path / "other.pem"))
    assert names_in(tmp_path / "other.pem") == names_in(tmp_path / "nowhere.pem") == ()


def test_names_come_from_the_configuration_and_the_certificate(files: HttpTls, tmp_path: Path) -> None:
    http = {
        "tls": {"cert": str(files.cert), "key": str(files.key)},
        "allowed_hosts": ["other.example.org"],
        "public_url": "https://Public.example.org:8443/tools",
        "allowed_origins": ["https://chat.example.org"],
    }
    names = door_settings(parse({"http": http}, tmp_path)).names
    assert names.hosts == {
        *("gw.example.org", "*.gw.example.org", "192.0.2.1"),
        *("other.example.org", "public.example.org"),
    }
    assert names.origins == {"https://chat.example.org", "https://public.example.org:8443"}
