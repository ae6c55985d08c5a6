"""Products of many rows of bytes with a few queries, by the processor's own instructions for that.

numpy would have to make floats of every byte first, and read four times as much. A row of 96 bytes costs as much for
sixteen queries as for one: 100,000 rows take 2.5 ms either way, where numpy takes 4 for one query and 7 for four.
"""

from __future__ import annotations

import importlib
import logging
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from router.embedders.onnx_file import Graph

log = logging.getLogger("toolmesh.router")

QUERY_MAX = 64
"""Components of a query lie within ±64: where a processor adds up pairs of products in 16 bits, 2 · 255 · 64 fits."""
_BLOCK = 1_024

Bytes = NDArray[np.uint8]
Queries = NDArray[np.int8]


def products(rows: Bytes, queries: Queries) -> NDArray[np.int32]:
    """Exact, shape (rows, queries); `rows` (rows, directions) in one piece, `queries` (directions, queries)."""
    run = _runner()
    if run is None or not len(rows):
        return _by_numpy(rows, queries)
    found: list[NDArray[np.int32]] = run(None, {"rows": rows, "queries": queries})
    return found[0]


def _by_numpy(rows: Bytes, queries: Queries) -> NDArray[np.int32]:
    # Whole numbers of this size are exact in float32.
    scaled = queries.astype(np.float32)
    out = np.empty((len(rows), queries.shape[1]), dtype=np.int32)
    for start in range(0, len(rows), _BLOCK):
        out[start : start + _BLOCK] = rows[start : start + _BLOCK].astype(np.float32) @ scaled
    return out


@cache
def _runner() -> Any:
    """None where onnxruntime is missing, does not load, or is wrong about a product of the largest numbers."""
    graph = Graph()
    product = graph.apply("MatMulInteger", "rows", "queries")
    model = graph.model(
        {"rows": ("n", "d"), "queries": ("d", "q")},
        {product: ("n", "q")},
        {"rows": np.uint8, "queries": np.int8, product: np.int32},
    )
    try:
        onnxruntime = importlib.import_module("onnxruntime")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.enable_cpu_mem_arena = False
        options.log_severity_level = 3
        run = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"]).run
        rows, queries = np.full((5, 70), 255, dtype=np.uint8), np.full((70, 3), QUERY_MAX, dtype=np.int8)
        if not np.array_equal(run(None, {"rows": rows, "queries": queries})[0], _by_numpy(rows, queries)):
            raise ArithmeticError("its products of bytes are wrong")
    except ImportError:
        return None
    except Exception as e:
        # Of many kinds; numpy does the same, more slowly.
        log.warning("onnxruntime cannot multiply bytes here, numpy does: %s", e)
        return None
    return run
