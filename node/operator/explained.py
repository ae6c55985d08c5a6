"""The shape of an answer to "why is this tool not visible, or not chosen"."""

from __future__ import annotations

from typing import TypedDict


class Finding(TypedDict):
    """One thing that was looked at. `about` is a word of `node.explaining.About`.

    `ok` is true where it is as it should be, false where it stands in the way, null where it is only said. `mend` is
    empty where there is nothing to mend.
    """

    about: str
    ok: bool | None
    text: str
    mend: str


class OwnerFinding(TypedDict):
    """One owner of the tool. `state` is the node's, `server` the server's; `digest` begins the definition's hash.

    `why_not` is empty if the next call may go there. `in_flight` and `latency_ms` (0: none seen) are of the calls
    that this node sent, `warmth` below 1 while it is given fewer calls after it came up or back.
    """

    node: str
    region: str
    qualified: str
    state: str
    server: str
    digest: str
    in_flight: int
    latency_ms: float
    warmth: float
    why_not: str


class Explanation(TypedDict):
    """`server` and `tool` as they were understood; `principal` is who was asked for.

    `visible`: the principal finds it in lists and search; `callable`: a call of it now has an owner to go to.
    """

    server: str
    tool: str
    principal: str
    visible: bool
    callable: bool
    verdict: str
    findings: list[Finding]
    owners: list[OwnerFinding]
