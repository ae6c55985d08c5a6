"""An MCP server on bare JSON over pipes, small enough that a dozen run on one machine.

Usage: stamping.py WHO FILE TOOLS. `stamp {mark}` appends the line "mark WHO" to FILE and answers WHO; `grow {name}`
adds a tool of that name and says that the list has changed. Beside these it has TOOLS tools that do nothing.
What it says of them does not depend on WHO: members of a service have one definition.
"""

import json
import os
import sys

WHO, FILE, MANY = sys.argv[1], sys.argv[2], int(sys.argv[3])
PAGE = 500
FILLER = "One of many tools, described at such length as tools usually are, so that its record weighs what one weighs. "


def described(name, description):
    return {"name": name, "description": description, "inputSchema": {"type": "object"}}


TOOLS = [
    described("stamp", "Leave a mark in a file"),
    described("grow", "Add a tool that does nothing"),
    *(described(f"idle-{i}", f"{FILLER * 4}This is number {i}.") for i in range(MANY)),
]


def say(message):
    sys.stdout.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")
    sys.stdout.flush()


def call(name, arguments):
    if name == "stamp":
        # One write to a file opened for appending: lines of several processes do not mix.
        file = os.open(FILE, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        os.write(file, f"{arguments['mark']} {WHO}\n".encode())
        os.close(file)
    elif name == "grow":
        TOOLS.append(described(arguments["name"], "It does nothing"))
        say({"method": "notifications/tools/list_changed"})
    return {"content": [{"type": "text", "text": WHO}]}


def page(cursor):
    start = int(cursor or 0)
    rest = {"nextCursor": str(start + PAGE)} if start + PAGE < len(TOOLS) else {}
    return {"tools": TOOLS[start : start + PAGE], **rest}


def result(method, params):
    if method == "initialize":
        return {
            "protocolVersion": "2025-06-18",
            "capabilities": {"tools": {"listChanged": True}},
            "serverInfo": {"name": "stamping", "version": "1"},
        }
    if method == "tools/list":
        return page(params.get("cursor"))
    if method == "tools/call":
        return call(params["name"], params.get("arguments") or {})
    return {} if method == "ping" else None


for line in sys.stdin:
    message = json.loads(line)
    if "id" in message and "method" in message:
        answer = result(message["method"], message.get("params") or {})
        if answer is None:
            say({"id": message["id"], "error": {"code": -32601, "message": "no such method"}})
        else:
            say({"id": message["id"], "result": answer})
