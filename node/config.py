"""The whole configuration of a node: read once, checked as a whole, never changed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError

from node.settings.audit import AuditSection
from node.settings.auth import AuthSection
from node.settings.explain import explain, line
from node.settings.guard import GuardSection
from node.settings.limits import LimitsSection
from node.settings.outbound import OutboundSection
from node.settings.rules import broken_rules
from node.settings.secrets import SecretsSection, StoredSecrets
from node.settings.sections import FederationSection, HttpSection, LogSection, NodeSection, SearchSection
from node.settings.servers import ServerConfig
from node.settings.source import Document, overlay, read_environment, read_yaml
from node.settings.values import Section, ServerName
from proto.errors import Invalid
from proto.names import NodeId

SERVERS_MAX = 10_000


class NodeConfig(Section):
    """`servers` are started with the node; `catalogue` holds those that `add_mcp_server` may bring in later."""

    node: NodeSection = NodeSection()
    http: HttpSection = HttpSection()
    federation: FederationSection = FederationSection()
    servers: dict[ServerName, ServerConfig] = Field(default_factory=dict, max_length=SERVERS_MAX)
    catalogue: dict[ServerName, ServerConfig] = Field(default_factory=dict, max_length=SERVERS_MAX)
    auth: AuthSection = AuthSection()
    guard: GuardSection = GuardSection()
    secrets: SecretsSection = SecretsSection()
    search: SearchSection = SearchSection()
    limits: LimitsSection = Field(default_factory=LimitsSection)
    outbound: OutboundSection = OutboundSection()
    audit: AuditSection = AuditSection()
    log: LogSection = LogSection()

    @property
    def node_id(self) -> NodeId:
        return NodeId.of(self.node.mesh, self.node.region, self.node.name)


def load(path: Path | None) -> NodeConfig:
    """The file (None: defaults) overlaid by the environment.

    Raises `Invalid`, whose message has one line for each problem: `FILE:LINE: KEY.PATH: problem; mend`.
    """
    document = Document("defaults", {}) if path is None else read_yaml(path)
    above = read_environment(NodeConfig)
    merged = Document(document.name, overlay(document.data, above), document.lines, above)
    return _check(merged, Path.cwd() if path is None else path.absolute().parent)


def parse(data: Mapping[str, Any], base: Path) -> NodeConfig:
    """From raw settings, environment left aside; relative paths start at `base`. Raises `Invalid` like `load`."""
    return _check(Document("settings", dict(data)), base)


def _check(document: Document, base: Path) -> NodeConfig:
    # A section left out is read as an empty one, so that its relative defaults start at `base` too.
    data = {name: {} for name in NodeConfig.model_fields} | document.data
    stored = StoredSecrets(data, base)
    try:
        config = NodeConfig.model_validate(data, context={"base": base, "secrets": stored})
    except ValidationError as e:
        raise Invalid("\n".join(explain(e, NodeConfig, document))) from None
    finally:
        stored.close()
    broken = broken_rules(config)
    if broken:
        raise Invalid("\n".join(line(document, path, message) for path, message in broken))
    return config
