"""One name that some nodes hold, asked of for one principal: all that a call would meet, in the order it meets it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from federation.events import Liveness
from federation.refusals import Refusal
from federation.status import PeerStatus
from node.balance import Tier, tier, why_not
from node.catalog import SERVING, Catalog, Member, Route, Server
from node.explaining.asked import Meant, near, split_name
from node.explaining.findings import About, no, say, short, yes
from node.gateway import Gateway
from node.operator.explained import Explanation, Finding, OwnerFinding
from node.ports import Action, Guard
from node.words import count, duration
from proto.errors import Conflict, MeshError
from proto.records import Decision, Kind, Principal
from router.ports import ToolKey
from router.router import Router

OWNERS_MAX = 64
"""Owners that are looked at one by one; the rest is counted."""

REASONS_MAX = 2
"""In the one line of the verdict; the findings have them all."""

ACTIONS = (Action.SEARCH, Action.LIST, Action.CALL)

_TIERS = {Tier.NODE: "this node", Tier.ZONE: "same zone", Tier.REGION: "same region", Tier.FAR: "another region"}
_AWAY = {
    Liveness.SUSPECT: "wait: a probe and witnesses decide within seconds",
    Liveness.UNREACHABLE: "is the network to it cut, or its certificate refused? 'toolmesh peers {node}' says more",
    Liveness.DOWN: "start it again, or read its log",
    Liveness.LEFT: "it said goodbye for good; start it again if that was not meant",
}


@dataclass(frozen=True, slots=True)
class Sources:
    """What a node knows. `catalogue` names servers that it could start when asked, `unapproved` those of them
    that wait for an operator's word; `loaded`: its own are started."""

    catalog: Catalog
    guard: Guard
    gateway: Gateway
    router: Router
    peers: Sequence[PeerStatus]
    refusals: Sequence[Refusal]
    catalogue: frozenset[str]
    unapproved: frozenset[str]
    loaded: bool


class Case:
    """One name that some nodes hold, asked of for one principal."""

    def __init__(self, of: Sources, meant: Meant, found: list[Server], principal: Principal) -> None:
        self._of = of
        self._meant = meant
        self._principal = principal
        self._all = found
        self._shown = found[:OWNERS_MAX]
        self._having = [s for s in found if not meant.tool or meant.tool in s.tools]
        self._peers = {p.node.name: p for p in of.peers if p.node}
        self._call = of.guard.visible(principal, Action.CALL)
        self._findings: list[Finding] = []
        self._conflict = ""

    def answer(self, refused: list[Finding]) -> Explanation:
        findings = self._findings
        findings.append(self._name())
        findings.append(self._who())
        findings += refused
        for server in self._shown:
            findings += self._owner(server)
        if len(self._all) > len(self._shown):
            findings.append(say(About.OWNER, f"and {count(len(self._all) - len(self._shown), 'more owner')}"))
        findings += self._policy()
        route = self._route()
        agreed = route.member(Kind.TOOL, self._meant.tool) if route and self._meant.tool else None
        findings += self._definitions(agreed)
        findings += self._search()
        if route and route.service and not all(s.stateless for s in route.servers):
            findings.append(say(About.SESSION, "stateful: calls of one session stay with the owner of its first call"))
        owners, goes = self._choice(route, agreed)
        visible = self._visible()
        verdict = self._verdict(visible, goes)
        meant, who = self._meant, self._principal.subject
        return {
            "server": meant.server,
            "tool": meant.tool,
            "principal": who,
            "visible": visible,
            "callable": visible and bool(goes),
            "verdict": verdict,
            "findings": findings,
            "owners": owners,
        }

    # ---- what is looked at, in the order in which a call meets it ---------------------------------

    def _name(self) -> Finding:
        name, found = self._meant.server, self._all
        what = f"tool {self._meant.tool!r} of {name!r}, " if self._meant.tool else f"{name!r}, "
        if "--" in name:
            return yes(About.NAME, f"{what}one server on one node")
        if found[0].service == name:
            owners = ", ".join(s.qualified for s in self._shown)
            return yes(About.NAME, f"{what}a service of {count(len(found), 'owner')}: {owners}")
        return yes(About.NAME, f"{what}a server of {', '.join(s.owner.id.name for s in self._shown)}")

    def _who(self) -> Finding:
        p = self._principal
        if p.kind == "anonymous":
            return say(About.PRINCIPAL, "anonymous: an agent who showed no key, here or at a peer without keys")
        more = "".join(f", {word} {v}" for word, v in (("tenant", p.tenant), ("scopes", " ".join(p.scopes))) if v)
        return say(
            About.PRINCIPAL,
            f"{p.subject}: {'signs in with a password' if p.kind == 'user' else 'holder of a key'} of this node{more}",
        )

    def _owner(self, server: Server) -> Iterator[Finding]:
        owner, node, me = server.owner, server.owner.id.name, self._of.catalog.me
        peer = self._peers.get(node)
        since = f" for {duration(peer.since_ms / 1000)}" if peer else ""
        why = f": {peer.cause}" if peer and peer.cause else ""
        gone = "" if owner.listed else "; its tools have left the lists"
        where = "this node" if owner.id == me else owner.id.region
        if owner.liveness is Liveness.DRAINING or (owner.id == me and self._of.gateway.draining):
            yield say(About.OWNER, f"{node} ({where}) drains: others are asked first", "'toolmesh drain --undo' there")
        elif owner.liveness in SERVING:
            yield yes(About.OWNER, f"{node} ({where}) is alive{since}")
        else:
            mend = _AWAY[owner.liveness].format(node=node)
            yield no(About.OWNER, f"{node} ({where}) is {owner.liveness}{since}{why}{gone}", mend)
            return
        yield self._server(server)
        if self._meant.tool and _untold(server):
            yield say(About.TOOL, f"the tools of {server.qualified} are not known: it has not come up yet")
        elif self._meant.tool and self._meant.tool not in server.tools:
            like = near(self._meant.tool, self._meant, self._of.catalog)
            mend = f"nearest names: {', '.join(like)}" if like else ""
            if owner.id != me:
                # Only the owner knows of a tool that it has and may not publish.
                ask = f"ask its owner: 'toolmesh explain {server.name}/{self._meant.tool}' at {node}"
                mend = f"{mend}; {ask}" if mend else ask
            yield no(About.TOOL, f"{server.qualified} offers no tool {self._meant.tool!r}", mend)

    def _server(self, server: Server) -> Finding:
        state, cause = server.health.get("state") or "", server.health.get("cause") or ""
        if server.info is None:
            return no(About.SERVER, f"{server.qualified}: its own record is missing", "is it refused? See 'record'")
        if state == "up":
            return yes(About.SERVER, f"{server.qualified} is up, {count(len(server.tools), 'tool')}")
        why = f": {cause}" if cause else ""
        node = server.owner.id.name
        mend = (
            "wait" if state == "starting" else f"mend servers.{server.name} on {node}; the log of {node} has its words"
        )
        return no(About.SERVER, f"{server.qualified} is {state or 'not started'}{why}", mend)

    def _policy(self) -> Iterator[Finding]:
        """One line for what is decided alike."""
        who, guard = self._principal, self._of.guard
        groups: dict[Decision, dict[str, list[Action]]] = {}
        for server in self._shown:
            for action in ACTIONS:
                decision = guard.explain(who, action, server.resource(self._meant.tool))
                groups.setdefault(decision, {}).setdefault(server.qualified, []).append(action)
        for decision, servers in groups.items():
            actions = ", ".join(dict.fromkeys(a for some in servers.values() for a in some))
            names = ", ".join(servers)
            if decision.allowed:
                yield from self._scopes(servers)
                yield yes(About.POLICY, f"{who.subject} may {actions} {names} ({decision.rule})")
            else:
                mend = _mend(decision, next(iter(servers)))
                yield no(About.POLICY, f"{who.subject} may not {actions} {names}: {decision.reason}", mend)

    def _scopes(self, servers: Iterable[str]) -> Iterator[Finding]:
        """Visible, and a call would be told what is missing."""
        for server in self._shown:
            resource = server.resource(self._meant.tool)
            missing = [scope for scope in resource.scopes if scope not in self._principal.scopes]
            if missing and server.qualified in servers:
                words = f"{self._principal.subject} lacks scopes for {server.qualified}: {' '.join(missing)}"
                yield no(
                    About.POLICY, words, "grant them at the issuer, or with the key; servers.NAME.scopes asks for them"
                )

    def _route(self) -> Route | None:
        """What the name means to the principal when it calls."""
        try:
            route = self._of.catalog.route(self._meant.server, self._call)
        except Conflict as e:
            self._conflict = e.message
            mend = "use a qualified name, or declare the same 'service' on all of them if they are replicas"
            self._findings.append(no(About.CONFLICT, e.message, mend))
            return None
        except MeshError:
            return None
        tool = self._meant.tool
        servers = tuple(
            s for s in route.servers if self._call.allows(s.resource(tool)) and (not tool or tool in s.tools)
        )
        return Route(route.name, servers, route.service) if servers else None

    def _definitions(self, agreed: Member | None) -> Iterator[Finding]:
        tool = self._meant.tool
        if agreed is None or self._conflict:
            return
        by_digest: dict[bytes, list[str]] = {}
        for server in self._having:
            by_digest.setdefault(server.tools[tool].digest, []).append(server.owner.id.name)
        if len(by_digest) < 2:
            return
        for digest, nodes in sorted(by_digest.items(), key=lambda held: held[0] != agreed.digest):
            shown = ", ".join(nodes[:OWNERS_MAX])
            if digest == agreed.digest:
                text = f"definition {short(digest)} is the one that most owners have and that is listed: {shown}"
                yield yes(About.DEFINITION, text)
            else:
                text = f"definition {short(digest)} differs: {shown}; calls of what is listed do not go there"
                yield no(About.DEFINITION, text, "run the same release of the server on every owner")

    def _search(self) -> Iterator[Finding]:
        tool, router = self._meant.tool, self._of.router
        listed = [s for s in self._having if s.owner.listed and s.info is not None]
        if not tool or not listed:
            return
        keys = [ToolKey(s.owner.id.name, s.name, tool) for s in listed]
        status = router.status()
        if not any(router.knows(key) for key in keys):
            yield no(About.SEARCH, "search has not taken it up", "please report it: every listed tool should be there")
        elif status.mode == "lexical":
            yield say(
                About.SEARCH, f"search finds it by its words only: {status.problem or 'the model is being loaded'}"
            )
        elif router.waits(keys[0]):
            yield say(About.SEARCH, f"search finds it by its words; {count(status.pending, 'tool')} wait for the model")
        else:
            yield yes(About.SEARCH, "search finds it by words and by meaning")

    # ---- where a call goes, and the sum of it all --------------------------------------------------

    def _choice(self, route: Route | None, agreed: Member | None) -> tuple[list[OwnerFinding], list[Server]]:
        tool = self._meant.tool
        able = [s for s in route.servers if agreed is None or s.tools[tool].digest == agreed.digest] if route else []
        pairs = (
            self._of.gateway.candidates(Route(route.name, tuple(able), route.service), tool) if route and able else []
        )
        here = self._of.catalog.owners[self._of.catalog.me.name].place
        candidates = [candidate for _, candidate in pairs]
        known = {s.qualified: (c, _away(s) or why_not(here, candidates, c)) for s, c in pairs}
        owners: list[OwnerFinding] = []
        for server in self._shown:
            candidate, reason = known.get(server.qualified, (None, self._out(server, agreed)))
            member = server.tools.get(tool)
            owners.append(
                {
                    "node": server.owner.id.name,
                    "region": server.owner.id.region,
                    "qualified": server.qualified,
                    "state": str(server.owner.liveness),
                    "server": str((server.owner.liveness in SERVING and server.health.get("state")) or "unknown"),
                    "digest": short(member.digest) if member else "",
                    "in_flight": candidate.in_flight if candidate else 0,
                    "latency_ms": round(candidate.latency_ms, 3) if candidate else 0.0,
                    "warmth": round(candidate.warmth, 2) if candidate else 1.0,
                    "why_not": reason,
                }
            )
        return owners, [server for server, _ in pairs if not known[server.qualified][1]]

    def _out(self, server: Server, agreed: Member | None) -> str:
        """Why an owner is no candidate at all."""
        tool = self._meant.tool
        if self._conflict:
            return "the bare name is ambiguous; call it by its qualified name"
        if not server.owner.listed or server.info is None:
            return "it is not listed"
        if not self._call.allows(server.resource(tool)):
            return f"{self._principal.subject} may not call it"
        if tool and tool not in server.tools:
            return "its tools are not known yet" if _untold(server) else "it has no such tool"
        return "its definition differs from the one that is listed" if agreed else "it takes no part in the service"

    def _visible(self) -> bool:
        seen = [self._of.guard.visible(self._principal, action) for action in (Action.SEARCH, Action.LIST)]
        return any(
            all(v.allows(s.resource(self._meant.tool)) for v in seen)
            for s in self._having
            if s.owner.listed and s.info is not None
        )

    def _verdict(self, visible: bool, goes: list[Server]) -> str:
        who = self._principal.subject
        if not self._having:
            if any(map(_untold, self._shown)):
                return f"not known: {self._all_no(About.SERVER)}; which tools it has is known once it is up"
            return f"not in the mesh: {self._first_no(About.TOOL, About.SERVER, About.OWNER)}"
        if not visible:
            if any(s.owner.listed for s in self._having):
                return f"hidden from {who}: {self._first_no(About.POLICY, About.SERVER)}"
            return f"not listed: {self._first_no(About.OWNER)}"
        if self._conflict:
            return f"visible to {who}, by qualified names only: {self._conflict}"
        if not goes:
            why = self._all_no(About.SERVER, About.OWNER) or self._first_no(About.POLICY)
            return f"visible to {who}, but nobody can take a call now: {why}"
        here = self._of.catalog.owners[self._of.catalog.me.name].place
        where = _TIERS[tier(here, goes[0].owner.place)]
        if len(goes) == 1:
            return f"visible to {who}; a call now goes to {goes[0].owner.id.name} ({where})"
        names = " or ".join(s.owner.id.name for s in goes[:OWNERS_MAX])
        return f"visible to {who}; a call now goes to {names} ({where}), the less busy of two that are drawn"

    def _first_no(self, *about: About) -> str:
        """The first finding of that kind that stands in the way, kinds in the order of their weight."""
        for kind in about:
            for finding in self._findings:
                if finding["about"] == kind and finding["ok"] is False:
                    return finding["text"]
        return "see below"

    def _all_no(self, *about: About) -> str:
        """What stands in the way, of these kinds: the first few, and how many more."""
        found = [f["text"] for kind in about for f in self._findings if f["about"] == kind and f["ok"] is False]
        more = len(found) - REASONS_MAX
        return "; ".join(found[:REASONS_MAX]) + (f"; and {more} more" if more > 0 else "")


def _mend(decision: Decision, qualified: str) -> str:
    """What an operator can do about a decision, by the layer that made it."""
    rule = decision.rule
    match rule.split(" ")[0]:
        case "auth.keys" | "auth.peers":
            return f"add {split_name(qualified)!r} to the servers of {rule}, then restart this node"
        case "governed":
            return "revoke that key and make one for these servers: 'toolmesh key create --server'"
        case "held":
            # Its first word is what is disabled, and 'enable' takes no other: a server does not stand for its tools.
            return f"'toolmesh enable {decision.reason.partition(' ')[0]}'"
        case "policy" | "role" | "default":
            return "'toolmesh policy list --text' shows the mesh's policies; guard.policies and roles are this node's"
        case "governance":
            return "'toolmesh governance' says which authority, and why"
        case "tenant":
            return f"servers.{split_name(qualified)}.tenant and teams at its owner, tenant and groups of the caller"
    return "show a credential that is valid"


def _untold(server: Server) -> bool:
    """It has never been up since its node started, so nobody knows its tools."""
    return server.info is not None and not server.tools and not server.up and server.owner.liveness in SERVING


def _away(server: Server) -> str:
    """Why nobody could be asked there, whoever else there is."""
    if server.owner.liveness not in SERVING:
        return f"its node is {server.owner.liveness}"
    return "" if server.up else f"the server is {server.health.get('state') or 'not started'}"
