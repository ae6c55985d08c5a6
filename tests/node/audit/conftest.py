from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from node.audit.memory import MemoryAuditStore
from node.audit.rows import AuditStore
from node.audit.store import SqliteAuditStore


@pytest.fixture(params=["sqlite", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[AuditStore]:
    made: AuditStore = SqliteAuditStore(tmp_path / "audit.db") if request.param == "sqlite" else MemoryAuditStore()
    made.open()
    yield made
    made.close()
