"""An MCP server of 2025-11-25 over pipes that offers one of everything and tells back what it was sent. Stdlib only.

Its argument is a name, which stands in all that it offers, so that what leaks says where it came from.

Tools: `echo` returns its arguments, after a log line and progress that hold them; `look` says that it only reads;
`write` and `hush` return theirs; `fail` answers with an error that holds them; `task` begins a task of that marker.
A resource that is subscribed to is told changed when `echo` is called with `change`; with `grow` there is a tool more.
"""

import json
import sys

NAME = sys.argv[1]
NOTE = f"shelf://{NAME}/note"
TASKS = {}
SUBSCRIBED = set()


def say(message):
    sys.stdout.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")
    sys.stdout.flush()


def text(value):
    return {"content": [{"type": "text", "text": value}]}


def tool(name, **more):
    about = f"{name} of the shelf {NAME}"
    return {"name": name, "description": about, "inputSchema": {"type": "object"}, **more}


LISTS = {
    "tools/list": {
        "tools": [
            *(tool(name) for name in ("echo", "write", "hush", "fail")),
            tool("look", annotations={"readOnlyHint": True}),
            tool("task", execution={"taskSupport": "optional"}),
        ]
    },
    "prompts/list": {"prompts": [{"name": "greet", "description": f"greeting of {NAME}"}]},
    "resources/list": {"resources": [{"uri": NOTE, "name": f"note-{NAME}"}]},
    "resources/templates/list": {
        "resourceTemplates": [{"uriTemplate": f"shelf://{NAME}/page/{{n}}", "name": f"page-{NAME}"}]
    },
}
CAPABILITIES = {
    "tools": {"listChanged": True},
    "prompts": {},
    "resources": {"subscribe": True},
    "completions": {},
    "logging": {},
    "tasks": {"list": {}, "cancel": {}, "requests": {"tools": {"call": {}}}},
}


def called(name, params):
    arguments = params.get("arguments") or {}
    told = json.dumps(arguments)
    if name == "fail":
        return {"error": {"code": -32000, "message": f"{NAME} failed", "data": told}}
    if name == "task":
        task = {"taskId": f"{NAME}-{len(TASKS) + 1}", "status": "working", "ttl": 60000, "statusMessage": told}
        task |= {"createdAt": "2026-01-01T00:00:00Z", "lastUpdatedAt": "2026-01-01T00:00:00Z"}
        TASKS[task["taskId"]] = task
        return {"result": {"task": task}}
    if name == "echo":
        token = (params.get("_meta") or {}).get("progressToken")
        say({"method": "notifications/message", "params": {"level": "info", "data": told}})
        if token is not None:
            note = {"progressToken": token, "progress": 1, "message": told}
            say({"method": "notifications/progress", "params": note})
        if "change" in arguments and NOTE in SUBSCRIBED:
            say({"method": "notifications/resources/updated", "params": {"uri": NOTE}})
        if "grow" in arguments:
            LISTS["tools/list"]["tools"].append(tool(arguments["grow"]))
            say({"method": "notifications/tools/list_changed"})
    return {"result": text(told)}


def answered(method, params):
    if method in LISTS:
        return {"result": LISTS[method]}
    match method:
        case "initialize":
            info = {"name": f"shelf-{NAME}", "version": "1"}
            return {"result": {"protocolVersion": "2025-11-25", "capabilities": CAPABILITIES, "serverInfo": info}}
        case "tools/call":
            return called(params["name"], params)
        case "prompts/get":
            said = {"type": "text", "text": f"hello from {NAME} {json.dumps(params.get('arguments'))}"}
            return {"result": {"messages": [{"role": "user", "content": said}]}}
        case "resources/read":
            return {"result": {"contents": [{"uri": params["uri"], "text": f"kept by {NAME}"}]}}
        case "resources/subscribe":
            SUBSCRIBED.add(params["uri"])
        case "resources/unsubscribe":
            SUBSCRIBED.discard(params["uri"])
        case "completion/complete":
            return {"result": {"completion": {"values": [f"completed by {NAME}"]}}}
        case "tasks/list":
            return {"result": {"tasks": list(TASKS.values())}}
        case "tasks/get" | "tasks/cancel":
            return {"result": TASKS[params["taskId"]]}
        case "tasks/result":
            return {"result": text(TASKS[params["taskId"]]["statusMessage"])}
        case "logging/setLevel" | "ping":
            pass
        case _:
            return {"error": {"code": -32601, "message": f"no {method}"}}
    return {"result": {}}


for line in sys.stdin:
    request = json.loads(line)
    if "id" in request and "method" in request:
        say({"id": request["id"], **answered(request["method"], request.get("params") or {})})
