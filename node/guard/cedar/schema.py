"""The words that policies are written in: entity types, their attributes, actions; one Cedar schema.

`deploy/examples/toolmesh.cedarschema` is this text, for editors and for the `cedar` command line.
"""

from __future__ import annotations

from functools import cache

import cedarpy

PRINCIPAL = "Principal"
PRINCIPAL_ATTRIBUTES = ("subject", "issuer", "tenant", "kind", "groups", "scopes", "actors")
RESOURCE_ATTRIBUTES = ("server", "owner", "region", "tool", "kind", "tenant", "service", "annotations")
ANNOTATIONS = ("readOnly", "destructive", "idempotent", "openWorld")
ACTIONS = ("search", "list", "call", "read", "add", "administer")

TYPE_OF = {
    "tool": "Tool",
    "prompt": "Prompt",
    "resource": "Resource",
    "template": "Template",
    "server": "Server",
    "node": "Node",
}
"""`Resource.kind` → Cedar's entity type."""

SCHEMA = """\
// What policies of toolmesh may say. A server's labels are tags of it and of all that it offers:
// resource.hasTag("env") && resource.getTag("env") == "prod"

// ISSUER|SUBJECT
entity Principal in [Group, Team, Tenant, Role] = {
  subject: String,
  issuer: String,
  tenant: String,
  kind: String,            // anonymous, key, user, service, node
  groups: Set<String>,
  scopes: Set<String>,
  actors: Set<String>      // who acts for the subject
};
entity Group;              // GROUP
entity Team;               // TENANT/GROUP
entity Tenant;             // TENANT
entity Role;               // ROLE, as in guard.roles

type Hints = {             // what a tool's server says of it; unsaid, as MCP has it
  readOnly: Bool,
  destructive: Bool,
  idempotent: Bool,
  openWorld: Bool
};
// NODE, SERVER, SERVER/TOOL, SERVER/PROMPT, SERVER/URI, SERVER/URITEMPLATE
// A resource that is not listed is in the template that makes its URI.
entity Node, Server, Tool, Prompt, Resource, Template in [Server, Node, Template] = {
  server: String,
  owner: String,           // the node
  region: String,
  tool: String,            // the name of a tool or prompt, a URI, a URI template; empty for servers and nodes
  kind: String,            // tool, prompt, resource, template, server, node
  tenant: String,
  service: String,
  annotations: Hints
} tags String;

// context.arguments holds what a call brings, at the call only; its members are not checked against this schema.
action search, list, call, read, add, administer appliesTo {
  principal: Principal,
  resource: [Node, Server, Tool, Prompt, Resource, Template],
  context: {}
};
"""


@cache
def schema() -> cedarpy.Schema:
    """Parsed once."""
    return cedarpy.Schema.from_str(SCHEMA)
