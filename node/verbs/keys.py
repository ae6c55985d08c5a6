"""A fresh API key and the entry that lets it in."""

from __future__ import annotations

import hashlib

from node.identity.keys import fresh_key
from node.settings.auth import KeyConfig
from node.settings.explain import explain
from node.settings.source import Document
from proto.errors import Invalid


def new_key(name: str) -> tuple[str, str]:
    """(the key, the YAML entry for `auth.keys` with its SHA-256). Raises `Invalid` for a name that no key may have."""
    from pydantic import ValidationError

    key = fresh_key(name)
    digest = hashlib.sha256(key.encode()).hexdigest()
    try:
        KeyConfig(name=name, sha256=digest)
    except ValidationError as e:
        raise Invalid("\n".join(explain(e, KeyConfig, Document("NAME", {})))) from None
    return key, f'auth:\n  keys:\n    - name: {name}\n      sha256: {digest}\n      servers: ["*"]\n'
