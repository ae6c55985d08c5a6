"""An MCP server on bare stdio whose one tool writes a line to the file named on its command line, then takes a moment.

Several calls run at a time. What is in the file ran, and as often as it stands there.
While there is a pipe beside the file, named like it and `.gate`, a call is told through it and never answered.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from pathlib import Path
from typing import Any

TOOL = {"name": "enter", "inputSchema": {"type": "object", "properties": {"mark": {"type": "string"}}}}
WORK_S = 0.03

_out = threading.Lock()


def answer(request_id: Any, result: dict[str, Any]) -> None:
    with _out:
        sys.stdout.write(json.dumps({"jsonrpc": "2.0", "id": request_id, "result": result}) + "\n")
        sys.stdout.flush()


def enter(ledger: int, gate: Path, request_id: Any, mark: str) -> None:
    os.write(ledger, f"{mark}\n".encode())
    if gate.exists():
        gate.write_text(f"{mark}\n")
        threading.Event().wait()
    threading.Event().wait(WORK_S)
    answer(request_id, {"content": [{"type": "text", "text": mark}]})


def main() -> None:
    ledger = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    gate = Path(sys.argv[1] + ".gate")
    for line in sys.stdin:
        message = json.loads(line)
        method, request_id, params = message.get("method"), message.get("id"), message.get("params") or {}
        if request_id is None:
            continue
        if method == "initialize":
            info = {"name": "ledger", "version": "1"}
            revision = params["protocolVersion"]
            answer(request_id, {"protocolVersion": revision, "capabilities": {"tools": {}}, "serverInfo": info})
        elif method == "tools/list":
            answer(request_id, {"tools": [TOOL]})
        elif method == "tools/call":
            args = (ledger, gate, request_id, params["arguments"]["mark"])
            threading.Thread(target=enter, args=args, daemon=True).start()
        elif method == "ping":
            answer(request_id, {})
        else:
            error = {"code": -32601, "message": "no such method"}
            with _out:
                print(json.dumps({"jsonrpc": "2.0", "id": request_id, "error": error}), flush=True)


if __name__ == "__main__":
    main()
