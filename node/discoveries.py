"""The ways in which a configuration lets a node find its peers: a list, multicast DNS, etcd, or any mix of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from node.config import NodeConfig
from node.settings.sections import EtcdSection
from proto.errors import Invalid

if TYPE_CHECKING:
    from federation.etcd.settings import EtcdFiles, EtcdSettings
    from federation.ports import Discovery


def discoveries_of(config: NodeConfig, software: str) -> list[Discovery]:
    """Imports what each needs only where it is configured. Raises `Invalid` if files are not as configured."""
    section = config.federation
    found: list[Discovery] = []
    if section.static:
        from federation.discovery.static import StaticDiscovery

        found.append(StaticDiscovery(section.static))
    if section.mdns.enabled:
        from federation.discovery.mdns import MdnsDiscovery

        found.append(MdnsDiscovery(config.node.mesh, interfaces=[section.mdns.interface]))
    if section.etcd.enabled:
        from federation.discovery.etcd import EtcdDiscovery

        etcd = section.etcd
        found.append(
            EtcdDiscovery(
                config.node.mesh,
                etcd_settings(etcd),
                prefix=etcd.prefix,
                lease_s=etcd.lease_s,
                software=software,
            )
        )
    return found


def etcd_settings(section: EtcdSection) -> EtcdSettings:
    """With the contents of its files. Raises `Invalid` that names the file and the mend."""
    from federation.etcd.settings import EtcdSettings

    return EtcdSettings(
        section.parsed(),
        etcd_files(section),
        section.username,
        section.password.get_secret_value() if section.password is not None else "",
    )


def etcd_files(section: EtcdSection) -> EtcdFiles | None:
    """None without `tls`. Raises `Invalid`."""
    from federation.etcd.files import load_files

    tls = section.tls
    if tls is None:
        return None
    try:
        return load_files(tls.ca, tls.cert, tls.key)
    except Invalid as e:
        raise Invalid(f"federation.etcd.tls: {e.message}") from None
