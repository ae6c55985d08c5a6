"""What operators of a tenant may lay down: keys of that tenant, named after it, with no more than they hold. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from node.governance.asked import Asked
from node.guard.governed import KeyRecord
from proto.errors import Forbidden, Invalid
from proto.records import Kind, Principal


def within(asked: Asked, principal: Principal, keys: Iterable[KeyRecord]) -> Asked:
    """The change as this principal may ask for it; `keys` are all that authorities have laid down.

    Who belongs to no tenant asks for what he likes. Raises `Forbidden`, which is answered as if there were nothing; and
    `Invalid` for what says nothing of others, so that it can be mended: the name, and more than the principal holds.
    """
    tenant = principal.tenant
    if not tenant:
        return asked
    if asked.kind is not Kind.KEY:
        raise Forbidden(f"{principal.subject!r} is of tenant {tenant!r}, and {asked.verb!r} is for the whole mesh")
    known = [key for key in keys if key.name == asked.id]
    if asked.do == "set" and not known and not asked.id.startswith(f"{tenant}."):
        # Policies, roles and revocations know a key by its name, on every node: with a free choice of names one tenant
        # could take another caller's rights, or revoke them.
        raise Invalid(f"{principal.subject!r} is of tenant {tenant!r}, whose keys are named '{tenant}.…'")
    if any(key.tenant != tenant for key in known) or (asked.do == "remove" and not known):
        raise Forbidden(f"{principal.subject!r} is of tenant {tenant!r}, which has no key {asked.id!r}")
    if asked.do == "remove":
        return asked
    if asked.data.get("tenant", tenant) != tenant:
        raise Forbidden(f"{principal.subject!r} is of tenant {tenant!r}, and makes no keys of another")
    for field, held in (("scopes", principal.scopes), ("groups", principal.groups)):
        given = asked.data.get(field)
        more = [word for word in given if word not in held] if isinstance(given, list) else []
        if more:
            raise Invalid(f"{principal.subject!r} does not hold {field} {more[0]!r}, and gives them to nobody")
    return replace(asked, data={**asked.data, "tenant": tenant})
