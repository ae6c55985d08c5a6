"""An MCP server over pipes that tells what it was sent, as it was sent.

`pair` answers once two calls of it wait, the later one first: as out of order as a busy server may be.
"""

import json
import os
import sys

WAITING = []
TASKS = {}


def say(message):
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


def told(request):
    params = {k: v for k, v in request["params"].items() if k != "_meta"}
    text = json.dumps({"params": params, "meta": request["params"].get("_meta"), "env": sorted(os.environ)})
    say({"jsonrpc": "2.0", "id": request["id"], "result": {"content": [{"type": "text", "text": text}]}})


for line in sys.stdin:
    request = json.loads(line)
    method = request.get("method")
    if "id" not in request or method is None:
        continue
    if method == "initialize":
        result = {
            "protocolVersion": "2025-11-25",
            "capabilities": {
                "tools": {},
                "tasks": {"list": {}, "cancel": {}, "requests": {"tools": {"call": {}}}},
            },
            "serverInfo": {"name": "witness", "version": "1"},
        }
        say({"jsonrpc": "2.0", "id": request["id"], "result": result})
    elif method == "tools/list":
        tools = [
            {"name": n, "description": n, "inputSchema": {"type": "object"}} for n in ("echo", "pair", "secret", "task")
        ]
        say({"jsonrpc": "2.0", "id": request["id"], "result": {"tools": tools}})
    elif method == "tools/call" and request["params"].get("name") == "pair":
        token = (request["params"].get("_meta") or {}).get("progressToken")
        if token is not None:
            note = {"progressToken": token, "progress": 1, "message": request["params"]["arguments"]["marker"]}
            say({"jsonrpc": "2.0", "method": "notifications/progress", "params": note})
        WAITING.append(request)
        if len(WAITING) == 2:
            while WAITING:
                told(WAITING.pop())
    elif method == "tools/call" and request["params"].get("name") == "task":
        name = f"task-{len(TASKS) + 1}"
        TASKS[name] = {
            "taskId": name,
            "status": "working",
            "ttl": 60000,
            "marker": request["params"]["arguments"]["marker"],
        }
        say({"jsonrpc": "2.0", "id": request["id"], "result": {"task": TASKS[name]}})
    elif method.startswith("tasks/"):
        result = {"tasks": list(TASKS.values())} if method == "tasks/list" else TASKS[request["params"]["taskId"]]
        say({"jsonrpc": "2.0", "id": request["id"], "result": result})
    elif method == "tools/call":
        told(request)
    else:
        say({"jsonrpc": "2.0", "id": request["id"], "result": {}})
