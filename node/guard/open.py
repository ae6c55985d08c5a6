"""No locks: the allow-all twins of the guard and the authenticator, for one machine and for tests."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass

from node.ports import Action, Admission, Credentials, Ended, Resource, Visibility
from proto.calls import Answer, Call
from proto.records import ANONYMOUS, Decision, Principal

_ALLOWED = Decision(allowed=True, rule="open")


@dataclass(frozen=True, slots=True)
class _Everything:
    key: Hashable = "open"

    def allows(self, resource: Resource) -> bool:
        return True


_EVERYTHING = _Everything()


class OpenGuard:
    """Everyone sees and may run everything."""

    def visible(self, principal: Principal, action: Action) -> Visibility:
        return _EVERYTHING

    def explain(self, principal: Principal, action: Action, resource: Resource) -> Decision:
        return _ALLOWED

    def may(self, principal: Principal, action: Action, resource: Resource) -> Decision:
        return _ALLOWED

    async def admit(self, call: Call, *resources: Resource) -> Admission:
        return Admission(call, _ALLOWED, resources)

    async def result(self, call: Call, answer: Answer) -> Answer:
        return answer

    def settle(self, call: Call, ended: Ended) -> None:
        return


class OpenAuthenticator:
    """Everyone is anonymous. For listeners that only this machine can reach: the configuration sees to that."""

    async def authenticate(self, credentials: Credentials) -> Principal:
        return ANONYMOUS

    def valid(self, principal: Principal) -> bool:
        return True

    def principals(self) -> Mapping[str, Principal]:
        return {ANONYMOUS.subject: ANONYMOUS}
