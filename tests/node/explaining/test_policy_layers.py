"""What explain says of policies, scopes and what is disabled."""

from __future__ import annotations

from node.explaining.case import _mend
from proto.records import Decision


def test_each_layer_has_its_own_mend() -> None:
    rules = ["auth.keys 'x'", "auth.peers", "governed key", "held", "policy night", "role dev", "default deny"]
    mends = {
        rule: _mend(Decision(False, "git--eu-1/push is disabled by zoe", rule), "git--eu-1")
        for rule in (*rules, "governance", "tenant", "credential")
    }
    assert "add 'git' to the servers of auth.keys 'x'" in mends["auth.keys 'x'"]
    assert mends["held"] == "'toolmesh enable git--eu-1/push'"
    assert mends["policy night"] == mends["role dev"] == mends["default deny"]
    assert len(set(mends.values())) == len(mends) - 2
