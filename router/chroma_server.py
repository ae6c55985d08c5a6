"""Chroma as a server: one store for the nodes of a region, none of which takes what another one uses."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from proto.errors import Unavailable
from router.chroma import Chroma, ask, days, imported
from router.documents import RECIPE

if TYPE_CHECKING:
    from chromadb.api import ClientAPI

ANSWER_S = 10.0
"""Of one request: a server that answers later counts as away."""


@dataclass(frozen=True, slots=True)
class ServerAddress:
    """`url` is http(s)://HOST[:PORT]; `ca`, a PEM file, is who signs its certificate (empty: the usual authorities)."""

    url: str
    token: str = field(default="", repr=False)
    tenant: str = "default_tenant"
    database: str = "default_database"
    ca: str = ""


class ChromaServer(Chroma):
    """The tenant and the database have to be there."""

    keep_days = 30

    def __init__(
        self, address: ServerAddress, model_id: str, *, recipe: str = RECIPE, today: Callable[[], int] = days
    ) -> None:
        super().__init__(model_id, recipe=recipe, today=today)
        self._address = address
        self._making: Future[ClientAPI] | None = None

    def __repr__(self) -> str:
        return f"ChromaServer({self._address.url}, {'connected' if self._client else 'not connected'})"

    def disk_bytes(self) -> int:
        """None here."""
        return 0

    def rest(self) -> None:
        """An idle connection costs nothing here; what it leads to is looked up again, since it may have gone."""
        self._collection = None

    def close(self) -> None:
        sessions = _sessions(self._client)
        super().rest()
        super().close()
        for session in sessions:
            # Chroma's client leaves its connections to the garbage collector.
            session.close()

    def _connect(self) -> ClientAPI:
        """Chroma's client asks the server while it is made, and would wait for it forever: so a thread makes it, which
        is left behind if the server is frozen. A later call takes what it has made by then."""
        imported()  # takes a while the first time, for which the server is not to blame
        if self._making is None:
            self._making = Future()
            making = threading.Thread(target=_make, args=(self._address, self._making), daemon=True)
            making.start()
        try:
            client = self._making.result(ANSWER_S)
        except FutureTimeoutError:
            raise Unavailable(f"the Chroma server at {self._address.url} gives no answer in {ANSWER_S:g} s") from None
        except Unavailable as e:
            self._making = None
            raise Unavailable(f"the Chroma server at {self._address.url} cannot be used: {e.message}") from None
        self._making = None
        return client


def _make(address: ServerAddress, made: Future[ClientAPI]) -> None:
    try:
        made.set_result(_client(address))
    except BaseException as e:
        made.set_exception(e)


def _client(to: ServerAddress) -> ClientAPI:
    chromadb = imported()
    url = urlsplit(to.url)
    secure = url.scheme == "https"
    # Which of the two headers is read depends on what stands before the server.
    headers = {"Authorization": f"Bearer {to.token}", "X-Chroma-Token": to.token} if to.token else {}
    verify = {"chroma_server_ssl_verify": to.ca} if to.ca else {}
    settings = ask(chromadb.config.Settings, anonymized_telemetry=False, **verify)
    with warnings.catch_warnings():
        # Chroma passes the file on in a way that httpx has deprecated.
        warnings.simplefilter("ignore", DeprecationWarning)
        try:
            client: ClientAPI = ask(
                chromadb.HttpClient,
                host=url.hostname,
                port=url.port or (443 if secure else 80),
                ssl=secure,
                headers=headers,
                settings=settings,
                tenant=to.tenant,
                database=to.database,
            )
        except Unavailable:
            _drop_systems(settings, keep=())
            raise
    _drop_systems(settings, keep=(client, getattr(client, "_admin_client", None)))
    for session in _sessions(client):
        session.timeout = ANSWER_S
    return client


def _sessions(client: Any) -> list[Any]:
    """Of httpx, that of the client and that of its administrator: Chroma has no setting for their time. None in a
    release that has them elsewhere: a frozen server is then waited for without end, by the keeping thread alone."""
    servers: list[Any] = [getattr(c, "_server", None) for c in (client, getattr(client, "_admin_client", None))]
    return [s._session for s in servers if hasattr(s, "_session")]


def _drop_systems(settings: Any, keep: tuple[Any, ...]) -> None:
    """Chroma 1.5 keeps something for ever of each client of a server, and of each that could not be made: a megabyte.
    Those that were made with these settings go, but for what is `keep`'s."""
    from chromadb.api.shared_system_client import SharedSystemClient

    systems: dict[str, Any] = getattr(SharedSystemClient, "_identifier_to_system", {})
    kept = {getattr(client, "_identifier", "") for client in keep}
    for key, system in list(systems.items()):
        if system.settings is settings and key not in kept:
            del systems[key]
            for part in () if keep else getattr(system, "_instances", {}).values():
                if hasattr(part, "_session"):
                    part._session.close()
