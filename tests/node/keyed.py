"""The authenticator of a node that knows some API keys and nothing else."""

from __future__ import annotations

from collections.abc import Sequence

from node.guard.keys import ApiKey
from node.identity.chain import Chain
from node.identity.choose import authenticator_of
from node.settings.auth import AuthSection


def keyed(keys: Sequence[ApiKey], mesh: str) -> Chain:
    entries = [
        {"name": k.name, "sha256": k.digest.hex(), "tenant": k.tenant, "groups": k.groups, "scopes": k.scopes}
        for k in keys
    ]
    return authenticator_of(AuthSection.model_validate({"keys": entries, "required": True}), mesh)
