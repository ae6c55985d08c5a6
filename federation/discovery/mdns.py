"""Peers on the same link, by multicast DNS (RFC 6762) and DNS-SD (RFC 6763).

A hint and no more: anybody on the link can announce anything, a goodbye can be forged, and a crash goes unnoticed
until the record's lifetime ends. So a removal deletes nothing here, and TLS proves whoever is found.

One instance of `_toolmesh._tcp.local.` per node; its TXT record holds `id` (the node id's URI), `mesh`, and `at`
(the address as configured, which may be a name that no A record could hold).
"""

from __future__ import annotations

import asyncio
import hashlib
import ipaddress
import logging
import socket
from collections.abc import Callable, Sequence

from zeroconf import (
    DNSQuestionType,
    Error,
    InterfaceChoice,
    IPVersion,
    ServiceStateChange,
    Zeroconf,
)
from zeroconf.asyncio import AsyncServiceBrowser, AsyncServiceInfo, AsyncZeroconf

from federation.ports import AGAIN_S, Found
from federation.tls import split_address
from proto.errors import Invalid, Unavailable
from proto.names import NodeId

log = logging.getLogger("toolmesh.federation.discovery")

SERVICE = "_toolmesh._tcp.local."
RESOLVE_TIMEOUT_MS = 3_000
RESOLVING_MAX = 64
"""Names being looked up at a time; a flood of announcements beyond it is ignored until they are announced again."""
LISTED_MAX = 256
"""Names that are looked up again every `AGAIN_S`, for as long as they are announced."""
RETRY_S = 30.0
"""How long to wait before trying again where the interface cannot be used."""
_TXT_VALUE_MAX = 250


class MdnsDiscovery:
    """Finds and announces nodes of `mesh` on `interfaces` (IP addresses of this machine; empty: all of them).

    `127.0.0.1` finds other processes on the same machine. Announcements of other meshes are ignored.
    """

    def __init__(self, mesh: str, *, interfaces: Sequence[str] = ()) -> None:
        self._mesh = mesh
        for interface in interfaces:
            _check_ip(interface)
        self._interfaces = list(interfaces)
        self._zeroconf: AsyncZeroconf | None = None
        self._users = 0
        self._problem = ""
        self._own: AsyncServiceInfo | None = None
        self._resolving: dict[str, asyncio.Task[None]] = {}

    async def run(self, found: Callable[[Found], None]) -> None:
        """Until cancelled. An interface that cannot be used is logged and tried again."""
        while True:
            try:
                zeroconf = self._acquire()
            except Unavailable as e:
                log.warning("%s; trying again in %g s", e.message, RETRY_S)
                await asyncio.sleep(RETRY_S)
                continue
            try:
                await self._browse(zeroconf, found)
            finally:
                await self._release()

    async def _browse(self, zeroconf: AsyncZeroconf, found: Callable[[Found], None]) -> None:
        listed: dict[str, None] = {}

        def changed(*, name: str, state_change: ServiceStateChange, **_: object) -> None:
            if state_change is ServiceStateChange.Removed:
                listed.pop(name, None)
                log.debug("mDNS no longer lists %s; its stream decides whether it is there", name)
                return
            if len(listed) < LISTED_MAX:
                listed[name] = None
            resolve(name)

        def resolve(name: str) -> None:
            if name not in self._resolving and len(self._resolving) < RESOLVING_MAX:
                task = asyncio.create_task(self._resolve(zeroconf.zeroconf, name, found), name=f"mdns {name}")
                self._resolving[name] = task
                task.add_done_callback(lambda _: self._resolving.pop(name, None))

        # Asked by multicast (QM): a unicast answer to port 5353 reaches only one of several processes here.
        browser = AsyncServiceBrowser(zeroconf.zeroconf, SERVICE, handlers=[changed], question_type=DNSQuestionType.QM)
        try:
            while True:
                await asyncio.sleep(AGAIN_S)
                for name in list(listed):
                    resolve(name)
        finally:
            await browser.async_cancel()
            for task in list(self._resolving.values()):
                task.cancel()

    async def _resolve(self, zeroconf: Zeroconf, name: str, found: Callable[[Found], None]) -> None:
        info = AsyncServiceInfo(SERVICE, name)
        complete = await info.async_request(zeroconf, RESOLVE_TIMEOUT_MS, question_type=DNSQuestionType.QM)
        # An entry without an address record counts as incomplete there; `at` is all that is needed here.
        if not complete and not info.properties:
            log.info("mDNS lists %s but nobody says where it is", name)
            return
        if self._own is not None and name == self._own.name:
            return
        try:
            hint = _read(info, self._mesh)
        except Invalid as e:
            log.info("mDNS entry %s is not used: %s", name, e.message)
            return
        if hint is not None:
            found(hint)

    async def announce(self, me: NodeId, address: str, mesh: str) -> None:
        """Announce `address` until `withdraw`. Raises `Unavailable` if the interface cannot be used,
        `Invalid` for a malformed address or a mesh name beyond 250 bytes."""
        await self.withdraw()
        info = _service(me, address, mesh, await _resolved(address) or self._interfaces)
        zeroconf = self._acquire()
        self._own = info
        try:
            # Cooperating: a clash of names is not decided by who speaks first on the link, but by the streams.
            await (await zeroconf.async_register_service(info, cooperating_responders=True))
        except (Error, OSError, TimeoutError) as e:
            self._own = None
            await self._release()
            self._problem = f"mDNS cannot announce this node: {e}"
            raise Unavailable(self._problem) from None

    async def withdraw(self) -> None:
        """Say goodbye, so that others forget the name at once."""
        info, self._own = self._own, None
        if info is None or self._zeroconf is None:
            return
        try:
            await (await self._zeroconf.async_unregister_service(info))
        finally:
            await self._release()

    def _acquire(self) -> AsyncZeroconf:
        if self._zeroconf is None:
            try:
                for interface in self._interfaces:
                    _check_usable(interface)
                self._zeroconf = AsyncZeroconf(
                    interfaces=self._interfaces or InterfaceChoice.All, ip_version=self._ip_version()
                )
            except (Error, OSError) as e:
                where = ", ".join(self._interfaces) or "any interface"
                self._problem = f"mDNS cannot use {where}: {e}; set its interfaces or turn it off"
                raise Unavailable(self._problem) from None
            self._problem = ""
        self._users += 1
        return self._zeroconf

    async def _release(self) -> None:
        self._users -= 1
        if self._users == 0 and self._zeroconf is not None:
            zeroconf, self._zeroconf = self._zeroconf, None
            await zeroconf.async_close()

    def _ip_version(self) -> IPVersion:
        versions = {ipaddress.ip_address(i).version for i in self._interfaces}
        if versions == {6}:
            return IPVersion.V6Only
        return IPVersion.All if 6 in versions else IPVersion.V4Only

    @property
    def problem(self) -> str:
        return self._problem

    def __repr__(self) -> str:
        own = self._own.name if self._own else "nothing announced"
        return f"MdnsDiscovery({self._mesh}, {', '.join(self._interfaces) or 'all interfaces'}, {own})"


async def _resolved(address: str) -> list[str]:
    """The IP addresses of its host; none if the name is not known here."""
    host, port = split_address(address)
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as e:
        log.info("mDNS announces %s without an address record: %s", address, e)
        return []
    return list(dict.fromkeys(str(entry[4][0]).partition("%")[0] for entry in found))


def _service(me: NodeId, address: str, mesh: str, ips: Sequence[str]) -> AsyncServiceInfo:
    if len(mesh.encode()) > _TXT_VALUE_MAX:
        raise Invalid(f"mesh name is {len(mesh.encode())} bytes long; mDNS carries at most {_TXT_VALUE_MAX}")
    if len(address) > _TXT_VALUE_MAX:
        raise Invalid(f"address is {len(address)} characters long; mDNS carries at most {_TXT_VALUE_MAX}")
    # A DNS label holds 63 bytes; the hash keeps regions and trust domains apart.
    label = f"{me.name}-{hashlib.sha256(me.uri.encode()).hexdigest()[:8]}"
    return AsyncServiceInfo(
        SERVICE,
        f"{label}.{SERVICE}",
        port=split_address(address)[1],
        parsed_addresses=list(ips),
        server=f"{label}.local.",
        properties={"id": me.uri, "mesh": mesh, "at": address},
    )


def _read(info: AsyncServiceInfo, mesh: str) -> Found | None:
    """What an entry says; None if it is of another mesh. Raises `Invalid` for one that makes no sense."""
    try:
        text = {k.decode(): (v or b"").decode() for k, v in info.properties.items()}
    except UnicodeDecodeError:
        raise Invalid("its TXT record is not UTF-8") from None
    if text.get("mesh") != mesh:
        return None
    claimed = NodeId.parse(text.get("id", ""))
    address = text.get("at", "")
    split_address(address)
    return Found(address, claimed)


def _check_ip(interface: str) -> None:
    try:
        ipaddress.ip_address(interface)
    except ValueError:
        raise Invalid(f"mDNS interface {interface!r} is no IP address: give one of this machine's") from None


def _check_usable(interface: str) -> None:
    # zeroconf leaks the sockets it has opened when it then meets an address that is not this machine's.
    family = socket.AF_INET6 if ":" in interface else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        probe.bind((interface, 0))
