"""Vectors shared with the other nodes of the trust domain, so that a mesh embeds each text once.

A text is embedded by the node that owns the tool; the others ask it. While it is still at it they wait, and ask again;
what it does not have, or where it cannot be asked, the nearest peers may have; what nobody has is computed here.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import TimeoutError as FutureTimeoutError
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from federation.events import Liveness
from federation.lending import DIGESTS_MAX, Loan
from federation.status import PeerStatus
from proto.errors import Conflict, Exhausted, Expired, MeshError, Unavailable
from router.chroma import is_unit
from router.documents import RECIPE
from router.keeping import KeptVectors
from router.ports import Embedder, Lent

if TYPE_CHECKING:
    from federation.driver import Federation

log = logging.getLogger("toolmesh.node.sharing")

ASK_S = 2.0
"""A look-up among all peers takes so long at most; what is not there by then is computed."""

NEAR_MAX = 2
"""Other peers that are asked for what the owner cannot give."""

OTHER_MODEL_S = 600.0
"""A peer with another model, or of a release that lends none, is asked again after so long."""

UNREACHED_S = 5.0
"""One that gave no answer is asked again after so long."""

PATIENCE_S = 60.0
"""An owner that is embedding, and has given nothing for so long, is waited for no more until it gives something."""

FORGOTTEN_S = 10.0
"""Who waits asks again much sooner; after so long it is another wait."""

PEERS_MAX = 1_000
"""Peers of which is remembered how they answered; of more all is forgotten, and they are asked again."""

AWAITED_MAX = 20_000
"""Texts that are remembered as awaited; of older ones two nodes may wait for each other, for a minute."""


class SharedVectors:
    """Both sides: a `federation.lending.Lender`, and the router's `VectorSource`.

    A peer that has once sent what cannot be a vector of this model is not
    believed any more, as long as this process lives.
    """

    def __init__(
        self,
        me: str,
        region: str,
        embedder: Embedder,
        kept: KeptVectors,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._me = me
        self._region = region
        self._embedder = embedder
        self._kept = kept
        self._clock = clock
        self._federation: Federation | None = None
        self._embedding: Callable[[], bool] = lambda: False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._not_before_s: dict[str, float] = {}
        self._waits: dict[str, tuple[float, float]] = {}
        self._awaited_s: OrderedDict[str, float] = OrderedDict()
        self._doubted: set[str] = set()
        self.lent = 0
        """Vectors given to peers, since the start."""

    def __repr__(self) -> str:
        doubted = f", {', '.join(sorted(self._doubted))} not believed" if self._doubted else ""
        return f"SharedVectors({self._embedder.model_id}, {self.lent} lent{doubted})"

    @property
    def doubted(self) -> tuple[str, ...]:
        """Peers that are not believed."""
        return tuple(sorted(self._doubted))

    def join(self, federation: Federation, embedding: Callable[[], bool]) -> None:
        """From now on peers are asked. `embedding`: this node has texts to embed yet. Call it on the loop."""
        self._federation, self._embedding, self._loop = federation, embedding, asyncio.get_running_loop()

    def leave(self) -> None:
        """Nobody is asked any more."""
        self._loop = None

    # ---- lending, on the loop --------------------------------------------------------------------

    async def lend(self, model: str, recipe: str, digests: Sequence[bytes]) -> Loan:
        """Raises `Conflict` if those here are of another model or recipe."""
        mine = self._embedder.model_id
        if (model, recipe) != (mine, RECIPE):
            raise Conflict(f"vectors here are of {mine}, recipe {RECIPE}, not of {model[:200]}, recipe {recipe[:20]}")
        try:
            found = await asyncio.to_thread(self._kept.get, [d.hex() for d in digests])
        except Unavailable:
            found = {}
        vectors = {bytes.fromhex(d): v.astype("<f2").tobytes() for d, v in found.items()}
        self.lent += len(vectors)
        # A text of two owners must not be waited for by both: whoever asks for what is awaited here computes it.
        recent_s = self._clock() - FORGOTTEN_S
        awaited = any(self._awaited_s.get(d.hex(), 0.0) > recent_s for d in digests if d not in vectors)
        return Loan(vectors, self._embedding() and not awaited)

    # ---- borrowing, on the router's embedding thread ---------------------------------------------

    def get(self, wanted: Mapping[str, str]) -> Lent:
        """Takes `ASK_S` at most. Never raises."""
        loop, federation = self._loop, self._federation
        if loop is None or federation is None or not wanted:
            return Lent({})
        future = asyncio.run_coroutine_threadsafe(self._ask(federation, wanted), loop)
        try:
            return future.result(ASK_S + 1)
        except FutureTimeoutError:
            future.cancel()  # the loop itself is late
        except Exception:
            # The edge between two threads: what goes wrong here must cost time only.
            log.exception("peers could not be asked for vectors")
        return Lent({})

    async def _ask(self, federation: Federation, wanted: Mapping[str, str]) -> Lent:
        by_owner: defaultdict[str, list[str]] = defaultdict(list)
        for digest, owner in wanted.items():
            if owner != self._me:
                by_owner[owner].append(digest)
        found: dict[str, NDArray[np.float32]] = {}
        later: set[str] = set()
        end_s = self._clock() + ASK_S

        async def ask_owner(owner: str, digests: list[str]) -> None:
            embedding = await self._borrow(federation, owner, digests, end_s, found)
            if embedding and self._patient(owner, gave=any(d in found for d in digests)):
                later.update(d for d in digests if d not in found)

        await asyncio.gather(*(ask_owner(o, d) for o, d in by_owner.items()))
        for peer in self._near(federation.peers(), by_owner.keys()):
            missing = [d for digests in by_owner.values() for d in digests if d not in found and d not in later]
            if not missing:
                break
            await self._borrow(federation, peer, missing, end_s, found)
        self._await(later)
        return Lent(found, frozenset(later))

    def _await(self, later: Iterable[str]) -> None:
        now_s = self._clock()
        for digest in later:
            self._awaited_s[digest] = now_s
            self._awaited_s.move_to_end(digest)
        while len(self._awaited_s) > AWAITED_MAX:
            self._awaited_s.popitem(last=False)

    async def _borrow(
        self,
        federation: Federation,
        peer: str,
        digests: Sequence[str],
        end_s: float,
        found: dict[str, NDArray[np.float32]],
    ) -> bool:
        """Add to `found` what this peer has; whether it is embedding yet."""
        embedding = False
        if not self._may_ask(peer):
            return False
        for begin in range(0, len(digests), DIGESTS_MAX):
            raw = [bytes.fromhex(d) for d in digests[begin : begin + DIGESTS_MAX]]
            within_s = end_s - self._clock()
            if within_s <= 0:
                break
            try:
                loan = await federation.borrow(peer, self._embedder.model_id, RECIPE, raw, within_s)
                lent = {d.hex(): self._vector(v) for d, v in loan.vectors.items()}
            except ValueError as e:
                self._doubt(peer, str(e))
                return False
            except (Exhausted, Expired):
                # It is there, and has much to do.
                return True
            except MeshError as e:
                self._put_off(peer, e)
                return False
            found.update(lent)
            embedding = loan.embedding
        return embedding

    def _vector(self, raw: bytes) -> NDArray[np.float32]:
        """Raises ValueError for what no embedder of this model gives."""
        if len(raw) != 2 * self._embedder.dimensions:
            raise ValueError(f"{len(raw)} bytes are no vector of {self._embedder.dimensions} dimensions")
        vector = np.frombuffer(raw, "<f2").astype(np.float32)
        if not is_unit(vector):
            raise ValueError("a vector is not of length one")
        return vector

    # ---- whom to ask -----------------------------------------------------------------------------

    def _may_ask(self, peer: str) -> bool:
        return peer not in self._doubted and self._clock() >= self._not_before_s.get(peer, 0.0)

    def _doubt(self, peer: str, why: str) -> None:
        self._doubted.add(peer)
        log.warning("vectors of %s are not believed, and computed here: %s", peer, why)

    def _put_off(self, peer: str, error: MeshError) -> None:
        pause_s = OTHER_MODEL_S if isinstance(error, Conflict) else UNREACHED_S
        if len(self._not_before_s) >= PEERS_MAX:
            self._not_before_s.clear()
        self._not_before_s[peer] = self._clock() + pause_s
        log.info("%s lends no vectors (asked again after %g s): %s", peer, pause_s, error.message)

    def _patient(self, owner: str, *, gave: bool) -> bool:
        """Whether to wait for what it is embedding itself."""
        now_s = self._clock()
        since_s, asked_s = self._waits.get(owner, (now_s, now_s))
        if gave or now_s - asked_s > FORGOTTEN_S:
            since_s = now_s
        if len(self._waits) >= PEERS_MAX:
            self._waits.clear()
        self._waits[owner] = since_s, now_s
        return now_s - since_s < PATIENCE_S

    def _near(self, peers: Iterable[PeerStatus], owners: Collection[str]) -> list[str]:
        """The nearest that may be asked and have not been: of this region first, then by the way there."""
        alive = [
            (p.node.region != self._region, p.rtt_ms or 1e6, p.node.name)
            for p in peers
            if p.node and p.state is Liveness.ALIVE and p.node.name not in owners and self._may_ask(p.node.name)
        ]
        return [name for _, _, name in sorted(alive)[:NEAR_MAX]]
