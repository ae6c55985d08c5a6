"""The doors as a configuration asks for them."""

from __future__ import annotations

from urllib.parse import urlsplit

from node.config import NodeConfig
from node.doors.addresses import networks
from node.doors.door import DoorSettings
from node.doors.names import Names
from node.doors.tls import names_in


def door_settings(config: NodeConfig) -> DoorSettings:
    """Reads the listener's certificate, whose names are names of this node."""
    http = config.http
    hosts = [*http.allowed_hosts, *(names_in(http.tls.cert) if http.tls else ())]
    origins = list(http.allowed_origins)
    public = urlsplit(http.public_url)
    if public.hostname:
        hosts.append(public.hostname)
        # The forms of this node's own pages, which run no script.
        origins.append(f"{public.scheme}://{public.netloc}")
    return DoorSettings(
        names=Names.of(hosts, origins),
        addresses=http.addresses.compiled(),
        trusted=networks(http.trusted_proxies),
        limit=config.limits.address,
        connections_max=http.connections_max,
        connections_per_address_max=http.connections_per_address_max,
        secure=http.tls is not None,
    )
