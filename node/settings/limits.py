"""How much each caller, each server and each address may ask: `limits`. 0 means no limit, everywhere."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from node.settings.values import Section, ServerName

RATE_MAX = 1_000_000
OVERRIDES_MAX = 10_000

_Rate = Annotated[float, Field(ge=0, le=RATE_MAX)]
_Count = Annotated[int, Field(ge=0, le=RATE_MAX)]


class CallLimit(Section):
    """Of calls: how many a second or a minute, how many at once, how long their parameters are as JSON.

    In any stretch of t seconds at most `burst` + rate × t calls pass. `burst` is the rate's own number unless given.
    """

    requests_per_s: _Rate = 0
    requests_per_min: _Rate = 0
    burst: _Count = 0
    concurrency: _Count = 0
    payload_bytes: int = Field(default=0, ge=0, le=1024 * 1024 * 1024)

    @model_validator(mode="after")
    def _one_rate(self) -> CallLimit:
        if self.requests_per_s and self.requests_per_min:
            raise ValueError("has both requests_per_s and requests_per_min; keep one of them")
        if self.burst and not (self.requests_per_s or self.requests_per_min):
            raise ValueError("has a burst and no rate that it would go with; add requests_per_s or requests_per_min")
        return self

    @property
    def per_s(self) -> float:
        return self.requests_per_s or self.requests_per_min / 60

    @property
    def bursting(self) -> int:
        """At least 1 where there is a rate."""
        return self.burst or max(1, int(self.requests_per_s or self.requests_per_min))

    def overridden_by(self, other: CallLimit) -> CallLimit:
        """What `other` says, where it says something. A rate that it gives replaces the rate and the burst here."""
        said = {name: getattr(other, name) for name in other.model_fields_set}
        if "requests_per_s" in said or "requests_per_min" in said:
            said = {"requests_per_s": 0.0, "requests_per_min": 0.0, "burst": 0, **said}
        return CallLimit.model_validate({**self.model_dump(), **said})


class AddressLimit(Section):
    """Of requests from one address (IPv6: one /64), before anybody is authenticated.

    `failures_per_min` are credentials that were refused. Addresses of this machine are not counted unless `loopback`.
    """

    requests_per_s: _Rate = 0
    burst: _Count = 0
    failures_per_min: _Rate = 10
    failures_burst: _Count = 20
    loopback: bool = False


class LimitsSection(Section):
    """`principal`: each caller, counted where it comes in. `server`: each server, and `pair`: each caller of each
    server, counted at the server's owner. `keys` and `tenants` override `principal` by name, `servers` override
    `server`; a key's entry counts before its tenant's.
    """

    principal: CallLimit = CallLimit()
    server: CallLimit = CallLimit()
    pair: CallLimit = CallLimit()
    address: AddressLimit = AddressLimit()
    keys: dict[str, CallLimit] = Field(default_factory=dict, max_length=OVERRIDES_MAX)
    tenants: dict[str, CallLimit] = Field(default_factory=dict, max_length=OVERRIDES_MAX)
    servers: dict[ServerName, CallLimit] = Field(default_factory=dict, max_length=OVERRIDES_MAX)
