"""From the meta-tools to feedback: what a search showed to whom, and which calls of that succeeded."""

from __future__ import annotations

from node.catalog import Catalog
from node.indexing import entry
from node.ports import Action, Caller, Guard
from node.searching import who
from proto.calls import Answer
from proto.errors import MeshError
from proto.records import Kind
from router.feedback import Feedback
from router.findings import Findings


class Experience:
    """Without a `feedback` nothing is noted."""

    def __init__(self, feedback: Feedback | None, catalog: Catalog, guard: Guard) -> None:
        self._feedback = feedback
        self._catalog = catalog
        self._guard = guard

    def shown(self, caller: Caller, found: Findings) -> None:
        if self._feedback is not None:
            self._feedback.shown(who(caller), found.result.vector, [placed.hit.entry for placed in found.usable])

    def called(self, caller: Caller, server: str, tool: str, answer: Answer) -> None:
        """A call of a tool, under the name that the caller used for its server, was answered. Never raises."""
        if self._feedback is None or not _succeeded(answer):
            return
        try:
            visibility = self._guard.visible(caller.principal, Action.CALL)
            route = self._catalog.route(server, visibility)
        except MeshError:
            # It went away while it answered.
            return
        member = route.shown(Kind.TOOL, tool, visibility)
        for offering in route.servers:
            offered = offering.tools.get(tool)
            if member is not None and offered is not None and offered.digest == member.digest:
                self._feedback.called(who(caller), entry(offering, tool), ok=True)
                return


def _succeeded(answer: Answer) -> bool:
    """A result, complete, and not that of a tool that failed; a task that has only begun may still fail."""
    result = answer.get("result")
    return (
        isinstance(result, dict)
        and result.get("isError") is not True
        and result.get("resultType", "complete") == "complete"
        and "task" not in result
    )
