"""An MCP server on bare JSON over pipes that speaks out of calls, as only servers before 2026-07-28 do.

`touch` tells of every subscribed resource, and names them. Told to speak, it logs at the level that was set and one
below; on hearing that the client's roots have changed it asks for them, and logs what it is told.
"""

import json
import sys

LEVELS = ["debug", "info", "notice", "warning", "error", "critical", "alert", "emergency"]
subscribed = set()
at = 0


def say(message):
    sys.stdout.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")
    sys.stdout.flush()


def log(level, data):
    say({"method": "notifications/message", "params": {"level": level, "data": data}})


def updated(uri):
    say({"method": "notifications/resources/updated", "params": {"uri": uri}})


def request(method, params):
    if method == "initialize":
        capabilities = {"tools": {}, "resources": {"subscribe": True}, "logging": {}}
        info = {"name": "telling", "version": "1"}
        return {"protocolVersion": "2025-11-25", "capabilities": capabilities, "serverInfo": info}
    if method == "tools/list":
        return {"tools": [{"name": "touch", "inputSchema": {"type": "object"}}]}
    if method == "resources/list":
        return {"resources": [{"uri": "note://a", "name": "a"}]}
    if method == "resources/templates/list":
        return {"resourceTemplates": []}
    if method == "resources/subscribe":
        subscribed.add(params["uri"])
    elif method == "resources/unsubscribe":
        subscribed.discard(params["uri"])
    elif method == "logging/setLevel":
        global at
        at = LEVELS.index(params["level"])
    elif method == "tools/call":
        for uri in sorted(subscribed):
            updated(uri)
        return {"content": [{"type": "text", "text": ",".join(sorted(subscribed))}]}
    return {}


for line in sys.stdin:
    message = json.loads(line)
    method, params = message.get("method"), message.get("params") or {}
    if method is None:
        log("error", message.get("result", message.get("error")))
    elif "id" in message:
        say({"id": message["id"], "result": request(method, params)})
    elif method == "notifications/vendor/speak":
        for level in LEVELS[max(0, at - 1) : at + 1]:
            log(level, f"{level} is said")
    elif method == "notifications/roots/list_changed":
        say({"id": "ask", "method": "roots/list"})
