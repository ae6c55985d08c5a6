"""Who may operate a node, by its own guard."""

from __future__ import annotations

import pytest

from node.guard.mesh import MeshGuard
from node.guard.operating import may_operate, node_resource
from node.guard.reach import Reaches
from proto.errors import Forbidden, ScopeRequired
from proto.names import NodeId
from proto.records import Principal

NODE = node_resource(NodeId.of("mesh.test", "eu", "eu-1"))
OPERATOR = Principal("op", "mesh.test", scopes=("operator",), kind="key")
LANDLORD = Principal("boss", "mesh.test", "acme", scopes=("operator",), kind="key")


def test_an_operator_of_a_tenant_operates_nothing_that_serves_others_too() -> None:
    guard = MeshGuard("eu-1", Reaches("mesh.test"))
    may_operate(guard, NODE, OPERATOR)
    with pytest.raises(Forbidden) as refused:
        may_operate(guard, NODE, LANDLORD)
    assert refused.value.rule == "tenant"
    may_operate(guard, NODE, LANDLORD, in_tenant=True)


def test_who_has_no_right_is_told_the_scope_whatever_its_tenant() -> None:
    guard = MeshGuard("eu-1", Reaches("mesh.test"))
    for tenant in ("", "acme"):
        with pytest.raises(ScopeRequired):
            may_operate(guard, NODE, Principal("k", "mesh.test", tenant, kind="key"), in_tenant=True)
