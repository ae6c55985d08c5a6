"""What `toolmesh check` finds: what a configuration would start, and what would stand in its way."""

from __future__ import annotations

import os
import shutil
import ssl
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from federation.etcd.files import expires_at
from federation.tls import MeshTls
from node import mesh_keys
from node.config import NodeConfig
from node.discoveries import etcd_files
from node.settings.sections import EtcdSection, HttpTls, SearchSection
from node.settings.servers import ServerConfig
from node.settings.source import read_yaml
from node.settings.values import is_loopback
from node.verbs import check_auth, check_doors, check_guard, check_search
from proto.errors import Invalid

EXPIRES_SOON = timedelta(days=30)


@dataclass(slots=True)
class Report:
    """`facts` are (what, value) for people; `servers` are (name, how it is reached, note).

    A `problem` keeps something from working; a `warning` does not.
    """

    facts: list[tuple[str, str]] = field(default_factory=list)
    servers: list[tuple[str, str, str]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def take(self, about: str, findings: Iterable[tuple[str, str]]) -> None:
        """Each is ("fact" | "warning" | "problem", text)."""
        for kind, text in findings:
            match kind:
                case "fact":
                    self.facts.append((about, text))
                case "warning":
                    self.warnings.append(text)
                case _:
                    self.problems.append(text)


def inspect(config: NodeConfig, now: datetime | None = None, file: Path | None = None) -> Report:
    """Reads the files that the configuration names and looks programs up; starts and dials nothing.

    `file` is where `config` was read from: which files hold its secrets only that can say.
    """
    report = Report()
    now = now or datetime.now(UTC)
    report.facts.append(("node", f"{config.node_id.uri}"))
    _data_dir(config.node.data_dir, report)
    _http(config, report, now, file)
    _federation(config, report, now)
    _search(config.search, report)
    check_guard.guard(config.guard, report)
    for servers, note in ((config.servers, ""), (config.catalogue, "when added")):
        for name, server in servers.items():
            problem = missing_program(server)
            if problem:
                report.problems.append(f"server {name!r}: {problem}")
            how = server.url or " ".join(server.argv())
            waits = "an operator approves it first" if server.approval else ""
            signs = f"signs in by {server.auth.kind}" if server.auth is not None else ""
            report.servers.append((name, how, problem or ", ".join(filter(None, (note, waits, signs)))))
    return report


def _data_dir(data_dir: Path, report: Report) -> None:
    report.facts.append(("data", str(data_dir)))
    nearest = data_dir
    while not nearest.exists() and nearest != nearest.parent:
        nearest = nearest.parent
    if not nearest.is_dir():
        report.problems.append(f"node.data_dir: {nearest} is not a directory; name another one")
    elif not os.access(nearest, os.W_OK | os.X_OK):
        report.problems.append(f"node.data_dir: {nearest} cannot be written to by this user; change its rights")


def _http(config: NodeConfig, report: Report, now: datetime, file: Path | None) -> None:
    http = config.http
    scheme = "https" if http.tls else "http"
    report.facts.append(("agents", f"{scheme}://{http.listen}/mcp for {check_auth.callers(config)}"))
    report.take("callers", check_auth.findings(config, now))
    report.take("doors", check_doors.findings(config))
    if file is not None:
        report.take("doors", check_doors.exposed_files(read_yaml(file).data, file.absolute().parent))
    if http.insecure_beyond_loopback:
        report.warnings.append("http.insecure_beyond_loopback is set: make sure that only a trusted proxy reaches it")
    if http.tls:
        report.problems.extend(http_tls_problems(http.tls))


def http_tls_problems(files: HttpTls) -> Iterator[str]:
    # OpenSSL does not say which of the two it could not open.
    missing = [file for file in (files.cert, files.key) if not file.is_file()]
    if missing:
        yield f"http.tls: {' and '.join(map(str, missing))} cannot be read: no such file; give a matching PEM pair"
        return
    try:
        ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(files.cert, files.key)
    except (OSError, ssl.SSLError) as e:
        yield f"http.tls: {files.cert} and {files.key} cannot be used: {e.strerror or e}; give a matching PEM pair"


def _federation(config: NodeConfig, report: Report, now: datetime) -> None:
    federation = config.federation
    if federation.tls is None:
        report.facts.append(("peers", "none: without federation.tls this node runs alone"))
        return
    found = [f"{len(federation.static)} listed"] * bool(federation.static) + [
        f"mDNS on {federation.mdns.interface}"
    ] * federation.mdns.enabled
    if federation.etcd.enabled:
        found.append(f"etcd at {', '.join(federation.etcd.endpoints)}")
    ways = " and ".join(found) or "nobody"
    report.facts.append(("peers", f"at {federation.listen}, dialled as {federation.advertised}; looks for {ways}"))
    if federation.etcd.enabled:
        _etcd(federation.etcd, report, now)
    if not found:
        report.warnings.append(
            "federation.static is empty, mDNS is off, federation.etcd has no endpoints: this node waits to be dialled"
        )
    if federation.mdns.enabled and is_loopback(federation.mdns.interface) and not is_loopback(federation.host):
        report.warnings.append(
            f"federation.mdns.interface {federation.mdns.interface} reaches this machine only; name the address of the "
            "interface that other nodes are on, or set federation.mdns.enabled: false"
        )
    _mesh_keys(federation.mesh_keys, report)
    try:
        tls = MeshTls.load(federation.tls.ca, federation.tls.cert, federation.tls.key)
        identity = tls.identity()
    except Invalid as e:
        report.problems.append(f"federation.tls: {e.message}")
        return
    days = (tls.expires_at - now).days
    report.facts.append(("certificate", f"{identity.uri}, {days} days left"))
    if identity != config.node_id:
        report.problems.append(
            f"federation.tls.cert is for {identity.uri}, but the node section says {config.node_id.uri}; "
            "mend node.name, node.region or node.mesh, or issue another certificate"
        )
    if tls.expires_at - now < EXPIRES_SOON:
        report.warnings.append(f"federation.tls.cert ends in {days} days; 'toolmesh ca issue' makes a new one")


def _mesh_keys(files: Sequence[Path], report: Report) -> None:
    if not files:
        report.warnings.append(
            "federation.mesh_keys is empty: the answer of a 2026-07-28 client that a service has asked something in a "
            "call may go to another of its owners, and be refused; 'toolmesh key mesh' makes a key for all nodes"
        )
        return
    try:
        report.facts.append(("mesh keys", repr(mesh_keys.sealer_of(files)).removeprefix("Sealer(").removesuffix(")")))
    except Invalid as e:
        report.problems.append(e.message)


def _etcd(etcd: EtcdSection, report: Report, now: datetime) -> None:
    login = f"user {etcd.username!r}" if etcd.username else "no user"
    own = "with a certificate of its own" if etcd.tls and etcd.tls.cert else "without a certificate"
    report.facts.append(("etcd", f"as {login}, {own}; an entry outlives its node by {etcd.lease_s} s"))
    if etcd.insecure:
        report.warnings.append("federation.etcd.insecure is set: make sure that only trusted machines are on the way")
    try:
        files = etcd_files(etcd)
    except Invalid as e:
        report.problems.append(e.message)
        return
    ends = expires_at(files) if files is not None else None
    if ends is not None and ends - now < EXPIRES_SOON:
        report.warnings.append(f"federation.etcd.tls.cert ends in {(ends - now).days} days; issue another one")


def _search(search: SearchSection, report: Report) -> None:
    report.take("search", check_search.findings(search))


def missing_program(server: ServerConfig, environment: Mapping[str, str] | None = None) -> str:
    """Why the server's command could not be started, or an empty string. `environment` is the node's own."""
    if not server.command:
        return ""
    if not server.cwd.is_dir():
        return f"cwd {server.cwd} is not a directory"
    program = server.argv()[0]
    if os.sep in program:
        return "" if shutil.which(server.cwd / program) else f"{server.cwd / program} is not an executable file"
    own = server.env.get("PATH")
    path = own.get_secret_value() if own else (os.environ if environment is None else environment).get("PATH", "")
    return "" if shutil.which(program, path=path) else f"command {program!r} was not found on PATH"
