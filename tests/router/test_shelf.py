"""The sum of votes, done by arrays, is what it is when it is done one by one."""

from __future__ import annotations

import numpy as np

from router.evidence import VOTES_MAX, Entry, Subject
from router.shelf import Shelf

FLOOR, SPAN, SHARE = 0.3, 0.3, 0.25
NOW, HALF_LIFE = 1_000, 100.0
WIDTH = 12


def plainly(entries: list[Entry], query: np.ndarray, voter: str) -> dict[Subject, float]:
    best: dict[Subject, dict[str, float]] = {}
    for entry in entries:
        cosine = float(entry.vector.astype(np.float32) @ query)
        if cosine > FLOOR:
            of = best.setdefault(entry.subject, {})
            for who, hour in entry.votes.items():
                of[who] = max(of.get(who, 0.0), min(SPAN, cosine - FLOOR) * 0.5 ** ((NOW - hour) / HALF_LIFE))
    found = {}
    for subject, of in best.items():
        own = of.get(voter, 0.0)
        found[subject] = min(max(of.values()), own + SHARE * (sum(of.values()) - own))
    return found


def test_arrays_agree_with_counting_one_by_one_while_entries_come_change_and_go() -> None:
    random = np.random.default_rng(3)
    shelf = Shelf()
    entries: list[Entry] = []

    def votes() -> dict[str, int]:
        who = random.permutation(12)[: random.integers(1, VOTES_MAX + 1)]
        return {f"voter-{w}": int(random.integers(NOW - 300, NOW)) for w in who}

    for number in range(600):
        dice = random.random()
        if dice < 0.55 or not entries:
            vector = random.normal(size=WIDTH)
            vector /= np.linalg.norm(vector)
            subject = Subject("a", "s", f"tool-{random.integers(20)}", "tool", b"")
            entry = Entry(number, subject, vector.astype(np.float16), votes())
            entries.append(entry)
            shelf.put(entry)
        elif dice < 0.75:
            entry = entries[int(random.integers(len(entries)))]
            entry.votes = votes()
            shelf.put(entry)
        else:
            shelf.remove(entries.pop(int(random.integers(len(entries)))))
        if number % 20 == 0:
            query = random.normal(size=WIDTH).astype(np.float32)
            query /= np.linalg.norm(query)
            for voter in ("voter-3", "stranger", ""):
                found = dict(
                    shelf.agreed(query, voter, FLOOR, SPAN, SHARE, lambda hours: np.exp2((hours - NOW) / HALF_LIFE))
                )
                expected = plainly(entries, query, voter)
                assert found.keys() == expected.keys()
                assert all(abs(found[s] - expected[s]) < 1e-5 for s in found)
    assert shelf.used == len(entries)
    assert shelf.subjects() == len({e.subject for e in entries})


def test_nothing_is_near_on_an_empty_shelf_or_to_a_query_of_another_width() -> None:
    shelf = Shelf()
    query = np.eye(WIDTH, dtype=np.float32)[0]
    assert shelf.agreed(query, "v", FLOOR, SPAN, SHARE, np.ones_like) == []
    shelf.put(Entry(1, Subject("a", "s", "t", "tool", b""), query.astype(np.float16), {"v": NOW}))
    assert shelf.agreed(np.ones(WIDTH + 1, np.float32), "v", FLOOR, SPAN, SHARE, np.ones_like) == []
    assert shelf.agreed(query, "v", FLOOR, SPAN, SHARE, np.ones_like) != []
