"""The SDK's leaves are the SDK's, and a node that runs alone starts without what it does not use."""

from __future__ import annotations

import subprocess
import sys

import mcp.shared.inbound
import mcp.shared.subscriptions
from mcp_types.methods import CACHEABLE_METHODS

from node import sdk
from node.ingress import modern


def test_the_leaves_are_the_installed_sdk_s_own() -> None:
    for ours, theirs in ((sdk.inbound, mcp.shared.inbound), (sdk.subscriptions, mcp.shared.subscriptions)):
        assert ours.__file__ == theirs.__file__
        assert set(vars(theirs)) <= set(vars(ours))


def test_the_methods_that_carry_cache_hints_are_the_sdk_s() -> None:
    assert modern.CACHEABLE_METHODS == CACHEABLE_METHODS


def test_a_node_that_runs_alone_loads_no_server_framework_no_grpc_and_no_model() -> None:
    probe = "import sys, node.app; print(*sorted({m.partition('.')[0] for m in sys.modules}))"
    loaded = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True).stdout.split()
    assert not set(loaded) & {"starlette", "uvicorn", "httpx2", "mcp", "grpc", "zeroconf", "chromadb", "tokenizers"}
