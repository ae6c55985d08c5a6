"""Vectors from an OpenAI-compatible HTTP endpoint: POST {url}/embeddings.

`embed` is called by threads of the router and waits, within a bound, for a request on the node's event loop. What the
endpoint answers is believed after a check only: as many vectors as texts, all of one width, finite, not zero.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError
from concurrent.futures import TimeoutError as NoAnswerError
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import numpy as np

from node.breaker import Breaker
from node.settings.endpoint import EndpointSection
from proto import jsons
from proto.errors import Invalid, Unavailable
from router.ports import Vectors

log = logging.getLogger("toolmesh.node")

QUERY_TIMEOUT_S = 2.0
"""A search does not wait longer for its own vector, whatever `timeout_s` says: it is by words then."""
ATTEMPTS_MAX = 4
FIRST_PAUSE_S = 0.25
MARGIN_S = 1.0
"""How much longer than the request's own time a thread waits for the loop."""
WIDTH_MAX = 8_192
BYTES_A_NUMBER_MAX = 26
ENVELOPE_BYTES_MAX = 64 * 1024
"""Of what an answer says beside its vectors, and of a refusal."""
SHOWN_MAX = 200
_REFUSED_TEXT = (400, 413, 422)
_MENDS = {
    401: "the key is refused: check search.endpoint.api_key",
    403: "the key may not use it: check search.endpoint.api_key",
    404: "nothing is there: check search.endpoint.url and search.endpoint.model",
}


class _TryAgain(Exception):
    """The endpoint may answer in `after_s` seconds; None: it did not say when."""

    def __init__(self, why: str, after_s: float | None = None) -> None:
        super().__init__(why)
        self.after_s = after_s


class HttpEmbedder:
    """An `Embedder`. `open` and `close` belong to the node's loop; the rest is for other threads."""

    remote = True
    """To the router: an answer may take long, and costs no processor here."""

    def __init__(self, settings: EndpointSection, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._settings = settings
        self._clock = clock
        self._breaker = Breaker()
        self._width = settings.dimensions or 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._client: aiohttp.ClientSession | None = None

    @property
    def model_id(self) -> str:
        """The model's name at the address that was asked for it, and the width where it was asked for one."""
        parts = urlsplit(self._settings.url)
        width = f"/{self._settings.dimensions}" if self._settings.dimensions else ""
        return f"{self._settings.model}{width}@{parts.netloc}{parts.path}"

    @property
    def dimensions(self) -> int:
        """Known from the first answer on, or from `search.endpoint.dimensions`."""
        if not self._width:
            raise Unavailable(f"{self._what} has not told its dimensions yet")
        return self._width

    async def open(self) -> None:
        key = self._settings.api_key
        headers = {"Authorization": f"Bearer {key.get_secret_value()}"} if key else {}
        self._loop = asyncio.get_running_loop()
        self._client = aiohttp.ClientSession(headers=headers)

    async def close(self) -> None:
        """Requests under way fail; so do later ones. Idempotent."""
        client, self._client = self._client, None
        if client is not None:
            await client.close()

    def load(self) -> None:
        """Ask for one vector, to see that the endpoint answers and how wide its vectors are. Raises `Unavailable`."""
        try:
            self._embed_batch(["dimensions"], self._settings.timeout_s)
        except ValueError as e:
            raise Unavailable(str(e)) from None

    def embed(self, texts: Sequence[str], *, query: bool = False) -> Vectors:
        """In requests of `batch_size`, each within `timeout_s`, or 2 s for a query.

        Raises `Unavailable` if there is no sound answer in time, ValueError if the endpoint takes none of these texts.
        """
        timeout_s = min(self._settings.timeout_s, QUERY_TIMEOUT_S) if query else self._settings.timeout_s
        size = self._settings.batch_size
        batches = [self._embed_batch(texts[i : i + size], timeout_s) for i in range(0, len(texts), size)]
        return np.concatenate(batches) if batches else np.empty((0, self.dimensions), dtype=np.float32)

    # ---- on the caller's thread ------------------------------------------------------------------

    def _embed_batch(self, texts: Sequence[str], timeout_s: float) -> Vectors:
        if self._loop is None or self._client is None:
            raise Unavailable(f"{self._what} cannot be asked: this node is starting or stopping")
        waiting = asyncio.run_coroutine_threadsafe(self._request(texts, timeout_s), self._loop)
        try:
            body = waiting.result(timeout_s + MARGIN_S)
        except NoAnswerError:
            waiting.cancel()
            self._loop.call_soon_threadsafe(self._breaker.gave_up)
            raise Unavailable(
                f"{self._what} was not asked within {timeout_s + MARGIN_S:g} s: this node is busy"
            ) from None
        except CancelledError:
            raise Unavailable(f"{self._what} cannot be asked: this node is stopping") from None
        try:
            vectors = read_vectors(body, len(texts), self._width)
        except Invalid as e:
            # Counted here: an endpoint that answers nonsense is as good as none.
            self._loop.call_soon_threadsafe(self._breaker.failed, self._clock())
            raise Unavailable(f"{self._what} gave no vectors: {e.message}") from None
        self._loop.call_soon_threadsafe(self._breaker.succeeded)
        self._width = vectors.shape[1]
        return vectors

    @property
    def _what(self) -> str:
        return f"the embedding endpoint {self._settings.url}"

    # ---- on the loop -----------------------------------------------------------------------------

    async def _request(self, texts: Sequence[str], timeout_s: float) -> bytes:
        """The body of a good answer; again, while there is time, if it may come yet."""
        deadline = self._clock() + timeout_s
        wait_s = self._breaker.wait_s(self._clock())
        if wait_s:
            raise Unavailable(f"{self._what} has failed repeatedly; it is asked again in {wait_s:.0f} s")
        pause_s = FIRST_PAUSE_S
        for attempt in range(1, ATTEMPTS_MAX + 1):
            try:
                return await self._post(texts, deadline - self._clock())
            except _TryAgain as e:
                wait_s = pause_s if e.after_s is None else e.after_s
                if attempt == ATTEMPTS_MAX or self._clock() + wait_s >= deadline:
                    self._breaker.failed(self._clock(), e.after_s or 0.0)
                    raise Unavailable(f"{self._what}: {e}") from None
            except Unavailable:
                self._breaker.failed(self._clock())
                raise
            except BaseException:
                # Texts that are refused say nothing about the endpoint; nor does a caller that went away.
                self._breaker.gave_up()
                raise
            await asyncio.sleep(wait_s)
            pause_s *= 2
        raise AssertionError("the last attempt returns or raises")

    async def _post(self, texts: Sequence[str], within_s: float) -> bytes:
        if self._client is None:
            raise Unavailable(f"{self._what} cannot be asked: this node is stopping")
        asked: dict[str, Any] = {"model": self._settings.model, "input": list(texts)}
        if self._settings.dimensions:
            asked["dimensions"] = self._settings.dimensions
        try:
            async with self._client.post(
                f"{self._settings.url}/embeddings",
                data=jsons.dumps(asked),
                headers={"Content-Type": "application/json", "Accept": "application/json"},
                # The key is for this address; and a redirected POST would come as a GET.
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(total=max(within_s, 0.001)),
            ) as answer:
                # Twice the width that is known, so that another one is told as such.
                width = min(2 * self._width or WIDTH_MAX, WIDTH_MAX)
                body = await _bounded(answer, len(texts) * width * BYTES_A_NUMBER_MAX + ENVELOPE_BYTES_MAX)
        except TimeoutError:
            raise _TryAgain("no answer in time") from None
        except (aiohttp.ClientError, OSError) as e:
            raise _TryAgain(f"cannot be reached: {e or type(e).__name__}") from None
        return self._judge(answer, body)

    def _judge(self, answer: aiohttp.ClientResponse, body: bytes) -> bytes:
        status = answer.status
        if status == 200:
            return body
        said = f"status {status}, {body[:SHOWN_MAX].decode('utf-8', 'replace')!r}"
        if status == 429 or status >= 500:
            raise _TryAgain(said, _retry_after_s(answer.headers.get("Retry-After", "")))
        if status in _REFUSED_TEXT:
            raise ValueError(f"{self._what} refuses {said}")
        raise Unavailable(f"{self._what}: {_MENDS.get(status, 'an answer that is none')} ({said})")


async def _bounded(answer: aiohttp.ClientResponse, bytes_max: int) -> bytes:
    body = bytearray()
    async for chunk in answer.content.iter_any():
        body += chunk
        if len(body) > bytes_max:
            raise Unavailable(f"the embedding endpoint answered with more than {bytes_max} bytes")
    return bytes(body)


def _retry_after_s(value: str) -> float | None:
    """Seconds; a date is left aside, clocks differ."""
    return float(value) if value.isascii() and value.isdigit() and len(value) < 6 else None


def read_vectors(body: bytes, count: int, width: int = 0) -> Vectors:
    """The unit vectors of an answer in the order of their texts, shape (count, width). `width` 0: whatever it is.

    Raises `Invalid`.
    """
    items = jsons.loads_object(body, "the answer").get("data")
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise Invalid("'data' is not a list of objects")
    # Some leave the index away; then their order is ours.
    places = [item.get("index", place) for place, item in enumerate(items)]
    if sorted(p for p in places if type(p) is int) != list(range(count)):
        raise Invalid(f"{len(items)} vectors, or wrongly numbered ones, for {count} texts")
    rows: list[Any] = [None] * count
    for place, item in zip(places, items, strict=True):
        rows[place] = _numbers(item.get("embedding"))
    widths = {len(row) for row in rows}
    if len(widths) != 1 or not 0 < max(widths) <= WIDTH_MAX or (width and widths != {width}):
        raise Invalid(
            f"vectors of {', '.join(map(str, sorted(widths)))} numbers{f', expected {width}' if width else ''}"
        )
    vectors = np.stack(rows)
    with np.errstate(over="ignore"):
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    if not (np.isfinite(lengths).all() and (lengths > 0).all()):
        raise Invalid("a vector is zero or holds numbers that are not finite")
    unit: Vectors = (vectors / lengths).astype(np.float32)
    return unit


def _numbers(embedding: Any) -> np.ndarray[Any, np.dtype[np.float64]]:
    """From a list of numbers, or base64 of little-endian float32."""
    try:
        if isinstance(embedding, str):
            return np.frombuffer(base64.b64decode(embedding, validate=True), dtype="<f4").astype(np.float64)
        if isinstance(embedding, list):
            return np.array(embedding, dtype=np.float64).reshape(-1)
    except (binascii.Error, ValueError, TypeError, OverflowError):
        pass
    raise Invalid("'embedding' is neither a list of numbers nor base64 of float32")
