"""A bare MCP server over pipes that asks, tells and remembers, as its tools are told to. It never blocks on an answer.

Usage: asking_stdio.py [roots] [dual]; `roots`: it asks for roots as soon as the session is ready; `dual`: it answers
`server/discover` and then speaks 2026-07-28 only.
"""

import json
import os
import sys

MODES = set(sys.argv[1:])
NAMES = (
    "whoami",
    "ask",
    "take_back",
    "later",
    "replies",
    "wait",
    "go",
    "tell",
    "heard",
    "subscribed",
    "touch",
    "begin",
    "die",
)
state = {"capabilities": None, "level": None, "modern": False, "asked": 0}
waiting_calls = {}
held = []
replies = []
heard = []
subscribed = []


def say(message):
    sys.stdout.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")
    sys.stdout.flush()


def answer(request, value):
    content = [{"type": "text", "text": json.dumps(value)}]
    more = {"resultType": "complete"} if state["modern"] else {}
    say({"id": request["id"], "result": {"content": content, **more}})


def ask(method, params):
    state["asked"] += 1
    question = f"q{state['asked']}"
    say({"id": question, "method": method, "params": params})
    return question


def call(request):
    params = request["params"]
    name, arguments = params["name"], params.get("arguments", {})
    if name == "whoami":
        answer(request, {"pid": os.getpid(), "meta": params.get("_meta"), **state})
    elif name == "ask":
        waiting_calls[ask(arguments["method"], arguments.get("params", {}))] = request
    elif name == "take_back":
        question = ask("elicitation/create", {"message": "never mind"})
        held.append((request, question))
    elif name == "later":
        answer(request, "soon")
        ask(arguments["method"], {})
    elif name == "replies":
        answer(request, replies)
    elif name == "wait":
        held.append((request, None))
    elif name == "go":
        for one, question in held:
            if question is not None:
                say({"method": "notifications/cancelled", "params": {"requestId": question}})
            answer(one, "went")
        held.clear()
        answer(request, "gone")
    elif name == "tell":
        say({"method": arguments["method"], "params": arguments.get("params", {})})
        answer(request, "told")
    elif name == "heard":
        answer(request, heard)
    elif name == "subscribed":
        answer(request, subscribed)
    elif name == "touch":
        say({"method": "notifications/resources/updated", "params": {"uri": arguments["uri"], "x": 1}})
        answer(request, "touched")
    elif name == "begin":
        state["tasks"] = state.get("tasks", 0) + 1
        task = {"taskId": f"{os.getpid()}-{state['tasks']}", "status": "working", **arguments}
        say({"id": request["id"], "result": {"task": task}})
        token = params.get("_meta", {}).get("progressToken")
        say({"method": "notifications/progress", "params": {"progressToken": token, "progress": 1}})
    elif name == "die":
        os._exit(3)


def listed():
    found = [{"name": name, "inputSchema": {"type": "object"}} for name in NAMES]
    if state["capabilities"] and "sampling" in state["capabilities"]:
        found.append({"name": "only-for-samplers", "inputSchema": {"type": "object"}})
    return found


def handle(request):
    method, params = request["method"], request.get("params", {})
    if method == "initialize":
        state["capabilities"] = params["capabilities"]
        capabilities = {"tools": {}, "resources": {"subscribe": True}, "logging": {}}
        info = {"name": "asking", "version": "1"}
        return {"protocolVersion": "2025-11-25", "capabilities": capabilities, "serverInfo": info}
    if method == "server/discover" and "dual" in MODES:
        state["modern"] = True
        return {"supportedVersions": ["2026-07-28"], "capabilities": {"tools": {}}, "resultType": "complete"}
    if method == "tools/list":
        return {"tools": listed()}
    if method == "resources/list":
        return {"resources": []}
    if method == "resources/subscribe":
        if params["uri"] == "no://such":
            return None
        subscribed.append(params["uri"])
        if params["uri"].endswith("#eager"):
            say({"method": "notifications/message", "params": {"level": "info", "data": "subscribed"}})
            say({"method": "notifications/resources/updated", "params": {"uri": params["uri"]}})
        return {}
    if method == "resources/unsubscribe":
        subscribed.remove(params["uri"])
        return {}
    if method == "logging/setLevel":
        state["level"] = params["level"]
        return {}
    if method in ("tasks/get", "tasks/result"):
        mine = params["taskId"].startswith(f"{os.getpid()}-")
        return {"taskId": params["taskId"], "status": "completed"} if mine else None
    if method == "ping":
        return {}
    return None


def main():
    for line in sys.stdin:
        message = json.loads(line)
        method = message.get("method")
        if method is None:
            replies.append(message)
            request = waiting_calls.pop(message["id"], None)
            if request is not None:
                answer(request, {k: v for k, v in message.items() if k in ("result", "error")})
        elif "id" not in message:
            heard.append({"method": method, "params": message.get("params")})
            if method == "notifications/initialized" and "roots" in MODES:
                ask("roots/list", {})
        elif method == "tools/call":
            call(message)
        else:
            result = handle(message)
            if result is None:
                say({"id": message["id"], "error": {"code": -32601, "message": f"no {method}"}})
            else:
                say({"id": message["id"], "result": result})


main()
