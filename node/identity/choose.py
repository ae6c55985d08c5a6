"""Who a configuration lets in, as one authenticator."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from node.guard.governed import Governance, KeyRecord, Ungoverned
from node.identity.audience import Audience
from node.identity.certificates import Certificates
from node.identity.chain import Chain, Keep
from node.identity.keys import KeyRing
from node.identity.users import Users
from node.settings.auth import AuthSection, KeyConfig

if TYPE_CHECKING:
    from node.outbound.outbound import Outbound


def authenticator_of(
    auth: AuthSection,
    mesh: str,
    *,
    governance: Governance | None = None,
    outbound: Outbound | None = None,
    public_url: str = "",
    keep: Keep | None = None,
    now_s: Callable[[], float] = time.time,
) -> Chain:
    """`mesh` becomes the issuer of callers that this node itself knows; `outbound` dials the issuers of tokens."""
    governance = governance or Ungoverned()
    issuers = []
    if auth.issuers:
        # Not before they are needed: they bring the libraries for signatures.
        from node.identity.issuer import Issuer
        from node.outbound.outbound import Outbound

        outbound = outbound or Outbound()
        issuers = [Issuer(config, outbound, now_s) for config in auth.issuers]
    return Chain(
        keys=KeyRing([_record(key) for key in auth.keys], mesh, governance, [user.name for user in auth.users]),
        users=Users(auth.users, mesh),
        certificates=Certificates(auth.certificates, mesh),
        issuers=issuers,
        audience=Audience(public_url),
        governance=governance,
        required=auth.demanded,
        keep=keep,
        now_s=now_s,
    )


def _record(key: KeyConfig) -> KeyRecord:
    return KeyRecord(
        key.name, key.digest, key.tenant, key.groups, key.scopes, key.servers, key.expires_s, key.addresses
    )
