"""The members of an etcd cluster: which one is asked, who we are to it, and what becomes of a call that fails.

Every call has a deadline and asks for a leader (`hasleader`): a member that is frozen, or cut off from the others,
is left for the next one as one that is down is. All tasks of a client ask the same member, chosen at random at the
start, so that the nodes of a mesh spread over the cluster.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

import grpc
import grpc.aio

from federation.etcd.errors import StaleToken, meaning
from federation.etcd.settings import Endpoint, EtcdSettings
from proto.errors import Unavailable
from proto.etcd_pb2 import AuthenticateRequest, AuthenticateResponse

log = logging.getLogger("toolmesh.federation.etcd")

MESSAGE_BYTES_MAX = 16 * 1024 * 1024

Metadata = tuple[tuple[str, str], ...]
_LEADER: Metadata = (("hasleader", "true"),)

_OPTIONS: list[tuple[str, Any]] = [
    # etcd closes connections that ping more often than each 5 s, or without a call in progress.
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.min_reconnect_backoff_ms", 2_000),
    ("grpc.max_reconnect_backoff_ms", 2_000),
    ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_http_proxy", 0),
    ("grpc.enable_retries", 0),
]


class Message(Protocol):
    """What protobuf generates."""

    def SerializeToString(self) -> bytes: ...  # noqa: N802 protobuf's name


Q = TypeVar("Q", bound=Message)
A = TypeVar("A")


@dataclass(frozen=True, slots=True)
class Method(Generic[Q, A]):
    """A call by its literal path. `stream`: one message each way all the same, on a stream that is then closed."""

    path: str
    read: Callable[[bytes], A]
    stream: bool = False


_AUTHENTICATE: Method[AuthenticateRequest, AuthenticateResponse] = Method(
    "/etcdserverpb.Auth/Authenticate", AuthenticateResponse.FromString
)


class Member:
    """One endpoint and its channel, which connects when it is first used. `problem`: why it was last left."""

    def __init__(self, endpoint: Endpoint, settings: EtcdSettings) -> None:
        self.at = str(endpoint)
        self.problem = ""
        tls = settings.tls
        if endpoint.secure and tls is not None:
            credentials = grpc.ssl_channel_credentials(tls.ca, tls.key or None, tls.cert or None)
            self.channel = grpc.aio.secure_channel(endpoint.target, credentials, options=_OPTIONS)
        else:
            self.channel = grpc.aio.insecure_channel(endpoint.target, options=_OPTIONS)

    def __repr__(self) -> str:
        return f"Member({self.at}{f', {self.problem}' if self.problem else ''})"


class Cluster:
    """Made on the loop that uses it; `close` once nothing does."""

    def __init__(self, settings: EtcdSettings) -> None:
        self.settings = settings
        self.members = [Member(endpoint, settings) for endpoint in settings.endpoints]
        random.shuffle(self.members)
        self.current = self.members[0]
        self._metadata: Metadata | None = None
        self._login = asyncio.Lock()
        self._down = False

    async def close(self) -> None:
        await asyncio.gather(*(member.channel.close() for member in self.members))

    # ---- calls ----------------------------------------------------------------------------------

    async def call(self, method: Method[Q, A], request: Q, *, repeatable: bool = True) -> A:
        """Ask the current member; while there is no answer, each other one once.

        Raises `Unavailable` if none answers. Unless `repeatable`, after the first attempt: it may have been carried
        out, so ask what became of it.
        """
        failures: list[str] = []
        for _ in self.members:
            member = self.current
            try:
                answer = await self._as_us(member, method, request)
            except Unavailable as e:
                self.leave(member, e.message)
                failures.append(e.message)
                if not repeatable:
                    break
            else:
                self.serves(member)
                return answer
        raise Unavailable("; ".join(failures))

    async def _as_us(self, member: Member, method: Method[Q, A], request: Q) -> A:
        metadata = await self.log_in(member)
        try:
            return await self._ask(member, method, request, metadata)
        except StaleToken:
            if not self.log_out(metadata):
                raise
        return await self._ask(member, method, request, await self.log_in(member))

    async def _ask(self, member: Member, method: Method[Q, A], request: Q, metadata: Metadata) -> A:
        write, within_s = type(request).SerializeToString, self.settings.call_s
        try:
            if not method.stream:
                unary = member.channel.unary_unary(method.path, write, method.read)
                return await unary(request, timeout=within_s, metadata=metadata)
            stream = member.channel.stream_stream(method.path, write, method.read)
            call = stream(iter([request]), timeout=within_s, metadata=metadata)
            try:
                async for answer in call:
                    return answer
            finally:
                call.cancel()
        except grpc.aio.AioRpcError as e:
            raise meaning(e.code(), e.details() or "", member.at) from None
        raise Unavailable(f"{member.at} ended {method.path} without an answer")

    # ---- who we are -----------------------------------------------------------------------------

    async def log_in(self, member: Member) -> Metadata:
        """What goes with every call and stream; a login is made if there is a username and none is in use.

        One at a time: etcd's password hash is slow on purpose.
        """
        async with self._login:
            if self._metadata is None:
                token = await self._authenticate(member) if self.settings.username else ""
                self._metadata = (*_LEADER, ("token", token)) if token else _LEADER
            return self._metadata

    def log_out(self, refused: Metadata) -> bool:
        """etcd refused that login: make another one next time. False if another one cannot help."""
        if self._metadata is refused:
            self._metadata = None
        return bool(self.settings.username)

    async def _authenticate(self, member: Member) -> str:
        request = AuthenticateRequest(name=self.settings.username, password=self.settings.password)
        try:
            return (await self._ask(member, _AUTHENTICATE, request, _LEADER)).token
        except Unavailable as e:
            # FAILED_PRECONDITION: a cluster where authentication is not turned on, or not yet, serves everybody.
            if "authentication is not enabled" in e.message:
                return ""
            raise

    # ---- which member ---------------------------------------------------------------------------

    def serves(self, member: Member) -> None:
        """It has answered."""
        member.problem = ""
        if self._down:
            self._down = False
            log.info("etcd answers again, at %s", member.at)

    def leave(self, member: Member, problem: str) -> None:
        """It has not answered: if it is the current one, the next one in turn is. Said once for each new problem."""
        news, member.problem = member.problem != problem, problem
        if member is self.current:
            self.current = self.members[(self.members.index(member) + 1) % len(self.members)]
        if self._down:
            return
        if all(m.problem for m in self.members):
            self._down = True
            log.warning(
                "etcd does not answer, the node runs on without: %s", "; ".join(m.problem for m in self.members)
            )
        elif news:
            log.info("etcd is asked at %s from now on: %s", self.current.at, problem)

    @property
    def problem(self) -> str:
        """Why no member answers; empty if one does."""
        return "; ".join(m.problem for m in self.members) if self._down else ""

    def __repr__(self) -> str:
        return f"Cluster({len(self.members)} members, asks {self.current.at}{', none answers' if self._down else ''})"
