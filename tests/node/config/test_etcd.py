from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from node.config import NodeConfig
from node.discoveries import discoveries_of
from node.verbs.checks import inspect
from proto.errors import Invalid
from tests.wire.test_etcd_security import pem_files

Load = Callable[[str], NodeConfig]
Refused = Callable[[str], list[str]]


def settings(etcd: str) -> str:
    return (
        "node: {name: eu-1, region: eu}\n"
        "federation:\n  tls: {ca: ca.pem, cert: n.pem, key: n-key.pem}\n  mdns: {enabled: false}\n"
        f"  etcd: {{{etcd}}}\n"
    )


def test_endpoints_are_urls_with_a_default_port(load_text: Load) -> None:
    etcd = load_text(settings("endpoints: ['http://localhost', 'http://[::1]:5/']")).federation.etcd
    assert etcd.endpoints == ("http://localhost:2379", "http://[::1]:5")
    assert etcd.enabled


@pytest.mark.parametrize(
    ("etcd", "where", "problem"),
    [
        ("endpoints: ['etcd-1:2379']", "endpoints[0]", "is no endpoint of etcd"),
        ("endpoints: ['http://127.0.0.1 ']", "endpoints[0]", "is no endpoint of etcd"),
        ("endpoints: ['http://127.0.0.1:0']", "endpoints[0]", "is no endpoint of etcd"),
        ("endpoints: ['http://127.0.0.1:70000']", "endpoints[0]", "is no endpoint of etcd"),
        ("endpoints: ['http://::1:2379']", "endpoints[0]", "is no endpoint of etcd"),
        ("endpoints: [2379]", "endpoints[0]", "must be text, not a number"),
        ("endpoints: 'http://127.0.0.1'", "endpoints", "must be a list, not a string"),
        ("endpoints: ['http://[::1]', 'http://[::1]:2379/']", "endpoints[1]", "is named twice"),
        (f"endpoints: {[f'http://127.0.0.1:{n}' for n in range(1, 18)]}", "endpoints", "at most 16 items, not 17"),
        ("endpoints: ['http://etcd-1']", "endpoints[0]", "federation.etcd.insecure: true"),
        ("endpoints: ['https://etcd-1']", "tls", "name in tls.ca"),
        ("endpoints: ['http://[::1]'], tls: {ca: a}", "tls", "no endpoint is https"),
        ("endpoints: ['https://h'], tls: {ca: a, cert: b}", "tls.key", "given together"),
        ("endpoints: ['https://h'], tls: {ca: a, key: b}", "tls.cert", "given together"),
        ("endpoints: ['https://h'], tls: {cert: a, key: b}", "tls.ca", "is required"),
        ("endpoints: ['http://127.0.0.1'], username: u", "password", "given together"),
        ("endpoints: ['http://127.0.0.1'], password: p", "username", "given together"),
        ("endpoints: ['http://127.0.0.1'], prefix: team", "prefix", "may hold only"),
        ("endpoints: ['http://127.0.0.1'], prefix: /team/", "prefix", "may hold only"),
        ("endpoints: ['http://127.0.0.1'], lease_s: 1", "lease_s", "greater than or equal to 5"),
        ("endpoints: ['http://127.0.0.1'], lease_s: true", "lease_s", "must be a number, not true"),
        ("lease_s: 20, prefix: /x", "endpoints", "so lease_s, prefix would have no effect"),
    ],
)
def test_what_could_not_work_or_would_leak_is_refused(refused: Refused, etcd: str, where: str, problem: str) -> None:
    (line,) = refused(settings(etcd))
    assert f": federation.etcd.{where}: " in line
    assert problem in line


def test_a_password_in_an_address_is_refused_and_not_repeated(refused: Refused) -> None:
    (line,) = refused(settings("endpoints: ['https://root:sesame@etcd-1:2379']"))
    assert "a login is given as username and password" in line
    assert "sesame" not in line


def test_http_beyond_loopback_is_there_for_those_who_say_so(load_text: Load) -> None:
    config = load_text(settings("endpoints: ['http://etcd-1'], insecure: true"))
    (discovery,) = discoveries_of(config, "test")
    assert repr(discovery) == "EtcdDiscovery(toolmesh.local at http://etcd-1:2379, nothing announced)"
    assert any("federation.etcd.insecure" in w for w in inspect(config).warnings)


def test_the_password_comes_from_a_file_and_is_never_shown(load_text: Load, tmp_path: Path) -> None:
    (tmp_path / "password").write_text("open sesame\n")
    config = load_text(settings("endpoints: ['http://127.0.0.1'], username: u, password: {file: password}"))
    password = config.federation.etcd.password
    assert password is not None
    assert password.get_secret_value() == "open sesame"
    (discovery,) = discoveries_of(config, "test")
    for shown in (repr(config), config.model_dump_json(), repr(discovery), repr(inspect(config))):
        assert "sesame" not in shown


def test_any_mix_of_ways_is_made(load_text: Load) -> None:
    text = settings("endpoints: ['http://127.0.0.1']").replace("enabled: false}", "}\n  static: ['h:1']")
    config = load_text(text)
    kinds = [type(d).__name__ for d in discoveries_of(config, "test")]
    assert kinds == ["StaticDiscovery", "MdnsDiscovery", "EtcdDiscovery"]
    assert "1 listed and mDNS on 127.0.0.1 and etcd at http://127.0.0.1:2379" in dict(inspect(config).facts)["peers"]


def test_files_are_looked_at_before_anything_is_dialled(load_text: Load, tmp_path: Path) -> None:
    pem = pem_files(tmp_path / "pem")
    etcd = f"endpoints: ['https://h'], tls: {{ca: {pem.ca}, cert: {pem.client_cert}, key: {pem.client_key}}}"
    good = load_text(settings(etcd))
    assert discoveries_of(good, "test")
    report = inspect(good)
    assert not [p for p in report.problems if "etcd" in p]
    assert dict(report.facts)["etcd"].startswith("as no user, with a certificate of its own")
    pem.client_key.chmod(0o644)
    assert any("federation.etcd.tls.key" in w for w in inspect(good).problems)
    bad = load_text(settings("endpoints: ['https://h'], tls: {ca: nowhere.pem}"))
    assert any(p.startswith("federation.etcd.tls: ca ") for p in inspect(bad).problems)
    with pytest.raises(Invalid, match=r"federation\.etcd\.tls: ca .*nowhere\.pem cannot be read"):
        discoveries_of(bad, "test")
