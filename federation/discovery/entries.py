"""What nodes write about themselves into a shared store of keys: `PREFIX/MESH/nodes/ID` → a JSON object.

`ID` is the node id without its scheme, so that `etcdctl get --prefix PREFIX/MESH/nodes/` reads well. Whatever stands
there is a claim of whoever may write; TLS proves it, or does not.
"""

from __future__ import annotations

from dataclasses import dataclass

from federation.tls import split_address
from proto import jsons
from proto.errors import Invalid
from proto.names import NodeId

VALUE_BYTES_MAX = 4_096
_SCHEME = "spiffe://"
_SHOWN_MAX = 120


@dataclass(frozen=True, slots=True)
class Entry:
    """`address` is `host:port`; `instance` tells one life of a process from the next; `software` is for people."""

    address: str
    instance: str
    software: str = ""

    def value(self) -> bytes:
        return jsons.dumps({"address": self.address, "instance": self.instance, "software": self.software})


def folder(prefix: str, mesh: str) -> bytes:
    """Where the nodes of one mesh are; every key of theirs begins with it."""
    return f"{prefix}/{mesh}/nodes/".encode()


def key_of(where: bytes, node: NodeId) -> bytes:
    return where + node.uri.removeprefix(_SCHEME).encode()


def node_of(where: bytes, key: bytes) -> NodeId:
    """Raises `Invalid` for a key that `key_of` does not make."""
    try:
        return NodeId.parse(_SCHEME + key.removeprefix(where).decode())
    except UnicodeDecodeError:
        raise Invalid("its key is not UTF-8") from None


def read_entry(value: bytes) -> Entry:
    """Raises `Invalid` for what is no entry; members of later releases are ignored."""
    if len(value) > VALUE_BYTES_MAX:
        raise Invalid(f"its value is {len(value)} bytes long; at most {VALUE_BYTES_MAX} are read")
    data = jsons.loads_object(value, "its value")
    address, instance, software = (data.get(name, "") for name in ("address", "instance", "software"))
    if not isinstance(address, str) or not address:
        raise Invalid("its value lacks an address")
    split_address(address)
    return Entry(address, instance if isinstance(instance, str) else "", software if isinstance(software, str) else "")


def shown(key: bytes) -> str:
    """A key for a log line: one line, whatever it holds."""
    return repr(key.decode("utf-8", "replace")[:_SHOWN_MAX])
