"""Certificates from the command line: which trust domain a CA is for, and what was issued."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from cryptography import x509

from federation.ca import CA_FILE, IssuedFiles, issue
from proto.errors import Invalid
from proto.names import NodeId


def issue_for(
    directory: Path, node: str, region: str, out: Path, *, hosts: Sequence[str], days: int, roles: Sequence[str]
) -> tuple[NodeId, IssuedFiles]:
    """A certificate for one node of the CA's own trust domain. Raises `Invalid`."""
    node_id = NodeId.of(trust_domain_of(directory), region, node)
    return node_id, issue(directory, node_id, out, hosts=hosts, days=days, roles=roles)


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
