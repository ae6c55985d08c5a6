"""Certificates from the command line: which trust domain a CA is for, and what was issued."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from cryptography import x509

from federation.ca import CA_FILE, IssuedFiles, init_ca, issue
from node import mesh_keys
from proto.errors import Invalid
from proto.names import NodeId


def init(directory: Path, trust_domain: str) -> None:
    """A CA, and beside it the mesh key that every node gets. Raises `Conflict` or `Invalid`."""
    init_ca(directory, trust_domain)
    mesh_keys.make(directory / mesh_keys.MESH_KEY_FILE)


def issue_for(
    directory: Path, node: str, region: str, out: Path, *, hosts: Sequence[str], days: int, roles: Sequence[str]
) -> tuple[NodeId, IssuedFiles, Path | None]:
    """A certificate for one node of the CA's own trust domain, and a copy of the mesh key. Raises `Invalid`.

    None in place of the key's file: the CA was made by a release that knew of no mesh keys.
    """
    node_id = NodeId.of(trust_domain_of(directory), region, node)
    files = issue(directory, node_id, out, hosts=hosts, days=days, roles=roles)
    return node_id, files, mesh_keys.copy(directory, out)


def trust_domain_of(directory: Path) -> str:
    """What the CA's name constraints hold it to. Raises `Invalid` for a directory without such a CA."""
    file = directory / CA_FILE
    try:
        cert = x509.load_pem_x509_certificate(file.read_bytes())
        constraints = cert.extensions.get_extension_for_class(x509.NameConstraints).value
    except OSError as e:
        mend = f"'toolmesh ca init {directory} --trust-domain DOMAIN' makes a CA"
        raise Invalid(f"{file} cannot be read: {e.strerror or e}; {mend}") from None
    except (ValueError, x509.ExtensionNotFound) as e:
        raise Invalid(f"{file} is not a CA of a mesh ({e}); 'toolmesh ca init' makes one") from None
    for subtree in constraints.permitted_subtrees or ():
        if isinstance(subtree, x509.UniformResourceIdentifier):
            return subtree.value
    raise Invalid(f"{file} names no trust domain; 'toolmesh ca init' makes a CA that does")
