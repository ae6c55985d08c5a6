"""Why a tool is not visible to somebody, or not chosen: one question, whatever of the node knows the answer."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice

from federation.events import Liveness
from federation.status import PeerStatus
from node.catalog import SERVING
from node.explaining.asked import Meant, holders, near, split_name, understand
from node.explaining.case import OWNERS_MAX, Case, Sources
from node.explaining.findings import About, no, say
from node.operator.explained import Explanation, Finding
from node.words import count
from proto.names import member_id
from proto.records import Kind, Principal, RecordKey


def explain(of: Sources, server: str, tool: str, principal: Principal) -> Explanation:
    """Without `server`, `tool` is what a person typed."""
    typed = f"{server}/{tool}" if server and tool else server or tool
    meant = Meant(server, tool) if server else understand(tool, of.catalog)
    if len(meant.choices) > 1:
        return _answer(meant, principal, *_ambiguous(meant))
    found = holders(of.catalog, meant.server) if meant.server else []
    refused = list(_refused(of, meant))
    if not found:
        return _answer(meant, principal, *_unknown(of, typed, meant, refused))
    return Case(of, meant, found, principal).answer(refused)


def _unknown(of: Sources, typed: str, meant: Meant, refused: list[Finding]) -> tuple[str, list[Finding]]:
    like = near(typed, meant, of.catalog)
    mend = f"nearest names: {', '.join(like)}" if like else "'toolmesh status' lists every server that is known"
    findings = [no(About.NAME, f"no server or tool known here is named {typed!r}", mend), *refused]
    bare = split_name(meant.server)
    if bare in of.catalogue:
        text = f"{bare!r} is in this node's catalogue and has not been added"
        mend = f"an agent adds it with add_mcp_server, or move it to servers.{bare}"
        if bare in of.unapproved:
            mend = f"'toolmesh approve {bare}' lets agents add it, with add_mcp_server"
        findings.append(no(About.SERVER, text, mend))
        return f"not running: {text}", findings
    if not of.loaded:
        findings.append(say(About.SERVER, "this node's own servers are still being started"))
    empty = [p for p in of.peers if p.state not in SERVING and not p.records]
    left = _names(p for p in empty if p.state is Liveness.LEFT)
    if away := _names(p for p in empty if p.state is not Liveness.LEFT):
        findings.append(say(About.OWNER, f"away, and nothing is held of them, so they may have it: {away}"))
    if left:
        findings.append(say(About.OWNER, f"left the mesh for good, and took what they had with them: {left}"))
    if refused:
        return f"not in the mesh: its record is refused; {refused[0]['text']}", findings
    return f"not in the mesh: nothing known here is named {typed!r}" + f"; {mend}" * bool(like), findings


def _names(peers: Iterable[PeerStatus]) -> str:
    return ", ".join(islice((p.node.name for p in peers if p.node), OWNERS_MAX))


def _refused(of: Sources, meant: Meant) -> Iterator[Finding]:
    """Records of this name that a node would not take, here or elsewhere."""
    bare = split_name(meant.server)
    keys = {RecordKey(Kind.SERVER, bare), RecordKey(Kind.TOOL, member_id(bare, meant.tool))} if bare else set()

    def asked(key: RecordKey) -> bool:
        return key in keys or (not bare and key.kind is Kind.TOOL and key.id.endswith(f"/{meant.tool}"))

    for p in of.peers:
        node = p.node.name if p.node else p.address
        for key, reason in p.rejected:
            if asked(key):
                yield no(
                    About.RECORD, f"{key.kind} {key.id!r} of {node} is refused here: {reason}", f"mend it at {node}"
                )
        for key, reason in p.refused_there:
            if asked(key):
                yield no(About.RECORD, f"{node} refuses this node's {key.kind} {key.id!r}: {reason}", "mend it here")
    for name, owner in of.catalog.owners.items():
        for key, reason in owner.left_out.items():
            if asked(key):
                text = f"{key.kind} {key.id!r} of {name} cannot be worked with here: {reason}"
                yield no(About.RECORD, text, f"mend it at {name}")
    for r in of.refusals:
        # An own record that may not leave this node: only the sentence names it.
        if r.who == of.catalog.me.uri and any(f"{key.kind} {key.id!r}:" in r.message for key in keys):
            yield no(About.RECORD, f"this node does not publish its {r.message}", "mend it here")


def _ambiguous(meant: Meant) -> tuple[str, list[Finding]]:
    shown = [f"{server}/{meant.tool}" for server in meant.choices[:OWNERS_MAX]]
    text = f"{count(len(meant.choices), 'server')} have a tool {meant.tool!r}: {', '.join(shown)}"
    return f"several: {text}", [no(About.NAME, text, f"say which one: toolmesh explain {shown[0]}")]


def _answer(meant: Meant, principal: Principal, verdict: str, findings: list[Finding]) -> Explanation:
    return {
        "server": meant.server,
        "tool": meant.tool,
        "principal": principal.subject,
        "visible": False,
        "callable": False,
        "verdict": verdict,
        "findings": findings,
        "owners": [],
    }
