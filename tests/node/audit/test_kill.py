"""A process that is killed while it writes leaves a chain that holds, and the next life says what it follows."""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path

import pytest

from node.audit.signing import AnyKey
from node.audit.sources import check
from node.audit.store import SqliteAuditStore
from tests.node.audit.logs import recorder, records_of, stopped
from tests.node.audit.test_jsonl import last_in, settings_of

WRITER = """
import asyncio, sys
from pathlib import Path
from node.audit.store import SqliteAuditStore
from tests.node.audit.logs import call_of, ended, recorder
from tests.node.audit.test_jsonl import settings_of

async def main() -> None:
    here = Path(sys.argv[1])
    audit = recorder(SqliteAuditStore(here / "audit.db"), here, settings_of(here / "lines", rotate_bytes=50_000))
    audit.start(version="test")
    n = 0
    while True:
        for n in range(n + 1, n + 20):
            audit.call(call_of(n), ended(call_of(n)))
        await asyncio.sleep(0.001)
        print(audit.counts[0], flush=True)

asyncio.run(main())
"""


@pytest.mark.parametrize("most", [1_500])
async def test_a_killed_writer_leaves_a_chain_that_holds_and_is_gone_on_with(tmp_path: Path, most: int) -> None:
    root = Path(__file__).parents[3]
    writer = await asyncio.create_subprocess_exec(
        sys.executable, "-c", WRITER, str(tmp_path), cwd=root, stdout=asyncio.subprocess.PIPE
    )
    assert writer.stdout is not None
    async with asyncio.timeout(60):
        while int(await writer.stdout.readline()) < most:
            pass
    writer.send_signal(signal.SIGKILL)
    await writer.wait()

    left = check([tmp_path], AnyKey())
    assert left.intact, left
    assert (left.ends, left.last >= most) == ("open", True)

    store = SqliteAuditStore(tmp_path / "audit.db")
    audit = recorder(store, tmp_path, settings_of(tmp_path / "lines", rotate_bytes=50_000))
    audit.start(version="test")
    await stopped(audit)
    store.open()
    (start,) = [r for r in records_of(store, kind="system") if r["action"] == "start" and r["seq"] > 1]
    store.close()
    assert (start["follows"]["after"], start["follows"]["seq"], start["seq"]) == ("crash", left.last, left.last + 1)
    whole, lines = check([tmp_path], AnyKey()), check([tmp_path / "lines"], AnyKey())
    assert whole.intact, whole
    assert lines.intact, lines
    assert (whole.ends, whole.hash) == ("stopped", lines.hash), "the files have caught up"
    assert last_in(tmp_path / "lines") == whole.last
