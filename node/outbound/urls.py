"""URLs that somebody else wrote: read once, by the parser that dials them, and refused where two might read two things.

Nothing is resolved here; what a name stands for is judged when it is dialled (connector.py).
"""

from __future__ import annotations

import re
import socket
from collections.abc import Collection
from ipaddress import ip_address

from yarl import URL

from node.outbound.addresses import forbidden_reason
from node.outbound.allowed import DEFAULT_PORTS, Allowed
from proto.errors import Invalid

URL_CHARACTERS_MAX = 4_096
_LOW_PORTS = (80, 443)
_UNWRITTEN = re.compile(r"[\x00-\x20\x7f\\]")
HOST_CHARACTERS_MAX = 254
_LABEL = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_HOST = re.compile(rf"{_LABEL}(?:\.{_LABEL})*\.?|[0-9a-f:.]+")
_AUTHORITY = re.compile(r"[^:/?#]*://([^/?#]*)")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")


def checked_url(text: str, allowed: Allowed, schemes: Collection[str], what: str = "url") -> URL:
    """The URL as it will be dialled. Raises `Invalid`, whose message names `what`.

    `schemes` are those taken; where `allowed` names the host, the same without TLS is taken as well.
    """
    url = _read(text, what)
    host, port = url.raw_host or "", url.port or 0
    trusted = allowed.host(host, port)
    if url.scheme not in schemes and not (trusted and f"{url.scheme}s" in schemes):
        wanted = " or ".join(f"{scheme}://" for scheme in schemes)
        raise Invalid(f"{what} {_shown(url)} must begin with {wanted}")
    if not trusted and (reason := reason_against(host, port)):
        raise Invalid(f"{what} {_shown(url)} may not be dialled: {reason}. If it is meant, add it to outbound.allow")
    return url


def reason_against(host: str, port: int) -> str:
    """Why host and port as they are written may not be dialled, whatever they resolve to; empty where nothing says so.

    A name is judged when its addresses are known.
    """
    if port not in _LOW_PORTS and port < 1_024:
        return f"port {port} is of another service"
    bare = host.rstrip(".")
    if _is_address(bare):
        reason = forbidden_reason(bare)
        return f"{bare} {reason}" if reason else ""
    return ""


def _read(text: str, what: str) -> URL:
    if len(text) > URL_CHARACTERS_MAX:
        raise Invalid(f"{what} is longer than {URL_CHARACTERS_MAX} characters")
    if _UNWRITTEN.search(text):
        raise Invalid(f"{what} holds a blank, a control character or a backslash, which no URL does")
    try:
        url = URL(text)
        host, port = url.raw_host, url.port
    except (ValueError, UnicodeError) as e:
        raise Invalid(f"{what} is no URL: {e}") from None
    if url.scheme not in DEFAULT_PORTS or not host or not port:
        raise Invalid(f"{what} is not an http://, https://, ws:// or wss:// address with a host and a port")
    # RFC 3986 §7.6: a name before the @ is read as the host by people, and by some parsers.
    written = _AUTHORITY.match(text)
    if url.raw_user is not None or url.raw_password is not None or written is None or "@" in written[1]:
        raise Invalid(f"{what} holds a user name or password; credentials do not belong into a URL")
    if len(host) > HOST_CHARACTERS_MAX or not _HOST.fullmatch(host):
        raise Invalid(f"{what}: {host!r} is no host name and no address")
    _refuse_other_numbers(host, what)
    return url.with_fragment(None)


def _refuse_other_numbers(host: str, what: str) -> None:
    """Decimal, octal, hexadecimal and short forms of IPv4 are the same address to inet_aton, and none to filters."""
    if ":" in host or not _NUMBER.fullmatch(host.rstrip(".").rpartition(".")[2]):
        return
    if not _is_address(host):
        try:
            meant = f": it would be {socket.inet_ntoa(socket.inet_aton(host.rstrip('.')))}"
        except OSError:
            meant = ""
        raise Invalid(f"{what}: {host!r} is not an address in four decimal numbers{meant}; write it so")


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def _shown(url: URL) -> str:
    """Without the query, which may hold a secret."""
    return repr(str(url.with_query(None)))
