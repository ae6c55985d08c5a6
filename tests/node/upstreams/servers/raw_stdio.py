"""An MCP server on bare JSON over pipes, without the SDK: quick to start, and as rude as its arguments ask.

Usage: raw_stdio.py [MODE…]; tools do the rest. State that must survive a restart is counted in $RAW_COUNTER.
"""

import json
import os
import signal
import subprocess
import sys
import time

MODES = set(sys.argv[1:])
TOOLS = [
    {"name": name, "description": name, "inputSchema": {"type": "object"}, "x-unknown": {"kept": [None, 1.5, "é"]}}
    for name in ("echo", "die", "never", "progress", "log", "big", "grow", "ask", "garbage", "env", "odd", "late")
]
held = []


def say(message):
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


def answer(request, result):
    say({"jsonrpc": "2.0", "id": request["id"], "result": result})


def tell(method, params=None):
    say({"jsonrpc": "2.0", "method": method, **({"params": params} if params is not None else {})})


def starts():
    path = os.environ.get("RAW_COUNTER")
    if not path:
        return 1
    with open(path, "a+") as f:
        f.write("x")
        f.flush()
        f.seek(0)
        return len(f.read())


def initialize(request):
    if "modern" in MODES:
        error = {"code": -32022, "message": "Unsupported protocol version", "data": {"supported": ["2026-07-28"]}}
        say({"jsonrpc": "2.0", "id": request["id"], "error": error})
        return
    answer(
        request,
        {
            "protocolVersion": "1999-01-01" if "old" in MODES else "2025-06-18",
            "capabilities": {"tools": {"listChanged": True}, "prompts": {}, "resources": {}, "logging": {}},
            "serverInfo": {"name": "raw", "version": "1", "x-unknown": True},
            "instructions": "be careful",
        },
    )


def call(request):
    params = request["params"]
    name, arguments, meta = params["name"], params.get("arguments", {}), params.get("_meta", {})
    token = meta.get("progressToken")
    text = ""
    if name == "echo":
        answer(request, {"content": [{"type": "text", "text": json.dumps(arguments)}], "x-params": params})
        return
    if name == "die":
        sys.stderr.write("about to die\n")
        sys.stderr.flush()
        os._exit(3)
    if name == "never":
        held.append(request["id"])
        return
    if name == "late":
        held.append(request)
        return
    if name == "hold":
        held.append(request)
        return
    if name == "release":
        for last in reversed(held):
            answer(last, {"content": [], "x-params": last["params"]})
        held.clear()
    if name == "half":
        sys.stdout.write(json.dumps({"jsonrpc": "2.0", "id": request["id"], "result": {"content": []}})[:-2])
        sys.stdout.flush()
        os._exit(4)
    if name == "progress":
        for i in range(3):
            tell("notifications/progress", {"progressToken": token, "progress": i + 1, "total": 3, "x": i})
    if name == "log":
        tell("notifications/message", {"level": "info", "data": "working"})
    if name == "big":
        text = "é" * arguments["chars"]
    if name == "grow":
        TOOLS.append({"name": f"grown{len(TOOLS)}", "inputSchema": {"type": "object"}})
        for _ in range(5):
            tell("notifications/tools/list_changed")
    if name == "ask":
        for i, method in enumerate(("roots/list", "sampling/createMessage", "elicitation/create", "ping")):
            say({"jsonrpc": "2.0", "id": f"q{i}", "method": method, "params": {}})
        replies = sorted((json.loads(sys.stdin.readline()) for _ in range(4)), key=lambda m: m["id"])
        text = json.dumps(replies)
    if name == "garbage":
        sys.stdout.write("Starting…\n{not json\n\n[1,2\n")
        sys.stdout.flush()
    if name == "env":
        text = json.dumps({"env": dict(os.environ), "cwd": os.getcwd(), "pid": os.getpid(), "sid": os.getsid(0)})
    if name == "odd":
        say({"jsonrpc": "2.0", "id": request["id"]})
        return
    answer(request, {"content": [{"type": "text", "text": text}]})


def main():
    count = starts()
    if "noisy" in MODES:
        sys.stderr.write("noise\n" * 20_000 + "x" * 500_000 + "\n")
        sys.stderr.flush()
    if count == 2 and "second-fails" in MODES:
        sys.stderr.write("no seat left\n")
        sys.stderr.flush()
        sys.exit(3)
    if "exit3" in MODES or (count == 1 and "flaky" in MODES):
        sys.stderr.write("Traceback (most recent call last)\nno licence found\n\n")
        sys.stderr.flush()
        sys.exit(3)
    if "mute" in MODES:
        sys.stderr.write("waiting for the moon\n")
        sys.stderr.flush()
        time.sleep(3600)
    if "stubborn" in MODES:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if MODES & {"stubborn", "parent"}:
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(3600)"])
        TOOLS.append({"name": f"child-{child.pid}", "inputSchema": {}})
    for line in sys.stdin:
        request = json.loads(line)
        method = request.get("method")
        if "fragile" in MODES and method != "initialize":
            # Servers on mcp 1.6 do so when the first request is not the one they know.
            raise RuntimeError("Received request before initialization was complete")
        if method == "initialize":
            MODES.discard("fragile")
            initialize(request)
        elif method == "server/discover" and "modern" in MODES:
            answer(
                request, {"supportedVersions": ["2026-07-28"], "capabilities": {"tools": {}}, "resultType": "complete"}
            )
        elif method == "ping":
            if "tattle" in MODES:
                TOOLS.append({"name": f"pinged{len(TOOLS)}", "inputSchema": {"type": "object"}})
                if len(TOOLS) > 14:
                    tell("notifications/tools/list_changed")
            if "deaf" not in MODES:
                say({"jsonrpc": "2.0", "id": request["id"], "error": {"code": -32601, "message": "no ping"}})
        elif method == "tools/list":
            if "loop" in MODES:
                answer(request, {"tools": TOOLS[:1], "nextCursor": "again"})
                continue
            at = int(request.get("params", {}).get("cursor", 0))
            page = {"tools": TOOLS[at : at + 5]}
            if at + 5 < len(TOOLS):
                page["nextCursor"] = str(at + 5)
            if "invalid" in MODES and at == 0:
                page["tools"] = [
                    {"name": 7},
                    "text",
                    {"name": ""},
                    *page["tools"],
                    {**page["tools"][0], "title": "again"},
                ]
            answer(request, page)
        elif method == "tools/call":
            call(request)
        elif method == "notifications/cancelled":
            if "polite" in MODES and request["params"]["requestId"] in held:
                TOOLS.append({"name": "cancelled", "inputSchema": {"type": "object"}})
                tell("notifications/tools/list_changed")
            for late in [h for h in held if isinstance(h, dict)]:
                answer(late, {"content": [], "late": True})
            held.clear()
        elif method == "resources/templates/list":
            say({"jsonrpc": "2.0", "id": request["id"], "error": {"code": -32601, "message": "none"}})
        elif method == "resources/list":
            answer(request, {"resources": [{"uri": "raw://one", "name": "one"}]})
        elif method == "prompts/list":
            answer(request, {"prompts": [{"name": "greet"}]})
        elif "id" in request and method:
            say(
                {
                    "jsonrpc": "2.0",
                    "id": request["id"],
                    "error": {"code": -32601, "message": f"no {method}", "data": [1]},
                }
            )
    if "stubborn" in MODES:
        time.sleep(3600)


main()
