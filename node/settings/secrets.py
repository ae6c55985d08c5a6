"""Where this node keeps secrets, under which key; and what `{store: NAME}` in a configuration leads to."""

from __future__ import annotations

import json
import stat
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, SecretStr, ValidationError, ValidationInfo, model_validator

from node.secrets.keys import parsed_key
from node.secrets.sqlite import FILE, SqliteSecrets
from node.settings.values import Section, base_of, read_secret_env, read_secret_file
from proto.errors import MeshError

_OTHERS = stat.S_IRWXO | stat.S_IWGRP
"""What a key's file must not allow: anything to others, writing to its group."""


def _key(value: Any, info: ValidationInfo) -> Any:
    if isinstance(value, SecretStr) or value is None:
        return value
    # A variable of the environment brings it as text.
    if isinstance(value, str) and value.startswith("{"):
        with suppress(ValueError):
            value = json.loads(value)
    if not (isinstance(value, dict) and len(value) == 1 and value.keys() <= {"file", "env"}):
        raise ValueError("must be {file: PATH} or {env: VARIABLE}: a key does not stand in a configuration")
    ((how, where),) = value.items()
    if not isinstance(where, str):
        raise ValueError(f"'{how}' must be text")
    if how == "env":
        text = read_secret_env(where)
    else:
        text = read_secret_file(where, info)
        path = base_of(info) / Path(where).expanduser()
        if path.stat().st_mode & _OTHERS:
            raise ValueError(f"file {str(path)!r} can be read or changed by others; 'chmod 600' it")
    parsed_key(text)
    return SecretStr(text.strip())


StoreKey = Annotated[SecretStr, BeforeValidator(_key)]


class SecretsSection(Section):
    """The encrypted store in `node.data_dir`: there if `key` is given. `old_key` opens it until it was rotated."""

    key: StoreKey | None = None
    old_key: StoreKey | None = None

    @model_validator(mode="after")
    def _keys(self) -> SecretsSection:
        if self.old_key is not None:
            if self.key is None:
                raise ValueError("'old_key' is for while 'key' is changed; give the new one as 'key'")
            if self.old_key.get_secret_value() == self.key.get_secret_value():
                raise ValueError("'old_key' is the same as 'key'; remove it")
        return self

    def store(self, data_dir: Path) -> SqliteSecrets | None:
        """Made closed; None without a key."""
        if self.key is None:
            return None
        old = parsed_key(self.old_key.get_secret_value()) if self.old_key is not None else None
        return SqliteSecrets(data_dir / FILE, parsed_key(self.key.get_secret_value()), old)


class StoredSecrets:
    """What `{store: NAME}` leads to while a configuration is read, whose own sections say where the store is.

    `close` when it has been read.
    """

    def __init__(self, data: Mapping[str, Any], base: Path) -> None:
        self._data = data
        self._base = base
        self._store: SqliteSecrets | None = None

    def get(self, name: str) -> str:
        """Raises `ValueError` with the mend."""
        try:
            if self._store is None:
                self._store = opened_store(self._data, self._base)
            return self._store.get(name)
        except MeshError as e:
            raise ValueError(e.message) from None

    def close(self) -> None:
        if self._store is not None:
            self._store.close()


def opened_store(data: Mapping[str, Any], base: Path) -> SqliteSecrets:
    """The store of a configuration that need not be sound otherwise. Raises `ValueError` where it names none."""
    from node.settings.sections import NodeSection

    context = {"base": base}
    try:
        section = SecretsSection.model_validate(data.get("secrets") or {}, context=context)
        node = data.get("node")
        raw = node.get("data_dir") if isinstance(node, dict) else None
        kept = NodeSection.model_validate({} if raw is None else {"data_dir": raw}, context=context)
    except ValidationError as e:
        first = e.errors(include_url=False, include_input=False)[0]
        where, why = ".".join(map(str, first["loc"])), first["msg"].removeprefix("Value error, ")
        raise ValueError(f"the store cannot be opened: {where or 'secrets'}: {why}") from None
    store = section.store(kept.data_dir)
    if store is None:
        raise ValueError("this node has no store of secrets; give secrets.key ('toolmesh secrets key' makes one)")
    return store
