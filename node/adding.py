"""Servers of a node's catalogue on their way in: who may add one, and whether an approver must agree first."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from node.approvals import Approval, Approvals
from node.audit.port import Audit
from node.catalog import Catalog, Server, unknown_server
from node.denials import is_anothers, tell_operators
from node.hosting import Hosting
from node.ports import Action, Caller, Guard, Resource
from node.settings.servers import ServerConfig
from node.store import ServerNames
from node.upstreams.spec import UpstreamSpec
from proto.errors import Unavailable
from proto.names import check_server_name
from proto.records import Decision, Principal

APPROVAL = "approval"
"""The rule by which a server that waits for an approver is not added."""


class Adding:
    """`spec(name)` makes of an entry what is started or connected to; `added` are remembered from run to run."""

    def __init__(
        self,
        catalogue: Mapping[str, ServerConfig],
        catalog: Catalog,
        guard: Guard,
        hosting: Hosting,
        added: ServerNames,
        approvals: Approvals,
        audit: Audit,
        spec: Callable[[str], UpstreamSpec],
    ) -> None:
        self._catalogue = catalogue
        self._catalog = catalog
        self._guard = guard
        self._hosting = hosting
        self._added = added
        self._approvals = approvals
        self._audit = audit
        self.spec = spec

    def open(self) -> None:
        self._added.open()
        self._approvals.open()

    def close(self) -> None:
        self._approvals.close()
        self._added.close()

    def specs(self) -> dict[str, UpstreamSpec]:
        """What was added before, and may still be."""
        names = (name for name in self._added.names() if name in self._catalogue)
        return {name: self.spec(name) for name in names if self._approvals.admits(name)}

    async def add(self, name: str, caller: Caller) -> Server:
        """Bring it in. Raises `Unknown` where there is none, or none for this caller, and `Unavailable` where it does
        not start or an approver has not agreed, with the state in `data["approval"]`."""
        check_server_name(name)
        config = self._catalogue.get(name)
        me = self._catalog.me
        if config is None:
            raise unknown_server(name)
        wanted = Resource(
            server=name,
            owner=me.name,
            region=me.region,
            labels=config.labels,
            tenant=config.tenant,
            teams=config.teams,
            service=config.service,
        )
        decision = self._guard.may(caller.principal, Action.ADD, wanted)
        if not decision.allowed:
            if is_anothers(caller.principal, wanted, decision):
                tell_operators(self._audit, caller.principal, Action.ADD, wanted, decision)
            else:
                self._audit.decision(caller.principal, Action.ADD.value, wanted, decision)
            raise unknown_server(name)
        if not self._approvals.admits(name):
            asked = self._approvals.ask(name, caller.principal)
            self._audit.decision(
                caller.principal, Action.ADD.value, wanted, Decision(False, f"it is {asked.state}", APPROVAL)
            )
            raise _not_approved(name, asked.state)
        await self._hosting.add(name, self.spec(name), self._added.add)
        server = self._catalog.find(me.name, name)
        if server is None:
            raise Unavailable(f"server {name!r} went away while it was added", server=name)
        return server

    def approvals(self) -> list[tuple[Approval, ServerConfig]]:
        """Every server that waits for an approver, or has, with its entry."""
        return [(approval, self._catalogue[approval.server]) for approval in self._approvals.all()]

    async def decide(self, name: str, approved: bool, by: Principal, reason: str = "") -> tuple[Approval, Approval]:
        """Before and after. A server that is denied is stopped, and not started again. Raises like `Approvals`."""
        before, after = self._approvals.decide(name, approved, by, reason)
        if not approved:
            await self._hosting.drop(name)
            self._added.remove(name)
        return before, after


def _not_approved(name: str, state: str) -> Unavailable:
    if state == "denied":
        words = "is not added: an approver has denied it"
    else:
        words = (
            f"waits for an approver: once an operator of this node has typed 'toolmesh approve {name}', add it again"
        )
    return Unavailable(f"server {name!r} {words}", server=name, approval=state)
