"""What a node needs to sign in to its servers, made only where its configuration asks for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from node.config import NodeConfig
from node.secrets.memory import MemorySecrets
from node.secrets.ports import SecretStore

if TYPE_CHECKING:
    from node.consent.consents import Consents
    from node.credentials.callers import CallerTokens
    from node.credentials.choose import Signing
    from node.outbound.outbound import Outbound
    from node.sealing import Sealer
    from node.settings.servers import ServerConfig
    from node.upstreams.spec import UpstreamSpec


@dataclass(frozen=True, slots=True)
class SigningIn:
    """`secrets` holds what users agreed to, `callers` the tokens that they came in with, where a server wants those."""

    secrets: SecretStore | None
    callers: CallerTokens | None
    consents: Consents | None
    signing: Signing | None

    def spec(self, name: str, server: ServerConfig, *, judged: bool = False) -> UpstreamSpec:
        """What is started or connected to; `judged`: what signs in there may dial no private address for its `url`.

        Raises `Invalid` or `Unavailable`.
        """
        return server.to_spec(name) if self.signing is None else self.signing.spec(name, server, judged=judged)

    def close(self) -> None:
        if self.secrets is not None:
            self.secrets.close()


def signing_in(
    config: NodeConfig,
    outbound: Outbound,
    sealer: Sealer,
    public_url: Callable[[], str],
    wake: Callable[[str], None],
) -> SigningIn:
    """`public_url()` is where browsers reach this node; `wake(server)` has a server tried anew."""
    secrets: SecretStore | None = config.secrets.store(config.node.data_dir)
    auths = [s.auth for s in (*config.servers.values(), *config.catalogue.values()) if s.auth is not None]
    if not auths:
        return SigningIn(secrets, None, None, None)
    # Not before they are needed: they bring the libraries for signatures.
    from node.credentials.callers import CallerTokens
    from node.credentials.choose import Signing

    consents = None
    if any(auth.kind == "authorization_code" for auth in auths):
        from node.consent.consents import Consents

        secrets = secrets or MemorySecrets()
        consents = Consents(config.node_id.name, secrets, sealer, public_url)
    callers = CallerTokens()
    exchanged = any(auth.kind == "token_exchange" and auth.subject == "token" for auth in auths)
    signing = Signing(config.node_id, outbound, callers, consents, wake)
    return SigningIn(secrets, callers if exchanged else None, consents, signing)
