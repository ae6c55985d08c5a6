"""The audit's parts in one node, joined: what is recorded, what is watched for it, who reads it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING

from aiohttp import web

from federation.alarms import Raised
from node.audit.choose import recorder_of
from node.audit.mesh import MeshAudit
from node.audit.peers import PeerWatch
from node.audit.port import Audit, NoAudit
from node.audit.reading import AuditReader
from node.audit.recorder import Recorder
from node.operator.auditing import AuditApi
from node.ports import Authenticator, Carrier, Guard
from node.secrets.recording import ActsOnRecord
from node.secrets.sqlite import FILE as SECRETS_FILE
from node.secrets.sqlite import SqliteSecrets
from proto import jsons
from proto.names import NodeId

if TYPE_CHECKING:
    from federation.driver import Federation
    from federation.ports import ViewListener
    from node.config import NodeConfig


class NodeAudit:
    """`audit` is what the other parts are given. Without `audit.enabled` it keeps nothing, and there are no routes."""

    def __init__(self, config: NodeConfig) -> None:
        self._config = config
        self.recorder: Recorder | None = recorder_of(config)
        self.audit: Audit = self.recorder or NoAudit()
        self._watch: PeerWatch | None = None
        self._federation: Federation | None = None
        self._acts = _acts_on_record(config, self.audit)

    def __repr__(self) -> str:
        return f"NodeAudit({self.recorder!r})"

    def listening(self, listener: ViewListener) -> ViewListener:
        """The federation's listener, overheard."""
        if self.recorder is None:
            return listener
        self._watch = PeerWatch(self.audit, listener)
        return self._watch

    def start(self, software: str) -> None:
        """Before anything that is to be recorded; in `data_dir`, which must be claimed. Raises as `Recorder.start`."""
        if self.recorder is not None:
            # Secrets are shown as asterisks there: the digest tells that something changed, and gives nothing away.
            configuration = jsons.digest(self._config.model_dump(mode="json")).hex()
            self.recorder.start(version=software, configuration=configuration)
        if self._acts is not None:
            self._acts.start()

    def watch(self, federation: Federation) -> None:
        self._federation = federation
        if self._watch is not None:
            self._watch.start(federation)

    async def stop(self) -> None:
        """Last of all parts. Everything that was told is written and sealed, within some seconds."""
        if self._watch is not None:
            await self._watch.stop(self._federation)
        if self._acts is not None:
            await self._acts.stop()
        if self.recorder is not None:
            await asyncio.to_thread(self.recorder.stop)

    def routes(
        self,
        authenticator: Authenticator,
        guard: Guard,
        me: NodeId,
        carrier: Carrier,
        nodes: Callable[[], Collection[NodeId]],
    ) -> list[web.RouteDef]:
        """Of the operators; from now on this node answers what others ask of its log."""
        if self.recorder is None:
            return []
        reader = AuditReader(self.recorder, guard, me)
        return AuditApi(reader, MeshAudit(reader, me, carrier, nodes), authenticator).routes()

    def barred(self, address: str) -> None:
        """The doors turned somebody away without looking at the credentials."""
        self.audit.signin(address, "", "too many refusals")

    @property
    def alarms(self) -> tuple[Raised, ...]:
        return self.recorder.alarms if self.recorder else ()


def _acts_on_record(config: NodeConfig, audit: Audit) -> ActsOnRecord | None:
    """Without an audit too: what operators leave for it in the store is taken out, or it would run full."""
    data_dir = config.node.data_dir

    def opened() -> SqliteSecrets:
        store = config.secrets.store(data_dir)
        assert store is not None  # noqa: S101 - there is a key
        return store

    return ActsOnRecord(data_dir / SECRETS_FILE, opened, audit) if config.secrets.key is not None else None
