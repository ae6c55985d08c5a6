"""`SecretStore` for as long as the process lives."""

from __future__ import annotations

from node.secrets.ports import SECRETS_MAX, checked_name, checked_value
from proto.errors import Exhausted, Unknown


class MemorySecrets:
    def __init__(self) -> None:
        self._values: dict[str, str] = {}

    def __repr__(self) -> str:
        return f"MemorySecrets({len(self._values)})"

    def get(self, name: str) -> str:
        value = self._values.get(checked_name(name))
        if value is None:
            raise Unknown(f"no secret is named {name!r}")
        return value

    def set(self, name: str, value: str) -> None:
        if checked_name(name) not in self._values and len(self._values) >= SECRETS_MAX:
            raise Exhausted(f"{SECRETS_MAX} secrets are kept already; remove one first")
        self._values[name] = checked_value(name, value)

    def remove(self, name: str) -> bool:
        return self._values.pop(checked_name(name), None) is not None

    def names(self, prefix: str = "") -> list[str]:
        return sorted(name for name in self._values if name.startswith(prefix))

    def close(self) -> None:
        return
