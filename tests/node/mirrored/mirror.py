"""An MCP server that answers exactly what it was told to, in either era, and tells exactly what it heard. Stdlib only.

`mirror.py 2025-11-25` or `mirror.py 2026-07-28` serves stdin and stdout; `world.HttpMirror` serves the same by HTTP.

Of the tool `mirror` these arguments are orders:
  answer  members of the result                     error   the whole error instead of a result
  notify  notifications ahead of the answer         ask     questions to the client, {method, params} each, all at once
  raw     the text of the result, as it is          hold    never answer; a cancellation is counted
  together  answer once so many such calls wait, the last one first
  release  answer all that were held, in this session
  heard    answer once a notification of that method came, with its params as JSON text
The result also holds `x-saw`, the params that came in, as JSON text (so that it adds no depth), and `x-replies`, what
the client replied to each question, likewise. `counts` answers how often each method came.
"""

import json
import sys
from collections import Counter

MODERN = "2026-07-28"
META = "io.modelcontextprotocol/"
TOOLS = [
    {"name": name, "description": f"Tool {name}", "inputSchema": {"type": "object"}, "x-unknown": [None, 1.0, 2**70]}
    for name in ("mirror", "counts", "spiegel-ü 😀", "three", "four")
]
PAGE = 2
STATE = "their state: é 😀 \u0000 \u2028"


def text_of(value):
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


class Open:
    """A call whose questions are out."""

    def __init__(self, request, questions):
        self.request = request
        self.left = set(questions)
        self.order = questions
        self.replies = {}


class Mirror:
    """One session's server. `take` gives (id of the request that it belongs to, JSON text) for each message to say."""

    def __init__(self, version):
        self.version = version
        self.modern = version == MODERN
        self.counts = Counter()
        self.asked = {}
        self.questions = 0
        self.held = {}
        self.waiting = []
        self.heard = {}
        self.listening = {}

    def take(self, message):
        method = message.get("method")
        if method is None:
            return self.replied(message)
        self.counts[method] += 1
        if "id" not in message:
            if method == "notifications/cancelled":
                self.cancelled((message.get("params") or {}).get("requestId"))
            return self.told(method, message.get("params"))
        return self.requested(message, method, message.get("params") or {})

    def cancelled(self, request_id):
        if self.held.pop(request_id, None) is not None:
            self.counts["released"] += 1
        for number, call in list(self.asked.items()):
            if call.request["id"] == request_id:
                del self.asked[number]

    def told(self, method, params):
        if not method.startswith("notifications/vendor"):
            return []
        self.heard[method] = params
        listening = self.listening.pop(method, None)
        return [] if listening is None else self.heard_of(listening, method)

    def heard_of(self, message, method):
        return self.result(message, {"content": [], "x-heard": text_of(self.heard.pop(method))})

    def requested(self, message, method, params):
        if method == "initialize" and not self.modern:
            return self.result(message, {"protocolVersion": self.version, **self.about()})
        if method == "server/discover" and self.modern:
            return self.result(message, {"supportedVersions": [MODERN], "ttlMs": 0, **self.about()})
        if method == "ping" and not self.modern:
            return self.result(message, {})
        if method == "logging/setLevel" and not self.modern:
            return self.result(message, {})
        if method == "tools/list":
            at = int(params.get("cursor", 0))
            page = {"tools": TOOLS[at : at + PAGE], **({"ttlMs": 3_600_000} if self.modern else {})}
            if at + PAGE < len(TOOLS):
                page["nextCursor"] = str(at + PAGE)
            return self.result(message, page)
        if method == "tools/call" and params.get("name") == "counts":
            return self.result(message, {"content": [], "structuredContent": dict(self.counts)})
        if method == "tools/call":
            return self.called(message, params, params.get("arguments") or {})
        if method.startswith("vendor/"):
            return self.called(message, params, params)
        return [
            (message["id"], self.frame({"id": message["id"], "error": {"code": -32601, "message": f"no {method}"}}))
        ]

    def about(self):
        return {"capabilities": {"tools": {}, "logging": {}}, "serverInfo": {"name": "mirror", "version": "1"}}

    def called(self, message, params, orders):
        said = [(message["id"], self.frame(told(n, params))) for n in orders.get("notify", ())]
        if "hold" in orders:
            self.held[message["id"]] = message
            return said
        if "heard" in orders:
            if orders["heard"] in self.heard:
                return self.heard_of(message, orders["heard"])
            self.listening[orders["heard"]] = message
            return said
        if "release" in orders:
            for held in self.held.values():
                said += self.answered(held, [])
            self.held.clear()
            return said + self.answered(message, [])
        if "together" in orders:
            self.waiting.append(message)
            if len(self.waiting) < orders["together"]:
                return said
            for waited in reversed(self.waiting):
                said += self.answered(waited, [])
            self.waiting.clear()
            return said
        questions = orders.get("ask", ())
        if not questions:
            return said + self.answered(message, [])
        if self.modern:
            return said + self.asked_modern(message, params, questions)
        numbers = []
        for question in questions:
            self.questions += 1
            numbers.append(f"q{self.questions}-ü")
            said.append((message["id"], self.frame({"id": numbers[-1], **question})))
        call = Open(message, numbers)
        self.asked.update(dict.fromkeys(numbers, call))
        return said

    def asked_modern(self, message, params, questions):
        """Without a memory: what the client says in its retry is all that is known."""
        keys = [f"key {i} é" for i in range(len(questions))]
        replies = params.get("inputResponses")
        if replies is None:
            wanted = dict(zip(keys, questions, strict=True))
            asked = {"resultType": "input_required", "inputRequests": wanted, "requestState": STATE}
            return [(message["id"], self.frame({"id": message["id"], "result": asked}))]
        if params.get("requestState") != STATE:
            error = {"code": -32602, "message": "not the state that was given", "data": params.get("requestState")}
            return [(message["id"], self.frame({"id": message["id"], "error": error}))]
        return self.answered(message, [replies.get(key) for key in keys])

    def replied(self, message):
        call = self.asked.pop(message.get("id"), None)
        if call is None:
            self.counts["stray replies"] += 1
            return []
        call.left.discard(message["id"])
        call.replies[message["id"]] = message["result"] if "result" in message else {"error": message.get("error")}
        return [] if call.left else self.answered(call.request, [call.replies[n] for n in call.order])

    def answered(self, message, replies):
        params = message.get("params") or {}
        orders = params.get("arguments") or {} if message["method"] == "tools/call" else params
        if "error" in orders:
            return [(message["id"], self.frame({"id": message["id"], "error": orders["error"]}))]
        if "raw" in orders:
            number = text_of(message["id"])
            return [(message["id"], f'{{"jsonrpc":"2.0","id":{number},"result":{orders["raw"]}}}')]
        saw = {"x-saw": text_of(params), "x-replies": text_of(replies)}
        # Typed clients drop what they do not know.
        known = {"structuredContent": {"replies": replies}} if replies else {}
        return self.result(message, {"content": [], **known, **orders.get("answer", {}), **saw})

    def result(self, message, result):
        if self.modern:
            result = {"resultType": "complete", **result}
        return [(message["id"], self.frame({"id": message["id"], "result": result}))]

    def frame(self, message):
        return text_of({"jsonrpc": "2.0", **message})


def told(notification, params):
    """Progress bears the token of the call."""
    if notification["method"] != "notifications/progress":
        return notification
    token = (params.get("_meta") or {}).get("progressToken")
    return {**notification, "params": {**notification["params"], "progressToken": token}}


def main():
    sys.set_int_max_str_digits(0)
    mirror = Mirror(sys.argv[1])
    for line in sys.stdin.buffer:
        for _, text in mirror.take(json.loads(line)):
            sys.stdout.buffer.write(text.encode() + b"\n")
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
