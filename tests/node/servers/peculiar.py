"""An MCP server on bare JSON over pipes, for what typed servers cannot say; one mark per call that it should tell of.

Tools: `slow` never ends, says so by progress and notes when it is cancelled; `cancelled` answers once the slow call of
the same mark was; `odd` answers in fields and content types that no revision knows; `refuse` is a JSON-RPC error with
data, `blunt` one that is no object, `mute` one without message or code; `count` tells its progress; `pair` answers two
calls at once, the later first; `big` answers at length.
"""

import json
import sys

SEEN = {"kept": [None, 1.5, 12345678901234567890, "é"], "_meta": {"vendor/x": None}}
ODD = {
    "content": [{"type": "hologram", "frames": [1, None], "_meta": {"a": None}}, {"type": "text", "text": "", "x": 0}],
    "structuredContent": {"null": None, "deep": [[{}], []]},
    "isError": False,
    "x-unknown": SEEN,
    "_meta": {"vendor/trace": "t", "null": None},
}
REFUSED = {"code": -31234, "message": "not on Sundays", "data": {"until": None, "days": [1, {"x": 2.5}]}, "x-more": [0]}
TOOLS = [
    {"name": name, "inputSchema": {"type": "object"}, "x-unknown": SEEN}
    for name in ("slow", "cancelled", "odd", "refuse", "count", "pair", "big", "blunt", "mute")
]
slow = {}
gone = {}
waiting = {}
paired = {}


def say(message):
    sys.stdout.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")
    sys.stdout.flush()


def answer(request, result):
    say({"id": request["id"], "result": result})


def progress(request, done):
    token = request["params"].get("_meta", {}).get("progressToken")
    if token is not None:
        params = {"progressToken": token, "progress": done, "x-unknown": SEEN}
        say({"method": "notifications/progress", "params": params})


def call(request):
    params = request["params"]
    name, arguments = params["name"], params.get("arguments") or {}
    mark = arguments.get("mark")
    if name == "slow":
        slow[request["id"]] = mark
        progress(request, 1)
    elif name == "cancelled":
        if mark in gone:
            answer(request, gone[mark])
        else:
            waiting[mark] = request
    elif name == "odd":
        answer(
            request, {**ODD, "x-params": {k: v for k, v in params.items() if k != "_meta"}, "x-meta": params["_meta"]}
        )
    elif name == "refuse":
        say({"id": request["id"], "error": REFUSED})
    elif name == "blunt":
        say({"id": request["id"], "error": "boom"})
    elif name == "mute":
        say({"id": request["id"], "error": {"code": "E1", "data": [None]}})
    elif name == "count":
        for done in (1, 2, 3):
            progress(request, done)
        answer(request, {"content": []})
    elif name == "pair":
        other = paired.pop(mark, None)
        if other is None:
            paired[mark] = request
        else:
            for one in (request, other):
                answer(one, {"content": [], "who": one["params"]["arguments"]["who"]})
    elif name == "big":
        answer(request, {"content": [{"type": "text", "text": "é" * arguments["characters"]}]})


def cancelled(params):
    mark = slow.pop(params["requestId"], None)
    if mark is not None:
        gone[mark] = {"content": [], "reason": params.get("reason")}
        if mark in waiting:
            answer(waiting.pop(mark), gone[mark])


def take(message):
    method = message.get("method")
    if method == "initialize":
        capabilities = {"tools": {}, "prompts": {}, "resources": {}, "completions": {}}
        info = {"name": "peculiar", "version": "1"}
        answer(message, {"protocolVersion": "2025-06-18", "capabilities": capabilities, "serverInfo": info})
    elif method == "notifications/cancelled":
        cancelled(message["params"])
    elif method == "ping":
        answer(message, {})
    elif method == "tools/list":
        answer(message, {"tools": TOOLS})
    elif method == "prompts/list":
        answer(message, {"prompts": [{"name": "greet", "x-unknown": SEEN}]})
    elif method == "resources/list":
        answer(message, {"resources": [{"uri": "odd://note", "name": "note", "x-unknown": SEEN}]})
    elif method == "resources/templates/list":
        answer(message, {"resourceTemplates": [{"uriTemplate": "odd://{x}", "name": "any", "x-unknown": SEEN}]})
    elif method == "tools/call":
        call(message)
    elif method == "prompts/get":
        messages = [{"role": "user", "content": {"type": "hologram", "x": None}, "x-unknown": SEEN}]
        answer(message, {"messages": messages, "x-unknown": SEEN})
    elif method == "resources/read" and message["params"].get("uri") == "odd://note":
        answer(message, {"contents": [{"uri": "odd://note", "x-bytes": None}], "x-unknown": SEEN})
    elif method == "resources/read":
        say({"id": message["id"], "error": {"code": -32002, "message": "no such note", "data": {"uri": "odd://none"}}})
    elif method == "completion/complete":
        answer(message, {"completion": {"values": ["a"], "x": None}, "x-unknown": SEEN})
    elif method == "vendor/echo":
        params = {k: v for k, v in message["params"].items() if k != "_meta"}
        answer(message, {"params": params, "x-unknown": SEEN})
    elif "id" in message:
        say({"id": message["id"], "error": {"code": -32601, "message": "no such method"}})


for line in sys.stdin:
    take(json.loads(line))
