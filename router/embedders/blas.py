"""One thread for numpy's matrix products.

Products of a short text's size gain nothing from a second thread, and under load they lose much by it: p95 of an
encoding was 189 ms with the default threads against 7 ms with one.
"""

from __future__ import annotations

import ctypes
import logging
from pathlib import Path

import numpy as np

log = logging.getLogger("toolmesh.router")

_SETTERS = ("scipy_openblas_set_num_threads64_", "scipy_openblas_set_num_threads", "openblas_set_num_threads")


def single_thread() -> bool:
    """Ask the OpenBLAS that numpy's wheels carry for one thread, process-wide. False where it is another BLAS."""
    for library in (Path(np.__file__).parent.parent / "numpy.libs").glob("*openblas*"):
        try:
            loaded = ctypes.CDLL(str(library))
        except OSError as e:
            log.debug("cannot reach %s: %s", library.name, e)
            continue
        for name in _SETTERS:
            if hasattr(loaded, name):
                getattr(loaded, name)(1)
                return True
    log.debug("numpy carries no OpenBLAS of its own; its threads are left as they are")
    return False
