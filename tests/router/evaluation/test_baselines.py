from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest

from router.evaluation.baselines import Bm25, Dense, ReciprocalRanks
from router.ports import ToolEntry, ToolKey, Vectors


def tool(name: str, description: str = "") -> ToolEntry:
    return ToolEntry(ToolKey("eval", "s", name), {"name": name, "description": description})


TOOLS = [
    tool("readFile", "Reads a file."),
    tool("send_mail", "Sends a mail to people."),
    tool("weather", "Rain and wind and rain."),
]


async def test_bm25_splits_names_stems_and_drops_stop_words() -> None:
    bm25 = Bm25(TOOLS)
    assert (await bm25.rank("reading files")).names == ("s/readFile",)
    assert (await bm25.rank("SEND the mails")).names == ("s/send_mail",)
    assert (await bm25.rank("and the of to")).names == ()


def test_bm25_is_that_of_robertson() -> None:
    # "p rain rain wind" has four words, the others two.
    bm25 = Bm25([tool("p", "rain rain wind"), tool("q", "sun"), tool("r", "fog")])
    lengths = np.array([4, 2, 2])
    idf = math.log(1 + (3 - 1 + 0.5) / (1 + 0.5))
    expected = idf * 2 * 2.2 / (2 + 1.2 * (0.25 + 0.75 * 4 / lengths.mean()))
    rows, gains = bm25._postings["rain"]
    assert rows.tolist() == [0]
    assert gains[0] == pytest.approx(expected, rel=1e-6)


async def test_dense_ranks_by_cosine_over_name_and_description() -> None:
    asked: list[str] = []

    def embed(texts: Sequence[str]) -> Vectors:
        asked.extend(texts)
        return np.eye(3, dtype=np.float32)

    dense = Dense(TOOLS, embed, lambda _: np.array([0.1, 0.2, 0.9], dtype=np.float32))
    assert asked[0] == "readFile: Reads a file."
    assert (await dense.rank("rain")).names == ("s/weather", "s/send_mail", "s/readFile")


async def test_rank_fusion_joins_places_and_not_scores() -> None:
    class List:
        def __init__(self, *rows: int) -> None:
            self._rows = np.array(rows)

        def order(self, text: str) -> np.ndarray:
            return self._rows

    # 0: first and third, 1/61 + 1/63; 1: second twice, 2/62; 2: third and absent.
    fused = ReciprocalRanks(TOOLS, [List(0, 1, 2), List(1, 0)])  # type: ignore[list-item]
    assert (await fused.rank("x")).names[2] == "s/weather"
    again = ReciprocalRanks(TOOLS, [List(0, 1), List(2, 1)])  # type: ignore[list-item]
    assert (await again.rank("x")).names[0] == "s/send_mail"


async def test_no_tools_are_no_error() -> None:
    assert (await Bm25([]).rank("anything")).names == ()
