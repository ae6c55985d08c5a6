"""The rungs of 2026-07-28: what goes by them at a glance is what they would have let through."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest
from multidict import CIMultiDict

from node.ingress import ladder

META = "io.modelcontextprotocol/"
VERSIONS = ["2026-07-28", "2025-11-25", 7, None, ["2026-07-28"]]
CAPABILITIES = [{}, [], None]
CALLS: list[tuple[str, dict[str, Any]]] = [
    ("tools/call", {"name": "echo"}),
    ("tools/call", {"name": "=?base64?ZWNobw==?="}),
    ("tools/call", {"name": ""}),
    ("tools/call", {"name": 7}),
    ("tools/call", {}),
    ("tools/call", {"name": "echo", "inputResponses": 1}),
    ("tools/call", {"name": "echo", "requestState": 1}),
    ("resources/read", {"uri": "echo"}),
    ("tasks/get", {"taskId": "echo"}),
    ("tools/list", {}),
    ("tools/list", {"requestState": 1}),
    ("vendor/own", {"name": "other"}),
]
NAMES = [None, "echo", "other", "", "=?base64?ZWNobw==?="]
LINES = [
    [("MCP-Protocol-Version", "2026-07-28")],
    [("mcp-protocol-version", "2025-11-25")],
    [("MCP-Protocol-Version", "2026-07-28"), ("mcp-protocol-version", "2026-07-28")],
    [],
]


@pytest.mark.parametrize(("method", "params"), CALLS)
def test_a_request_that_passes_at_a_glance_passes_every_rung(
    method: str, params: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    requests = [
        (_message(method, params, version, capabilities), headers)
        for version, capabilities in product(VERSIONS, CAPABILITIES)
        for headers in (None, *_headers(method))
    ]
    glanced = [ladder.refused(message, headers) for message, headers in requests]
    monkeypatch.setattr(ladder, "_plain", lambda *_: False)

    assert glanced == [ladder.refused(message, headers) for message, headers in requests]
    assert {outcome is None for outcome in glanced} >= {False}


def _message(method: str, params: dict[str, Any], version: Any, capabilities: Any) -> dict[str, Any]:
    meta = {f"{META}protocolVersion": version, f"{META}clientCapabilities": capabilities}
    return {"jsonrpc": "2.0", "id": 1, "method": method, "params": {**params, "_meta": meta}}


def _headers(method: str) -> list[CIMultiDict[str]]:
    return [
        CIMultiDict([*lines, ("Mcp-Method", told), *([] if name is None else [("Mcp-Name", name)])])
        for lines, told, name in product(LINES, (method, "tools/other"), NAMES)
    ]
