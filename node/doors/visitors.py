"""Counting by address, before anybody is known: connections, requests, and credentials that were refused."""

from __future__ import annotations

import time
from collections.abc import Callable

from node.doors.addresses import counted_as
from node.doors.names import is_loopback
from node.guard.rates import Rule, Table
from node.settings.limits import AddressLimit


class Connections:
    """How many are open, in all and by address. What is beyond either bound is not taken in."""

    def __init__(self, in_all_max: int, by_address_max: int) -> None:
        self._in_all_max = in_all_max
        self._by_address_max = by_address_max
        self._by_address: dict[str, int] = {}
        self._open = 0
        self.refused = 0

    def enter(self, address: str, proxied: bool) -> bool:
        """May this one stay? Each that may must `leave`. `proxied`: many come from this address by right."""
        name = counted_as(address)
        here = self._by_address.get(name, 0)
        if self._open >= self._in_all_max or (here >= self._by_address_max and not proxied):
            self.refused += 1
            return False
        self._by_address[name] = here + 1
        self._open += 1
        return True

    def leave(self, address: str) -> None:
        name = counted_as(address)
        left = self._by_address[name] - 1
        self._open -= 1
        if left:
            self._by_address[name] = left
        else:
            del self._by_address[name]

    def __len__(self) -> int:
        return self._open

    def __repr__(self) -> str:
        return f"Connections({self._open} from {len(self._by_address)} addresses, {self.refused} refused)"


class Visits:
    """Requests, and refused credentials, of one address (IPv6: one /64) within their rates."""

    def __init__(self, limit: AddressLimit, clock: Callable[[], float] = time.monotonic) -> None:
        per_s, failures = limit.requests_per_s, limit.failures_per_min
        self._requests = Rule.at("limits.address", per_s=per_s, burst=limit.burst or max(1, int(per_s)))
        self._failures = Rule.at(
            "limits.address.failures", per_s=failures / 60, burst=limit.failures_burst or max(1, int(failures))
        )
        self._asked = Table()
        self._failed = Table()
        self._loopback = limit.loopback
        self._clock = clock
        self.counts = self._requests.limits
        """False: `asked` need not be called."""

    def asked(self, address: str) -> float:
        """Count a request; how many seconds it comes too early, 0 where it may be looked at."""
        if not self._requests.limits or self._free(address):
            return 0.0
        now_s = self._clock()
        name = counted_as(address)
        bucket = self._asked.known(name) or self._asked.enter(name, self._requests, now_s)
        wait_s = bucket.wait_s(now_s)
        if not wait_s:
            bucket.take(now_s)
        return wait_s

    def barred_s(self, address: str) -> float:
        """How long credentials from there are not looked at, because too many were wrong."""
        if not len(self._failed):
            return 0.0
        bucket = self._failed.known(counted_as(address))
        return bucket.wait_s(self._clock()) if bucket is not None else 0.0

    def failed(self, address: str) -> None:
        """Credentials from there were refused."""
        if not self._failures.limits or self._free(address):
            return
        now_s = self._clock()
        name = counted_as(address)
        bucket = self._failed.known(name) or self._failed.enter(name, self._failures, now_s)
        bucket.take(now_s)

    def stats(self) -> dict[str, int]:
        return {"addresses": len(self._asked), "failing_addresses": len(self._failed)}

    def _free(self, address: str) -> bool:
        return not self._loopback and is_loopback(address)

    def __repr__(self) -> str:
        return f"Visits({len(self._asked)} addresses, {len(self._failed)} failing)"
