"""One change of what is laid down, as an operator asks for it and as nodes carry it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from node.governance.changes import changeable
from proto.errors import Invalid
from proto.records import Kind

VERBS: Mapping[tuple[str, Kind], str] = {
    ("set", Kind.KEY): "key create",
    ("remove", Kind.KEY): "key revoke",
    ("set", Kind.POLICY): "policy set",
    ("remove", Kind.POLICY): "policy remove",
    ("set", Kind.TENANT): "tenant set",
    ("remove", Kind.TENANT): "tenant remove",
    ("set", Kind.QUARANTINE): "disable",
    ("remove", Kind.QUARANTINE): "enable",
    ("set", Kind.REVOCATION): "revoke",
    ("remove", Kind.REVOCATION): "revoke --lift",
}


@dataclass(frozen=True, slots=True)
class Asked:
    """One change. `data` is the body's JSON; of a removal, what tells which of several is meant."""

    do: Literal["set", "remove"]
    kind: Kind
    id: str
    data: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def parse(cls, params: Mapping[str, Any]) -> Asked:
        """As it was carried. Raises `Invalid`."""
        do, kind, name, data = (params.get(k) for k in ("do", "kind", "id", "data"))
        if do not in ("set", "remove") or not isinstance(kind, str) or not isinstance(name, str):
            raise Invalid("a change says what to do ('set' or 'remove'), of which 'kind', and its 'id'")
        if not isinstance(data, dict):
            raise Invalid("'data' must be an object")
        return cls(do, changeable(kind), name, data)

    @property
    def params(self) -> dict[str, Any]:
        return {"do": self.do, "kind": str(self.kind), "id": self.id, "data": dict(self.data)}

    @property
    def verb(self) -> str:
        return VERBS[self.do, self.kind]

    @property
    def what(self) -> str:
        parts = [self.id, self.data.get("tool"), self.data.get("owner")] if self.kind is Kind.QUARANTINE else [self.id]
        return "/".join(str(part) for part in parts if part)
