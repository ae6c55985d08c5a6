from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator, Sequence

import pytest

from proto.errors import Unavailable
from router import background as background_module
from router import desk as desk_module
from router import retrieval
from router.desk import Asked, Desk
from router.index import Index
from router.memory import HashingEmbedder
from router.ports import EVERYTHING, Filter, ToolEntry, Vectors
from router.queries import question
from router.router import Router

MakeEntry = Callable[..., ToolEntry]
MakeRouter = Callable[..., Awaitable[Router]]


@pytest.fixture
def index() -> Index:
    return Index()


@pytest.fixture
def desk(index: Index) -> Iterator[Desk]:
    desk = Desk(index, lambda texts: None, lambda vector, principal: ())
    desk.release()
    yield desk
    desk.stop()


class Busy:
    """The searching thread is held up from `with` to its end, so that what is asked within waits together."""

    def __init__(self, desk: Desk) -> None:
        self._gate, entered = threading.Event(), threading.Event()

        def wait() -> None:
            entered.set()
            assert self._gate.wait(30)

        self._thread = threading.Thread(target=lambda: desk.call(wait))
        self._thread.start()
        assert entered.wait(30)

    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None:
        self._gate.set()
        self._thread.join(30)


def asked(query: str, only: Filter = EVERYTHING) -> Asked:
    return Asked(question(query, (), 5), 5, only)


def names(search: Asked) -> list[str]:
    return [h.entry.key.tool for h in search.answer.result(30)[0].hits]


def test_a_view_that_takes_long_is_judged_between_other_searches(
    desk: Desk, entry: MakeEntry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(desk_module, "SLICE", 10)
    desk.change({e.key: e for e in (entry(f"read_{i}", "Read.") for i in range(95))})
    # Sees every change, and has its view from now on.
    assert names(asked_at(desk, asked("read 7")))
    judged: list[str] = []
    only = Filter("new", lambda e: bool(judged.append(e.key.tool)) or e.key.tool == "read_9")
    with Busy(desk):
        slow, quick = asked_at(desk, asked("read", only)), asked_at(desk, asked("read 8"))
        then: list[int] = []
        quick.answer.add_done_callback(lambda _: then.append(len(judged)))
    assert names(slow) == ["read_9"]
    assert (then, len(judged)) == ([10], 95)


def asked_at(desk: Desk, search: Asked) -> Asked:
    desk.search(search)
    return search


def test_searches_that_wait_are_answered_in_one_pass_for_each_view(
    desk: Desk, entry: MakeEntry, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk.change({e.key: e for e in (entry("read"), entry("write"))})
    sizes: list[int] = []

    def counted(index: Index, tasks: Sequence[retrieval.Task], view: object) -> list[retrieval.Found]:
        sizes.append(len(tasks))
        return search(index, tasks, view)  # type: ignore[arg-type]

    search = retrieval.search
    monkeypatch.setattr(retrieval, "search", counted)
    only = Filter("writers", lambda e: e.key.tool == "write")
    with Busy(desk):
        waiting = [asked_at(desk, asked(q, o)) for q in ("read", "write") for o in (EVERYTHING, only)]
    assert [names(w) for w in waiting] == [["read"], [], ["write"], ["write"]]
    assert sizes == [2, 2]


def test_a_filter_or_a_wish_that_fails_fails_its_own_search_only(desk: Desk, entry: MakeEntry) -> None:
    one = entry("read")
    desk.change({one.key: one})
    with Busy(desk):
        bad = asked_at(desk, asked("read", Filter("bad", lambda e: 1 / 0 > 0)))
        wishful = asked_at(desk, Asked(question("read", (), 5), 5, EVERYTHING, lambda e: 1 / 0))
        good = asked_at(desk, asked("read"))
    assert names(good) == ["read"]
    for failed in (bad, wishful):
        with pytest.raises(ZeroDivisionError):
            failed.answer.result(30)


@pytest.mark.parametrize("part", ["encode", "learned"])
def test_a_search_that_cannot_be_prepared_fails_alone_and_the_thread_goes_on(part: str, entry: MakeEntry) -> None:
    def encode(texts: Sequence[str]) -> Vectors | None:
        if part == "encode" and texts[0] == "fail":
            raise ZeroDivisionError
        return HashingEmbedder.embed(embedder, texts)

    def learned(vector: object, principal: str) -> tuple[()]:
        if part == "learned" and principal == "fail":
            raise ZeroDivisionError
        return ()

    embedder = HashingEmbedder()
    embedder.load()
    desk = Desk(Index(), encode, learned)
    desk.release()
    one = entry("read")
    desk.change({one.key: one})
    with Busy(desk):
        bad = asked_at(desk, Asked(question("fail", (), 5), 5, EVERYTHING, principal="fail"))
        good = asked_at(desk, asked("read"))
    assert names(good) == ["read"]
    with pytest.raises(ZeroDivisionError):
        bad.answer.result(30)
    assert names(asked_at(desk, asked("read"))) == ["read"]
    desk.stop()


def test_a_search_that_was_given_up_is_passed_over(desk: Desk, entry: MakeEntry) -> None:
    with Busy(desk):
        given_up, other = asked_at(desk, asked("read")), asked_at(desk, asked("read"))
        assert given_up.answer.cancel()
    assert names(other) == []


def test_a_flood_of_changes_holds_no_search_up(desk: Desk, entry: MakeEntry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(desk_module, "CHANGES_BEFORE_A_SEARCH", 50)
    with Busy(desk):
        desk.change({e.key: e for e in (entry(f"read_{i}") for i in range(500))})
        early = asked_at(desk, asked("read"))
    assert early.answer.result(30)[0].searched == 50
    desk.settle()
    assert asked_at(desk, asked("read")).answer.result(30)[0].searched == 500


def test_what_waits_when_it_stops_is_refused(index: Index) -> None:
    desk = Desk(index, lambda texts: None, lambda vector, principal: ())
    waiting = asked_at(desk, asked("read"))
    desk.stop()
    desk.stop()
    with pytest.raises(Unavailable, match="shutting down"):
        waiting.answer.result(30)
    with pytest.raises(Unavailable, match="shutting down"):
        desk.search(asked("read"))
    with pytest.raises(Unavailable, match="stopped"):
        desk.call(lambda: None)


async def test_a_model_that_fails_for_a_while_is_tried_again(
    make_router: MakeRouter, sample: list[ToolEntry], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Away(HashingEmbedder):
        tries = 0

        def embed(self, texts: Sequence[str], *, query: bool = False) -> Vectors:
            self.tries += 1
            if self.tries < 4:
                raise Unavailable("nobody at home")
            back.set()
            return super().embed(texts)

    back = threading.Event()
    monkeypatch.setattr(background_module, "RETRY_FIRST_S", 0.01)
    router = await make_router(sample, embedder=Away())
    assert await asyncio.to_thread(back.wait, 30)
    # Idle was said while it was away; a change makes it busy again.
    router.apply([], [sample[0].key])
    await router.settled()
    status = router.status()
    assert (status.mode, status.embedded, status.problem) == ("hybrid", 7, "")


async def test_a_remote_model_is_asked_where_nobody_else_waits(
    make_router: MakeRouter, sample: list[ToolEntry]
) -> None:
    threads: list[str] = []

    class Remote(HashingEmbedder):
        remote = True

        def embed(self, texts: Sequence[str], *, query: bool = False) -> Vectors:
            if query:
                threads.append(threading.current_thread().name)
            return super().embed(texts)

    router = await make_router(sample, embedder=Remote())
    assert (await router.search("send an email")).mode == "hybrid"
    assert [name.rsplit("_", 1)[0] for name in threads] == ["toolmesh-ask"]
