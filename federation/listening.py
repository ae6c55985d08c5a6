"""The port on which peers reach this node, and the address that they are told."""

from __future__ import annotations

import logging
from typing import NamedTuple

import grpc

from federation.tls import MeshTls
from proto.errors import Unavailable
from proto.mesh_pb2_grpc import MeshServicer, add_MeshServicer_to_server

log = logging.getLogger("toolmesh.federation")


class Bound(NamedTuple):
    """A server that has its port and is yet to be started. `advertise`: HOST:PORT, with the real port."""

    server: grpc.aio.Server
    port: int
    advertise: str


def bind(listen: str, advertise: str, tls: MeshTls, service: MeshServicer) -> Bound:
    """Take the port. `advertise` may be empty (then `listen` is told) or end in `:0`. Raises `Unavailable`."""
    server = grpc.aio.server(options=tls.server_options())
    add_MeshServicer_to_server(service, server)
    try:
        port = server.add_secure_port(listen, tls.server_credentials())
    except RuntimeError as e:
        # gRPC says no more than that it failed, and to turn on its debugging.
        log.debug("gRPC: %s", e)
        raise Unavailable(
            f"federation.listen {listen} cannot be listened on: is another program using it, or is it not "
            "an address of this machine? Stop what uses it or choose another"
        ) from None
    told = advertise or f"{listen.rpartition(':')[0]}:{port}"
    return Bound(server, port, f"{told[:-2]}:{port}" if told.endswith(":0") else told)
