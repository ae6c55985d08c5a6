"""What every operator's route begins and ends with: errors become problem details, answers JSON that nobody keeps."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Collection
from typing import Any

from aiohttp import web

from node.operator.errors import problem
from proto import jsons
from proto.errors import Fault, Invalid, MeshError

log = logging.getLogger("toolmesh.operator")

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def edge(handler: Handler) -> Handler:
    """No traceback reaches anybody."""

    async def handle(request: web.Request) -> web.StreamResponse:
        try:
            return await handler(request)
        except MeshError as e:
            return problem(e)
        except web.HTTPException:
            raise
        except Exception:
            fault = Fault()
            log.exception("fault %s in %s %s", fault.data["fault_id"], request.method, request.path)
            return problem(fault)

    return handle


def answer(value: Any, status: int = 200) -> web.Response:
    return web.Response(
        status=status,
        body=jsons.dumps(value),
        content_type="application/json",
        headers={"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"},
    )


async def body_of(request: web.Request, bytes_max: int, fields: Collection[str] | None = None) -> dict[str, Any]:
    """The body, with none but these fields. Raises `Invalid`."""
    if request.content_type != "application/json":
        # Which a web page of another origin cannot send without asking first, and nobody here would agree.
        raise Invalid("send the body as application/json")
    if (request.content_length or 0) > bytes_max:
        raise Invalid(f"the body is larger than {bytes_max} bytes")
    raw = await request.read()
    if len(raw) > bytes_max:
        raise Invalid(f"the body is larger than {bytes_max} bytes")
    body = jsons.loads_object(raw or b"{}", "the body")
    if fields is not None and (unknown := body.keys() - set(fields)):
        raise Invalid(f"field {min(unknown)[:80]!r} is not known here; leave it out")
    return body
