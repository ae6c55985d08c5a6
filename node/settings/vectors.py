"""Where vectors are kept, and with whom they are shared: `search.store` and `search.share_vectors`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field

from node.settings.values import FilePath, Secret, Section, http_url, is_loopback

if TYPE_CHECKING:
    from node.config import NodeConfig


def _server_url(value: str) -> str:
    if not value:
        return value
    parts = http_url(value)
    if parts is None or parts.path.strip("/"):
        raise ValueError(f"{value!r} is not the URL of a Chroma server; write it like https://chroma.example.org:8000")
    return value.rstrip("/")


_Name = Annotated[str, Field(min_length=1, max_length=200)]


class StoreSection(Section):
    """Vectors lie in the data directory, or, with `url`, at a Chroma server that the nodes of a region share.

    `token` is sent as a bearer token; `ca` is a PEM file with who signs the server's certificate. `insecure` allows
    http:// beyond loopback, where anybody on the way may read the token and change vectors.
    """

    url: Annotated[str, AfterValidator(_server_url)] = ""
    token: Secret | None = None
    tenant: _Name = "default_tenant"
    database: _Name = "default_database"
    ca: FilePath | None = None
    insecure: bool = False


def store_rules(config: NodeConfig) -> Iterator[tuple[tuple[str, ...], str]]:
    """Every rule that `search.store` breaks, as in `node.settings.rules`."""
    store, here = config.search.store, ("search", "store")
    if not store.url:
        given = sorted(store.model_fields_set - {"url"})
        if given:
            yield (
                (*here, "url"),
                f"is missing, so {', '.join(given)} would have no effect; name the server or remove it",
            )
        return
    url = urlsplit(store.url)
    if url.scheme == "https":
        return
    if store.ca is not None:
        yield (*here, "ca"), "would have no effect: the url is not https"
    if not (store.insecure or is_loopback(url.hostname or "")):
        yield (
            (*here, "url"),
            f"{store.url!r} is not protected: whoever is on the way reads the token and changes vectors. Write "
            "https://; or, where only trusted machines are on that way, set search.store.insecure: true",
        )
