"""The settings of embedders: `search.endpoint`, an HTTP service that turns text into vectors, and what must hold."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field

from node.settings.values import FilePath, Secret, Section, http_url, is_loopback

if TYPE_CHECKING:
    from node.config import NodeConfig

HTTP = "http"
"""The value of `search.embedder` that uses the endpoint."""
_MINILM = "minilm"
_FOR_MINILM = ("adapter", "precision")
_FOR_LIBRARY = ("device", "batch_size")


def _flag(value: Any) -> Any:
    # From the environment a flag comes as text, which would be a path too.
    return {"true": True, "false": False}.get(value.lower(), value) if isinstance(value, str) else value


Adapter = Annotated[bool | FilePath, BeforeValidator(_flag)]
"""Whether the adapter that ships is used, or the file of another."""


def _base_url(value: str) -> str:
    if not value:
        return value
    if http_url(value) is None:
        raise ValueError(
            "is not http(s)://HOST[:PORT]/PATH without a query or credentials, like https://api.openai.com/v1"
        )
    return value.rstrip("/")


class EndpointSection(Section):
    """An OpenAI-compatible endpoint: texts are sent to `url`/embeddings. `insecure` allows http:// beyond loopback."""

    url: Annotated[str, AfterValidator(_base_url)] = Field(default="", max_length=2_000)
    model: str = Field(default="", max_length=200)
    api_key: Secret | None = None
    dimensions: int | None = Field(default=None, ge=1, le=8_192)
    timeout_s: float = Field(default=10, gt=0, le=300)
    batch_size: int = Field(default=32, ge=1, le=2_048)
    insecure: bool = False


def endpoint_rules(config: NodeConfig) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """Broken ones, as in rules.py."""
    search, endpoint = config.search, config.search.endpoint
    here = ("search", "endpoint")
    if search.embedder == HTTP:
        for key in ("url", "model"):
            if not getattr(endpoint, key):
                yield (*here, key), "is missing: search.embedder 'http' asks this endpoint"
        parts = urlsplit(endpoint.url)
        if parts.scheme == "http" and not (endpoint.insecure or is_loopback(parts.hostname or "")):
            yield (
                (*here, "url"),
                f"{endpoint.url!r} is not protected: whoever is on the way reads what agents ask, and the key. Write "
                "https://; or, where only trusted machines are on that way, set search.endpoint.insecure: true",
            )
    elif endpoint.model_fields_set:
        yield here, f"would have no effect: search.embedder is {search.embedder!r}, not 'http'"
    for key in _FOR_MINILM if search.embedder != _MINILM else _FOR_LIBRARY:
        if key in search.model_fields_set:
            yield ("search", key), f"would have no effect with search.embedder {search.embedder!r}; remove it"
    if search.embedder == HTTP:
        for key in _FOR_LIBRARY:
            if key in search.model_fields_set:
                yield ("search", key), "would have no effect with search.embedder 'http'; see search.endpoint"
