"""What `toolmesh check` finds at the doors: who may come, what is left open, which files others may read."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from node.config import NodeConfig
from node.outbound.outbound import Outbound
from node.settings.values import is_loopback
from node.settings.weak import weakness
from proto.errors import Invalid

Finding = tuple[str, str]
"""("fact" | "warning" | "problem", text)."""


def findings(config: NodeConfig) -> Iterator[Finding]:
    yield from _addresses(config)
    yield from _names(config)
    yield from _secrets(config)
    yield from _catalogue(config)


def _addresses(config: NodeConfig) -> Iterator[Finding]:
    http = config.http
    addresses = http.addresses.compiled()
    if not addresses:
        return
    allowed = f"{len(addresses.allow)} networks" if addresses.allow else "everywhere"
    yield "fact", f"from {allowed}, {len(addresses.deny)} networks denied"
    if any(network.prefixlen == 0 for network in addresses.deny):
        yield (
            "problem",
            "http.addresses.deny holds every address: nobody could connect; name the networks that must not",
        )
    elif addresses.allow and not any(map(addresses.admits, (str(n.network_address) for n in addresses.allow))):
        yield (
            "problem",
            "http.addresses.deny covers all of http.addresses.allow: nobody could connect; mend one of them",
        )
    elif not (addresses.admits("127.0.0.1") and addresses.admits("::1")):
        yield (
            "warning",
            "http.addresses shuts this machine out: toolmesh status, and whatever else asks 127.0.0.1 or ::1, will not "
            "be answered; allow 127.0.0.0/8 and ::1 if that is not meant",
        )


def _names(config: NodeConfig) -> Iterator[Finding]:
    http = config.http
    if http.insecure_beyond_loopback and not (http.allowed_hosts or http.public_url):
        yield (
            "warning",
            "http.allowed_hosts and http.public_url are empty: requests that a proxy passes on with "
            "their Host are refused (421); name what clients dial",
        )
    if http.insecure_beyond_loopback and not http.trusted_proxies:
        yield (
            "warning",
            "http.trusted_proxies is empty: limits by address count all clients of a proxy as one; name its address",
        )
    elsewhere = http.public_url and not is_loopback(urlsplit(http.public_url).hostname or "")
    if elsewhere and is_loopback(http.host) and not (http.trusted_proxies or config.limits.address.loopback):
        yield (
            "warning",
            "http.trusted_proxies is empty: all that a proxy on this machine passes on counts as this machine's own, "
            "whose wrong keys and passwords are not counted; name its address",
        )
    if (
        http.trusted_proxies
        and is_loopback(http.host)
        and not any(p.startswith(("127.", "::1")) for p in http.trusted_proxies)
    ):
        yield "warning", "http.trusted_proxies names no address of this machine, which alone can reach the listener"


def _secrets(config: NodeConfig) -> Iterator[Finding]:
    http, federation = config.http, config.federation
    files: list[tuple[str, Path]] = []
    if http.tls is not None:
        files.append(("http.tls.key", http.tls.key))
    if federation.tls is not None:
        files.append(("federation.tls.key", federation.tls.key))
    files += [("federation.mesh_keys", file) for file in federation.mesh_keys]
    if federation.etcd.tls is not None and federation.etcd.tls.key is not None:
        files.append(("federation.etcd.tls.key", federation.etcd.tls.key))
    for where, file in files:
        yield from exposed(where, file)
    etcd = federation.etcd.password
    if etcd is not None and (why := weakness(etcd.get_secret_value())):
        yield "warning", f"federation.etcd.password {why}; give that user another one"


def _catalogue(config: NodeConfig) -> Iterator[Finding]:
    outbound = Outbound(config.outbound.allow)
    for name, server in config.catalogue.items():
        if server.url:
            try:
                outbound.check_url(server.url, schemes=("http", "https", "ws", "wss"), what=f"catalogue.{name}.url")
            except Invalid as e:
                yield "problem", e.message


def exposed(where: str, file: Path) -> Iterator[Finding]:
    """What is wrong with who may read a file that holds a secret."""
    try:
        mode = file.stat().st_mode
    except OSError:
        return  # what is not there is reported when it is loaded
    if mode & stat.S_IRWXO:
        yield "problem", f"{where}: {file} is readable by others, every user of this machine; chmod 600 it"
    elif mode & stat.S_IRWXG:
        yield "warning", f"{where}: {file} is readable by others of its group; chmod 600 it"


def secret_files(data: Any, base: Path, at: str = "") -> Iterator[tuple[str, Path]]:
    """Every `{file: PATH}` of a configuration as it was read, and `file` of API keys: (key path, file)."""
    if isinstance(data, list):
        for i, item in enumerate(data):
            yield from secret_files(item, base, f"{at}[{i}]")
    elif isinstance(data, dict):
        file = data.get("file")
        if isinstance(file, str) and (len(data) == 1 or at.startswith("auth.keys")):
            yield at, base / Path(os.path.expanduser(file))
        for key, value in data.items():
            yield from secret_files(value, base, f"{at}.{key}" if at else str(key))


def exposed_files(data: Any, base: Path) -> Iterator[Finding]:
    """Files with secrets that a configuration names and every user may read. Policies are no secrets."""
    for where, file in secret_files(data, base):
        if not where.startswith("guard."):
            yield from exposed(where, file)
