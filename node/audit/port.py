"""What the other parts tell the audit, and its twin that keeps nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from node.ports import Resource
from proto.calls import Call
from proto.records import Decision, Principal

if TYPE_CHECKING:
    from node.ports import Ended


class Audit(Protocol):
    """One method for each kind of record. All are called on the node's loop. None blocks; only `ready` ever raises.

    Nothing that is given is copied or looked at before the method returns: JSON values (params, answers, `before`,
    `after`) must not change afterwards. Texts are cut at their bounds; no secret may be among them.
    """

    def ready(self) -> None:
        """Raises `Unavailable` if no call may begin, because it could not be recorded (`audit.overflow: refuse`)."""

    def call(self, call: Call, ended: Ended) -> None:
        """A call has ended at this node, as entry or as owner; `call` is the one that was admitted or refused."""

    def decision(
        self,
        principal: Principal,
        action: str,
        resource: Resource,
        decision: Decision,
        *,
        call_id: str = "",
        shadow: str = "",
    ) -> None:
        """A denial with its true reason, of what never became a call; or, with `shadow` the name of a policy in
        shadow mode, what that policy would have decided otherwise."""

    def signin(self, address: str, scheme: str, reason: str) -> None:
        """Someone at `address` was not believed. `scheme`: what was presented (bearer, basic, key, certificate, none).

        Beyond a rate per address they are counted, and told by one record.
        """

    def admin(
        self,
        principal: Principal,
        verb: str,
        what: str,
        outcome: str = "ok",
        *,
        reason: str = "",
        before: Any = None,
        after: Any = None,
    ) -> None:
        """An operator's act: `verb` as typed ("key create"), `what` it was done to, `outcome` ok or an error's kind.

        `before` and `after` are JSON values; digests of them are kept.
        """

    def peer(self, node: str, event: str, *, reason: str = "", **facts: Any) -> None:
        """Another node has become something ("alive", "left"), refused or was refused, or raised an alarm."""

    def system(self, event: str, *, reason: str = "", **facts: Any) -> None:
        """This node itself: start, stop, and what its operators must be able to prove. `facts` are JSON values."""


class NoAudit:
    """`Audit` of a node that keeps no record, and of tests."""

    def ready(self) -> None:
        return

    def call(self, call: Call, ended: Ended) -> None:
        return

    def decision(
        self,
        principal: Principal,
        action: str,
        resource: Resource,
        decision: Decision,
        *,
        call_id: str = "",
        shadow: str = "",
    ) -> None:
        return

    def signin(self, address: str, scheme: str, reason: str) -> None:
        return

    def admin(
        self,
        principal: Principal,
        verb: str,
        what: str,
        outcome: str = "ok",
        *,
        reason: str = "",
        before: Any = None,
        after: Any = None,
    ) -> None:
        return

    def peer(self, node: str, event: str, *, reason: str = "", **facts: Any) -> None:
        return

    def system(self, event: str, *, reason: str = "", **facts: Any) -> None:
        return
