"""What a node counts, as an exposition for Prometheus: gathered anew at each scrape, nothing kept beside it.

No label holds a name that callers or servers choose: peers are bounded by the federation, the rest are words of ours.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector

from federation.events import Liveness
from federation.status import PeerStatus
from node.audit.query import KINDS
from node.doors.door import REFUSALS
from proto.versions import PROTOCOL_MAX

if TYPE_CHECKING:
    from node.app import App
    from node.operator.ports import VectorsStatus
    from router.feedback import FeedbackStatus


class Telemetry(Collector):
    """The metrics of one node, in a registry of their own: several nodes may share a process in tests."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._registry = CollectorRegistry()
        self._registry.register(self)
        ProcessCollector(registry=self._registry)

    content_type = CONTENT_TYPE_LATEST

    def exposition(self) -> bytes:
        """In the text format of Prometheus 0.0.4. Its cost grows with peers and servers, not with tools."""
        return generate_latest(self._registry)

    def describe(self) -> Iterator[Metric]:
        """Nothing beforehand: what there is to tell depends on who is known."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        app = self._app
        version = {"version": app.software, "protocol": str(PROTOCOL_MAX)}
        yield InfoMetricFamily("toolmesh_build", "Release and wire protocol of this node.", value=version)
        yield _gauge("toolmesh_draining", "1 while this node takes no new work from peers.", app.gateway.draining)
        if app.tls is not None:
            ends = app.tls.expires_at.timestamp()
            yield _gauge("toolmesh_certificate_expiry_timestamp_seconds", "When this node's certificate ends.", ends)
        yield from self._governance()
        yield from self._audit()
        yield from self._doors()
        yield from self._calls()
        yield from self._servers()
        yield from self._peers()

    def _governance(self) -> Iterator[Metric]:
        governance = self._app.governance
        ages = GaugeMetricFamily(
            "toolmesh_governance_age_seconds", "Since an authority was heard.", labels=["authority"]
        )
        for copy in governance.copies():
            ages.add_metric([copy.authority.name], governance.age_ms(copy) / 1000)
        yield ages
        closed = bool(governance.state.closed)
        yield _gauge("toolmesh_governance_closed", "1 while everything is refused for want of an authority.", closed)
        problems = len(governance.problems)
        yield _gauge("toolmesh_governance_problems", "What operators have to mend in what is laid down.", problems)

    def _audit(self) -> Iterator[Metric]:
        recorder = self._app.audit.recorder
        if recorder is None:
            return
        seq, waiting, size, wrote_ms = recorder.counts
        yield _gauge("toolmesh_audit_seq", "The last record on the disk.", seq)
        yield _gauge("toolmesh_audit_queue", "Records that wait for the disk.", waiting)
        yield _gauge("toolmesh_audit_queue_bytes", "Their bytes, as far as they are written out.", size)
        yield _gauge("toolmesh_audit_last_write_timestamp_seconds", "When records were last written.", wrote_ms / 1000)
        yield _gauge("toolmesh_audit_failing", "1 while the store, the files or the queue fail.", recorder.failing)
        lost = CounterMetricFamily("toolmesh_audit_lost", "Records that the queue had no room for.", labels=["kind"])
        for kind in KINDS:
            lost.add_metric([kind], recorder.lost.get(kind, 0))
        yield lost

    def _doors(self) -> Iterator[Metric]:
        limits = self._app.limits
        counted = GaugeMetricFamily("toolmesh_limits_counted", "Whom limits of calls count.", labels=["what"])
        for what, count in limits.counted().items():
            counted.add_metric([what], count)
        yield counted
        yield CounterMetricFamily("toolmesh_limits_crowded", "Calls that were counted as one.", value=limits.crowded)
        if (listener := self._app.listener) is None:
            return
        doors = listener.doors
        yield _gauge("toolmesh_http_connections", "Connections that are open at http.listen.", len(doors.connections))
        refused = doors.connections.refused
        yield CounterMetricFamily("toolmesh_http_connections_refused", "Connections that were too many.", value=refused)
        requests = CounterMetricFamily("toolmesh_http_refusals", "Requests refused at the door.", labels=["status"])
        for status in REFUSALS:
            requests.add_metric([str(status)], doors.refusals[status])
        yield requests

    def _calls(self) -> Iterator[Metric]:
        gateway = self._app.gateway
        counters = gateway.counters
        calls = CounterMetricFamily("toolmesh_calls", "Calls that ended here, as entry or owner.", labels=["outcome"])
        for outcome, count in sorted(counters.outcomes.items()):
            calls.add_metric([outcome], count)
        yield calls
        yield _gauge("toolmesh_calls_in_flight", "Calls that run now.", gateway.in_flight)
        yield _gauge(
            "toolmesh_calls_parked", "Calls that wait for their clients' answers.", len(self._app.bridge.parked)
        )
        open_now = self._app.ingress.stats()
        yield _gauge("toolmesh_sessions", "Sessions of agents before MCP 2026-07-28.", open_now["sessions"])
        yield _gauge(
            "toolmesh_streams", "Event streams that agents have open for what is of no call.", open_now["streams"]
        )
        yield _gauge("toolmesh_connections", "Agents on /sse, /ws and stdio.", open_now["connections"])
        retries = CounterMetricFamily("toolmesh_retries", "Further attempts at other owners.", labels=["verdict"])
        retries.add_metric(["made"], counters.retries)
        retries.add_metric(["refused"], counters.retries_refused)
        yield retries
        yield CounterMetricFamily("toolmesh_ejections", "Owners left alone for a while.", value=counters.ejections)

    def _servers(self) -> Iterator[Metric]:
        listed = [s for owner in self._app.catalog.owners.values() if owner.listed for s in owner.servers.values()]
        states = Counter("up" if s.up else "down" for s in listed if s.info is not None)
        servers = GaugeMetricFamily("toolmesh_servers", "Servers in lists, of the whole mesh.", labels=["state"])
        for state in ("up", "down"):
            servers.add_metric([state], states[state])
        yield servers
        yield _gauge("toolmesh_tools", "Tools in lists, of the whole mesh.", sum(len(s.tools) for s in listed))
        search = self._app.router.status()
        yield _gauge("toolmesh_search_pending", "Tools that wait for their vectors.", search.pending)
        if self._app.vectors is not None:
            yield from _vectors(self._app.vectors.status(search))
        if self._app.feedback is not None:
            yield from _feedback(self._app.feedback.status())

    def _peers(self) -> Iterator[Metric]:
        federation = self._app.federation
        if federation is None:
            return
        found = federation.peers()
        peers = {p.node.name: p for p in found if p.node is not None}
        state = GaugeMetricFamily(
            "toolmesh_peer_state", "1 for the state that a peer is in, else 0.", labels=["peer", "region", "state"]
        )
        for name, p in peers.items():
            for s in Liveness:
                state.add_metric([name, p.node.region if p.node else "", str(s)], p.state is s)
        yield state
        unproved = len(found) - len(peers)
        yield _gauge("toolmesh_addresses_unproved", "Addresses where no node could be made out.", unproved)
        for metric in _facts(peers):
            # One without a sample would be a name only.
            if metric.samples:
                yield metric
        refusals = CounterMetricFamily("toolmesh_refusals", "What was refused, and by whom.", labels=["side", "reason"])
        for (side, reason), count in sorted(federation.refusals.totals.items()):
            refusals.add_metric([side, str(reason)], count)
        yield refusals


def _vectors(status: VectorsStatus) -> Iterator[Metric]:
    came = CounterMetricFamily("toolmesh_vectors", "Vectors of texts, by where they came from.", labels=["source"])
    came.add_metric(["store"], status["from_store"])
    came.add_metric(["peers"], status["from_peers"])
    came.add_metric(["computed"], status["computed"])
    yield came
    yield CounterMetricFamily("toolmesh_vectors_lent", "Vectors given to peers.", value=status["lent"])
    yield CounterMetricFamily("toolmesh_vectors_dropped", "Vectors too many to wait.", value=status["dropped"])
    yield _gauge("toolmesh_vectors_waiting", "Vectors that wait to be written.", status["waiting"])
    yield _gauge("toolmesh_vectors_store_up", "1 while their store answers.", status["state"] == "ready")
    yield _gauge("toolmesh_vectors_disk_bytes", "What they take in the data directory.", status["disk_bytes"])


def _feedback(status: FeedbackStatus) -> Iterator[Metric]:
    text = "Kinds of query that led to a tool, as learned from use, by who learned it."
    entries = GaugeMetricFamily("toolmesh_feedback_entries", text, labels=["learned_by"])
    entries.add_metric(["here"], status.own)
    entries.add_metric(["peers"], status.foreign)
    yield entries
    yield _gauge("toolmesh_feedback_tools", "Tools that any of them led to.", status.tools)
    yield CounterMetricFamily("toolmesh_feedback_votes", "Calls here that taught something.", value=status.learned)


def _facts(peers: dict[str, PeerStatus]) -> Iterator[Metric]:
    """What is known of each peer; what is not known has no sample."""

    def gauge(name: str, text: str, facts: dict[str, float | None]) -> Metric:
        metric = GaugeMetricFamily(f"toolmesh_peer_{name}", text, labels=["peer"])
        for peer, value in facts.items():
            if value is not None:
                metric.add_metric([peer], value)
        return metric

    def counter(name: str, text: str, facts: dict[str, int]) -> Metric:
        metric = CounterMetricFamily(f"toolmesh_peer_{name}", text, labels=["peer"])
        for peer, value in facts.items():
            metric.add_metric([peer], value)
        return metric

    each = peers.items()
    yield gauge("lag_changes", "Its changes that are missing here.", {n: p.lag_seq for n, p in each})
    yield gauge("lag_seconds", "For how long something may be missing.", {n: p.lag_s for n, p in each})
    yield gauge("lacks_changes", "Changes of this node that it has not confirmed.", {n: p.lacks for n, p in each})
    yield gauge("rtt_seconds", "From Hello to Welcome.", {n: _seconds(p.rtt_ms) for n, p in each})
    yield gauge("clock_skew_seconds", "Its clock less this node's.", {n: _seconds(p.skew_ms) for n, p in each})
    ends = {n: p.certificate_expires.timestamp() if p.certificate_expires else None for n, p in each}
    yield gauge("certificate_expiry_timestamp_seconds", "When its certificate ends.", ends)
    yield gauge("tools", "Tools held of it.", {n: p.tools for n, p in each})
    yield gauge("rejected_records", "Its records that are refused here.", {n: p.rejected_count for n, p in each})
    yield counter("received_bytes", "Frames from it, before TLS.", {n: p.totals.received_bytes for n, p in each})
    yield counter("sent_bytes", "Frames to it, before TLS.", {n: p.totals.sent_bytes for n, p in each})
    yield counter("calls", "Calls in either direction.", {n: p.totals.calls for n, p in each})


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, text, value=value)


def _seconds(ms: float | None) -> float | None:
    return None if ms is None else ms / 1000
