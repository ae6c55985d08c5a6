"""Which doubts a measured standstill of the machine explains, and how standstills are measured: no root, no lab."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterable

from tests.lab.judging import Became, HeldS, judged
from tests.lab.standstill import Spans, Standstill
from tests.lab.waiting import until

SILENT = "silent for 3100 ms"


def held(who: str, began: float, ended: float) -> HeldS:
    spans = Spans()
    spans.add(who, began, ended)

    def seconds(names: Iterable[str], since: float, until: float) -> float:
        return sum(spans.seconds(name, since, until) for name in names)

    return seconds


def excused(held_s: HeldS, *became: Became) -> list[bool]:
    return [j.excused for j in judged(became, held_s)]


def test_silence_is_explained_where_the_rest_of_it_is_what_lies_between_two_beats() -> None:
    doubt = Became(100.0, "eu-2", "ap-1", "suspect", SILENT)
    assert excused(held("ap-1", 97.5, 99.5), doubt) == [True]
    assert excused(held("relay", 97.5, 99.5), doubt) == [True]
    assert excused(held("ap-1", 97.5, 98.5), doubt) == [False]
    assert excused(held("us-1", 97.5, 99.5), doubt) == [False]
    assert excused(held("eu-2", 97.5, 99.5), doubt) == [False]
    assert excused(held("ap-1", 90.0, 96.0), doubt) == [False]


def test_a_broken_stream_is_explained_by_no_less_than_what_an_answer_to_a_ping_is_given() -> None:
    doubt = Became(100.0, "eu-2", "ap-1", "suspect", "Stream removed (Socket closed)")
    assert excused(held("ap-1", 94.0, 96.0), doubt) == [False]
    assert excused(held("ap-1", 94.0, 97.5), doubt) == [True]


def test_the_word_of_witnesses_is_judged_as_the_doubt_that_asked_for_it_and_the_next_doubt_by_itself() -> None:
    story = (
        Became(100.0, "eu-2", "ap-1", "suspect", SILENT),
        Became(103.0, "eu-2", "ap-1", "down", f"{SILENT}; not heard by eu-1 either"),
        Became(103.5, "eu-2", "us-1", "suspect", SILENT),
        Became(104.0, "eu-2", "ap-1", "alive", ""),
        Became(110.0, "eu-2", "ap-1", "suspect", SILENT),
    )
    assert excused(held("ap-1", 97.5, 99.5), *story) == [True, True, False, False]


def test_one_wait_that_two_looks_have_found_counts_once() -> None:
    spans = Spans()
    spans.add("eu-1", 10.0, 12.0)
    spans.add("eu-1", 11.5, 12.5)
    spans.add("eu-1", 11.0, 12.0)
    assert spans.seconds("eu-1", 0, 100) == 2.5
    assert spans.worst("eu-1", 0).seconds == 2.5
    assert spans.worst("eu-1", 11.0).seconds == 1.5
    assert spans.seconds("eu-2", 0, 100) == 0


async def test_a_process_that_waits_for_a_processor_is_seen_to_wait() -> None:
    """Three that would run all the time have one processor."""
    cpu = min(os.sched_getaffinity(0))
    busy = [await asyncio.create_subprocess_exec("/bin/sh", "-c", "while :; do :; done") for _ in range(3)]
    began = time.time()
    try:
        for process in busy:
            os.sched_setaffinity(process.pid, {cpu})
        with Standstill(lambda: {"busy": busy[0].pid}) as standstill:
            await until(lambda: standstill.held_s(["busy"], began, time.time()) > 0.3, "its waits are counted")
            assert standstill.held_s(["busy"], began - 10, began - 5) == 0
            assert "busy" in standstill.worst(began)
    finally:
        for process in busy:
            process.kill()
            await process.wait()
