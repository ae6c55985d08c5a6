"""What etcd's refusals mean: gRPC status and etcd's own words, as errors of this house.

What another endpoint may answer better is `Unavailable`, and nothing else is.
"""

from __future__ import annotations

from collections.abc import Callable

import grpc

from proto.errors import Conflict, Exhausted, Forbidden, Invalid, MeshError, Unauthenticated, Unavailable, Unknown

_CANCEL_PREFIX = "rpc error: code = "
_WORDS_MAX = 300


class Compacted(Conflict):
    """Changes since the revision asked for are no longer kept: list again and watch from there."""


class StaleToken(Unauthenticated):
    """etcd does not, or no longer, know who we are; logging in may mend it."""


_MEANING: dict[str, Callable[[str], MeshError]] = {
    "invalid auth token": lambda at: StaleToken(f"{at}: our login has expired"),
    "revision of auth store is old": lambda at: StaleToken(f"{at}: users or roles have changed since our login"),
    "user name is empty": lambda at: StaleToken(f"{at} demands a login: set username and password"),
    "authentication failed, invalid user ID or password": lambda at: Unauthenticated(
        f"{at} refuses the login: mend username or password"
    ),
    "permission denied": lambda at: Forbidden(
        f"{at} forbids it: grant the user's role readwrite on the prefix of this mesh"
    ),
    "mvcc: required revision has been compacted": lambda at: Compacted(f"{at}: the changes asked for were compacted"),
    "requested lease not found": lambda at: Unknown(f"{at} knows no such lease"),
    "mvcc: database space exceeded": lambda at: Exhausted(f"{at} is full: compact and defragment it, clear its alarm"),
    "context deadline exceeded": lambda at: Unavailable(f"{at} did not answer in time"),
    "too many requests": lambda at: Exhausted(f"{at} is overloaded"),
}
"""etcd's own words, less their `etcdserver: `."""

_ENDED = "it ends the connection"
_CAUSES = (
    ("CERTIFICATE_VERIFY_FAILED", "its certificate is not vouched for by tls.ca"),
    ("Hostname Verification", "its certificate does not name this host; dial it by a name or an address that it holds"),
    ("TSI_DATA_CORRUPTED", "it refuses our certificate; give tls.cert and tls.key that it accepts"),
    ("Handshake read failed", "it ends the TLS handshake; if it speaks no TLS, write http://"),
    ("Socket closed", _ENDED),
    *((cause, cause) for cause in ("Connection refused", "Connection timed out", "No route to host")),
)
"""gRPC wraps what went wrong in layers of its own; what a person needs is somewhere in them."""


def meaning(code: grpc.StatusCode, details: str, at: str) -> MeshError:
    """The error for a call to the endpoint `at` that ended with `code`."""
    words = details.removeprefix("etcdserver: ")
    if known := _MEANING.get(words):
        return known(at)
    match code:
        case grpc.StatusCode.DEADLINE_EXCEEDED:
            return Unavailable(f"{at} did not answer in time")
        case grpc.StatusCode.INVALID_ARGUMENT | grpc.StatusCode.UNIMPLEMENTED:
            return Invalid(f"{at} refuses the request: {words[:_WORDS_MAX]}")
        case grpc.StatusCode.PERMISSION_DENIED:
            return Forbidden(f"{at} forbids it: {words[:_WORDS_MAX]}")
        case grpc.StatusCode.UNAUTHENTICATED:
            return Unauthenticated(f"{at} refuses the login: {words[:_WORDS_MAX]}")
        case grpc.StatusCode.RESOURCE_EXHAUSTED:
            return Exhausted(f"{at} has reached a limit: {words[:_WORDS_MAX]}")
    why = _plain(words)
    if why == _ENDED and at.startswith("http://"):
        why += "; if it speaks TLS, write https://"
    return Unavailable(f"{at} does not serve: {why}")


def cancelled_watch(reason: str, compact_revision: int, at: str) -> MeshError:
    """The error for a watch that the server has ended."""
    if compact_revision:
        return Compacted(f"{at}: changes before revision {compact_revision} were compacted")
    # The reason is often a Go error, printed: `rpc error: code = PermissionDenied desc = etcdserver: …`.
    words = reason.partition(" desc = ")[2] if reason.startswith(_CANCEL_PREFIX) else reason
    return meaning(grpc.StatusCode.UNAVAILABLE, words, at)


def _plain(details: str) -> str:
    return next((words for cause, words in _CAUSES if cause in details), details[-_WORDS_MAX:])
