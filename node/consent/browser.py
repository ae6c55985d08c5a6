"""What every page does with a request: whose host it names, which cookies it bears, what its form says; and the answer.

Errors become pages here, and only here.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from urllib.parse import parse_qsl, urlsplit

from aiohttp import web

from node.consent import pages
from node.settings.values import is_loopback
from proto.errors import Fault, Invalid, MeshError

log = logging.getLogger("toolmesh.consent")

FORM_BYTES_MAX = 16 * 1024
FORM_FIELDS_MAX = 16
FORM_READ_S = 10.0

_STATUS = {
    "invalid": HTTPStatus.BAD_REQUEST,
    "unknown": HTTPStatus.NOT_FOUND,
    "forbidden": HTTPStatus.NOT_FOUND,
    # Not 401: a browser would be owed a challenge (RFC 9110 §15.5.2) and has a form to sign in with.
    "unauthenticated": HTTPStatus.FORBIDDEN,
    "scope_required": HTTPStatus.FORBIDDEN,
    "exhausted": HTTPStatus.TOO_MANY_REQUESTS,
    "fault": HTTPStatus.INTERNAL_SERVER_ERROR,
}

Handler = Callable[[web.Request], Awaitable[web.Response]]


def edge(handler: Handler, public_url: Callable[[], str]) -> Handler:
    """The handler, for browsers that came by this node's own name, with every failure as a page."""

    async def handle(request: web.Request) -> web.Response:
        try:
            check_host(request, public_url())
            return await handler(request)
        except MeshError as e:
            return failed(e)
        except web.HTTPException:
            raise
        except Exception:
            fault = Fault()
            log.exception("fault %s in %s %s", fault.data["fault_id"], request.method, request.match_info.route)
            return failed(fault)

    return handle


def check_host(request: web.Request, public_url: str) -> None:
    """Under another name a page of somebody else's could be looking in (DNS rebinding). Raises `Invalid`."""
    own = urlsplit(public_url)
    if request.host.lower() == own.netloc.lower():
        return
    if is_loopback(own.hostname or "") and is_loopback(urlsplit(f"//{request.host}").hostname or ""):
        return
    raise Invalid(f"this node's pages are at {public_url} and under no other name")


def check_origin(request: web.Request, public_url: str) -> None:
    """A form comes from our own page; browsers say so. Raises `Invalid`."""
    origin = request.headers.get("Origin")
    site = request.headers.get("Sec-Fetch-Site", "same-origin")
    own = urlsplit(public_url)
    allowed = {f"{own.scheme}://{own.netloc}".lower(), f"{own.scheme}://{request.host}".lower()}
    if (origin is not None and origin.lower() not in allowed) or site not in ("same-origin", "none"):
        raise Invalid("this form was sent from another site's page")


async def form_of(request: web.Request) -> dict[str, str]:
    """Its fields, each once. Raises `Invalid`."""
    if request.content_type != "application/x-www-form-urlencoded":
        raise Invalid("a form is sent as application/x-www-form-urlencoded")
    parts: list[bytes] = []
    held = 0
    try:
        async with asyncio.timeout(FORM_READ_S):
            async for part in request.content.iter_any():
                held += len(part)
                if held > FORM_BYTES_MAX:
                    raise Invalid(f"the form is longer than {FORM_BYTES_MAX} bytes")
                parts.append(part)
    except TimeoutError:
        raise Invalid(f"the form took longer than {FORM_READ_S:g} s to arrive") from None
    try:
        text = b"".join(parts).decode()
        fields = parse_qsl(text, keep_blank_values=True, max_num_fields=FORM_FIELDS_MAX, errors="strict")
    except ValueError:
        raise Invalid("the form cannot be read") from None
    return single(fields)


def single(fields: list[tuple[str, str]]) -> dict[str, str]:
    """Raises `Invalid` for a name that comes twice: two readers could each believe another one."""
    found = dict(fields)
    if len(found) != len(fields):
        raise Invalid("a parameter is given twice")
    return found


def page(text: str, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    return web.Response(
        status=status,
        text=text,
        content_type="text/html",
        charset="utf-8",
        headers={**pages.HEADERS, **(headers or {})},
    )


def to(path: str) -> web.Response:
    """Go on at another page of ours."""
    return web.Response(status=303, headers={**pages.HEADERS, "Location": path})


def failed(error: MeshError) -> web.Response:
    status = _STATUS.get(error.kind, HTTPStatus.SERVICE_UNAVAILABLE)
    text = error.message
    if error.kind == "fault":
        text = f"Something went wrong here, and not because of you. The node's log has it as {error.data['fault_id']}."
    if status is HTTPStatus.NOT_FOUND:
        text = "There is no such server, or none that you may use."
    headers = {}
    if status is HTTPStatus.TOO_MANY_REQUESTS and "retry_after_s" in error.data:
        headers["Retry-After"] = str(max(1, round(error.data["retry_after_s"])))
    return page(pages.message("That did not work", text), status, headers)


def set_cookie(response: web.Response, name: str, value: str, max_age_s: int) -> None:
    response.set_cookie(name, value, max_age=max_age_s, path="/", secure=True, httponly=True, samesite="Lax")


def drop_cookie(response: web.Response, name: str) -> None:
    response.set_cookie(name, "", max_age=0, path="/", secure=True, httponly=True, samesite="Lax")
