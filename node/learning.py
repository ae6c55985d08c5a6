"""Feedback from use, kept over restarts and told to the other nodes of the trust domain.

Each node is the one writer of what it learned. Now and then it asks each peer for what it lacks of that peer's, a page
at a time; an answer replaces what the peer told before, and goes when the peer has left. Nothing is passed on.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

from node.config import NodeConfig
from node.mesh_keys import read
from node.ports import Caller, Carrier
from proto.calls import Answer, Call, Exchange, Notification
from proto.errors import Invalid, MeshError, Unavailable, Unknown
from proto.names import NodeId
from router.evidence import Changes
from router.evidence_file import decode, encode, load, save
from router.feedback import Feedback

log = logging.getLogger("toolmesh.learning")

METHOD = "toolmesh/feedback"
FILE = "feedback.json"
EVERY_S = 60.0
PAGE_ENTRIES = 256
"""Some 300 KB."""
PAGES_MAX = 32
"""In one round of one peer; the rest comes in the next round."""
ASK_MS = 10_000


def secret_of(mesh: str, keys: Sequence[Path]) -> bytes:
    """What principals' hashes are keyed with: by the first mesh key, else by the mesh's name, which is no secret.

    Nodes that share it count one principal once. Raises `Invalid` for a key that cannot be read.
    """
    key = read(keys[0]) if keys else b""
    return hashlib.blake2b(mesh.encode(), key=hashlib.sha256(key).digest(), person=b"feedback").digest()


def feedback_of(config: NodeConfig) -> Feedback | None:
    """As the settings want it; None where it is switched off. Raises `Invalid` for a mesh key that cannot be read."""
    search = config.search
    if not search.feedback:
        return None
    return Feedback(
        strength=search.feedback_strength,
        half_life_days=search.feedback_half_life_days,
        secret=secret_of(config.node.mesh, config.federation.mesh_keys),
    )


class Learning:
    """`file` holds what this node learned; `peers` names the other nodes of the mesh as of now."""

    def __init__(
        self,
        feedback: Feedback,
        file: Path,
        me: NodeId,
        nodes: Carrier,
        peers: Callable[[], Collection[NodeId]],
        *,
        every_s: float = EVERY_S,
    ) -> None:
        self._feedback = feedback
        self._file = file
        self._me = me
        self._nodes = nodes
        self._peers = peers
        self._every_s = every_s
        self._saved: tuple[str, int] = ("", 0)
        """The model and the last change of what is in the file; another model counts anew."""
        self._writing = asyncio.Lock()
        # What is known of each peer: the life of its evidence, and up to where.
        self._known: dict[str, tuple[str, int]] = {}
        self._task: asyncio.Task[None] | None = None
        nodes.handle(METHOD, self.answer)

    def __repr__(self) -> str:
        return f"Learning({self._feedback!r}, {len(self._known)} peers heard)"

    async def start(self) -> None:
        """Reads the file, at most some 50 ms in a thread. Before the first search."""
        model, kept = await asyncio.to_thread(load, self._file)
        if model:
            self._feedback.restore(model, kept)
            model, _, changed = self._feedback.kept()
            self._saved = model, changed
        self._task = asyncio.create_task(self._run(), name="learning")

    async def stop(self) -> None:
        """Ends the rounds and saves. Idempotent."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await self.save()

    async def save(self) -> None:
        """If there is anything new. A disk that cannot be written is told of, and tried again in the next round."""
        async with self._writing:
            model, entries, changed = self._feedback.kept()
            if not changed or (model, changed) == self._saved:
                return
            try:
                await asyncio.to_thread(save, self._file, model, entries)
            except OSError as e:
                log.warning("what was learned from use cannot be kept in %s: %s", self._file, e.strerror or e)
            else:
                self._saved = model, changed

    async def reset(self) -> int:
        """Forget everything, on disk too; returns how many entries. What peers learned comes again from them."""
        # A file that is being written must not come to stand where this one was.
        async with self._writing:
            count = self._feedback.reset()
            self._known.clear()
            await asyncio.to_thread(self._file.unlink, missing_ok=True)
            self._saved = "", 0
        log.info("feedback from use was reset: %d entries forgotten", count)
        return count

    async def round(self) -> None:
        """Ask every peer for what is new there. Those that do not answer are asked again in the next round."""
        peers = {p.name for p in self._peers() if p.trust_domain == self._me.trust_domain and p != self._me}
        for gone in {*self._known, *self._feedback.peers()} - peers:
            self._feedback.drop(gone)
            self._known.pop(gone, None)
        for peer in sorted(peers):
            try:
                await self._ask(peer)
            except MeshError as e:
                log.debug("%s was not heard of what it learned: %s", peer, e.message)

    async def answer(self, call: Call, exchange: Exchange, peer: NodeId) -> Answer:
        """A page of what this node learned. Raises `Unknown` for a node of another trust domain, `Invalid`."""
        if peer.trust_domain != self._me.trust_domain:
            raise Unknown(f"node {self._me.name!r} is asked nothing by {call.method!r}", method=call.method)
        life, since = call.params.get("life", ""), call.params.get("since", 0)
        if not isinstance(life, str) or not isinstance(since, int):
            raise Invalid("params.life must be a text and params.since a whole number")
        model, changes = self._feedback.changes(life, since, PAGE_ENTRIES)
        page = {
            "model": model,
            "life": changes.life,
            "to": changes.to,
            "puts": [encode(e) for e in changes.puts],
            "gone": list(changes.gone),
            "anew": changes.anew,
            "more": changes.more,
        }
        return {"result": page}

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self._every_s)
            try:
                await self.save()
                await self.round()
            except Exception:
                log.exception("a round of what peers learned from use failed; the next one is tried")

    async def _ask(self, peer: str) -> None:
        for _ in range(PAGES_MAX):
            life, since = self._known.get(peer, ("", 0))
            params = {"life": life, "since": since}
            answer = await self._nodes.carry(peer, METHOD, params, Caller(), _Silent(), budget_ms=ASK_MS)
            model, changes = _page(answer)
            if not self._feedback.take(peer, model, changes):
                # Another model, or none here yet: asked from the beginning when there is one.
                self._known.pop(peer, None)
                return
            self._known[peer] = (changes.life, changes.to)
            if not changes.more:
                return


class _Silent:
    """A question between nodes has nothing to tell meanwhile."""

    def event(self, notification: Notification) -> None:
        return

    async def request(self, request: Notification) -> Answer:
        raise Unavailable("a node asks for what another learned; there is no client behind it")


def _page(answer: Answer) -> tuple[str, Changes]:
    """Raises `Invalid` for what no node would answer; a single entry that is none is left out."""
    page = answer.get("result", {})
    try:
        model, life, to = page["model"], page["life"], page["to"]
        puts, gone = page["puts"], page["gone"]
        good = (
            isinstance(model, str)
            and isinstance(life, str)
            and 0 < len(life) <= 64
            and isinstance(to, int)
            and len(puts) <= PAGE_ENTRIES
            and all(isinstance(number, int) for number in gone)
        )
    except (KeyError, TypeError):
        good = False
    if not good:
        raise Invalid("the answer is no page of what a node learned")
    entries = []
    for raw in puts:
        try:
            entries.append(decode(raw))
        except MeshError as e:
            log.debug("left out: %s", e.message)
    anew, more = page.get("anew") is True, page.get("more") is True
    return model, Changes(life, to, tuple(entries), tuple(gone), anew, more)
