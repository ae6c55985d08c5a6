"""A bare MCP server over pipes that speaks 2026-07-28 and nothing else. Its tool `ask` asks for a name, then greets."""

import json
import sys

META = {"io.modelcontextprotocol/serverInfo": {"name": "modern", "version": "1"}}
TOOL = {"name": "ask", "inputSchema": {"type": "object"}}
QUESTION = {
    "method": "elicitation/create",
    "params": {
        "mode": "form",
        "message": "what is your name?",
        "requestedSchema": {"type": "object", "properties": {"name": {"type": "string"}}},
    },
}
LISTED = {"resultType": "complete", "ttlMs": 60_000, "cacheScope": "public"}


def answer(method, params):
    if method == "server/discover":
        return {"result": {**LISTED, "supportedVersions": ["2026-07-28"], "capabilities": {"tools": {}}, "_meta": META}}
    if method == "tools/list":
        return {"result": {**LISTED, "tools": [TOOL]}}
    if method == "resources/read":
        return {"error": {"code": -32602, "message": "there is no such resource", "data": {"uri": params.get("uri")}}}
    if method != "tools/call":
        return {"error": {"code": -32601, "message": f"there is no {method}"}}
    capabilities = params["_meta"]["io.modelcontextprotocol/clientCapabilities"]
    if "elicitation" not in capabilities:
        return {"error": {"code": -32021, "message": "elicitation is needed", "data": {"capabilities": capabilities}}}
    responses = params.get("inputResponses")
    if responses is None:
        return {"result": {"resultType": "input_required", "inputRequests": {"who": QUESTION}, "requestState": "s1"}}
    name = responses["who"].get("content", {}).get("name", "nobody")
    text = f"hello {name}, {params['requestState']}"
    return {"result": {"resultType": "complete", "content": [{"type": "text", "text": text}]}}


for line in sys.stdin:
    request = json.loads(line)
    if "id" in request:
        said = {"jsonrpc": "2.0", "id": request["id"], **answer(request["method"], request.get("params", {}))}
        sys.stdout.write(json.dumps(said) + "\n")
        sys.stdout.flush()
