"""For how long the machine kept a lab from running: processors that stood still, processes that waited for one.

A node that the machine keeps from running is silent, as a frozen one is, and others are right to doubt it. What is
measured here, and nothing else, tells such a doubt from one that the mesh has to answer for.
"""

from __future__ import annotations

import os
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple, Self

EVERY_S = 0.1

LATE_S = 0.2
"""A thread that sleeps most of the time is woken at once even where much else waits, unless its processor is away."""

TOLD_S = 0.02
"""A process waits a little all the time; what is less than this in one look is not kept."""

PROCESSOR = "processor"


class Held(NamedTuple):
    """From `began` to `ended` (unix seconds) somebody was kept from running."""

    began: float
    ended: float

    @property
    def seconds(self) -> float:
        return self.ended - self.began


class Spans:
    """Who was held up and when. Spans of one name come in the order of time. Pure."""

    def __init__(self) -> None:
        self._spans: defaultdict[str, list[Held]] = defaultdict(list)

    def add(self, who: str, began: float, ended: float) -> None:
        """What two looks find of one wait overlaps, and counts once."""
        known = self._spans[who]
        began = max(began, known[-1].ended) if known else began
        if began < ended:
            known.append(Held(began, ended))

    def seconds(self, who: str, since: float, until: float) -> float:
        """How much of a time somebody was held up."""
        return sum(max(0.0, min(until, h.ended) - max(since, h.began)) for h in self._spans.get(who, ()))

    def names(self) -> tuple[str, ...]:
        return tuple(self._spans)

    def worst(self, who: str, since: float) -> Held:
        """The three seconds, none of them before `since`, in which somebody was held up most: when, and how long."""
        ends = [h.ended for h in self._spans.get(who, ()) if h.ended > since]
        most, end = max(((self.seconds(who, max(since, end - 3), end), end) for end in ends), default=(0.0, since))
        return Held(end - most, end)


class Standstill:
    """Measures from `with` to its end. `processes` tells whom to watch: names and their process ids, which may change.

    A thread on each processor notes how late it wakes: that is a machine that is paused, or one that others have. And
    the kernel counts how long each process has waited for a processor.
    """

    def __init__(self, processes: Callable[[], Mapping[str, int]]) -> None:
        self._processes = processes
        self._spans = Spans()
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._looked: dict[str, float] = {}
        self._waited: dict[tuple[str, int], int] = {}
        self._threads = [
            threading.Thread(target=self._watch_processor, args=(cpu,), name=f"{PROCESSOR} {cpu}", daemon=True)
            for cpu in sorted(os.sched_getaffinity(0))
        ]
        self._threads.append(threading.Thread(target=self._watch_processes, name="waits", daemon=True))

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def held_s(self, who: Iterable[str], since: float, until: float) -> float:
        """For how much of a time these processes, one after the other, or any processor were kept from running."""
        with self._lock:
            processes = sum(self._spans.seconds(name, since, until) for name in who)
            processors = [n for n in self._spans.names() if n.startswith(PROCESSOR)]
            away = [self._spans.seconds(name, since, until) for name in processors]
            # One that is away at this moment has not been able to say so.
            now = time.time()
            away += [
                max(0.0, min(until, now) - max(since, looked))
                for looked in self._looked.values()
                if now - looked > EVERY_S + LATE_S
            ]
        return min(until - since, max([processes, *away]))

    def worst(self, since: float) -> str:
        """In words: who was held up most in any three seconds since a time (unix seconds), and when after it."""
        with self._lock:
            found = {name: self._spans.worst(name, since) for name in self._spans.names()}
        most = sorted(found, key=lambda name: found[name].seconds, reverse=True)
        return (
            ", ".join(f"{n} {found[n].seconds:.1f} s at {found[n].ended - since:+.0f} s" for n in most[:3]) or "nobody"
        )

    def _watch_processor(self, cpu: int) -> None:
        name = threading.current_thread().name
        with suppress(OSError):  # taken from us since it was counted
            os.sched_setaffinity(0, {cpu})
        while not self._over.is_set():
            before, began = time.monotonic(), time.time()
            self._over.wait(EVERY_S)
            late = time.monotonic() - before - EVERY_S
            with self._lock:
                self._looked[name] = time.time()
                if late > LATE_S:
                    self._spans.add(name, began, began + EVERY_S + late)

    def _watch_processes(self) -> None:
        while not self._over.wait(EVERY_S):
            for name, pid in dict(self._processes()).items():
                waited_ns = _waited_ns(pid)
                if waited_ns is None:
                    continue
                before_ns = self._waited.get((name, pid), waited_ns)
                self._waited[name, pid] = waited_ns
                if (seconds := (waited_ns - before_ns) / 1e9) > TOLD_S:
                    now = time.time()
                    with self._lock:
                        # A wait is counted when it has ended.
                        self._spans.add(name, now - seconds, now)


def _waited_ns(pid: int) -> int | None:
    """How long the main thread of a process, which runs its loop, was ready to run and did not; None if it is gone."""
    try:
        return int(Path(f"/proc/{pid}/schedstat").read_text().split()[1])
    except (OSError, IndexError, ValueError):
        return None
