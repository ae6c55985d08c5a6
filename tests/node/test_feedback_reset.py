"""An operator sees what use has taught a node, and can have it forgotten."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from node.app import App
from node.verbs import render
from node.verbs.remote import Remote
from proto.errors import Invalid
from router.ports import ToolEntry, ToolKey
from tests.node.working import app_of

RESET = "/api/v1/feedback/reset"


async def learned(app: App) -> None:
    assert app.feedback is not None
    tool = ToolEntry(ToolKey("local", "clock", "get_time"), {"name": "get_time"})
    query = np.eye(384, dtype=np.float32)[0]
    app.feedback.lifts(query, "ada", "model@1")
    app.feedback.shown("ada", query, [tool])
    assert app.feedback.called("ada", tool, ok=True)


async def test_what_was_learned_is_shown_and_forgotten_when_an_operator_says_so(tmp_path: Path) -> None:
    app = app_of({"search": {"embedder": "minilm"}}, tmp_path)
    await app.start()
    try:
        await learned(app)
        remote = Remote(app.url)
        status = await remote.get("/api/v1/status")
        assert status["search"]["feedback"] == {"own": 1, "foreign": 0, "peers": 0, "tools": 1, "learned": 1}
        assert ("feedback", "1 lesson learned here") in list(render._facts(status, datetime.now(UTC)))
        assert await remote.post(RESET, {}) == {"forgotten": 1}
        assert (await remote.get("/api/v1/status"))["search"]["feedback"]["own"] == 0
    finally:
        await app.stop()


async def test_where_feedback_is_off_there_is_nothing_to_show_or_reset(tmp_path: Path) -> None:
    for number, search in enumerate(({"embedder": "none"}, {"embedder": "minilm", "feedback": False})):
        app = app_of({"search": search, "node": {"data_dir": f"data-{number}"}}, tmp_path)
        await app.start()
        try:
            assert "feedback" not in (await Remote(app.url).get("/api/v1/status"))["search"]
            with pytest.raises(Invalid, match=r"search\.feedback is false"):
                await Remote(app.url).post(RESET, {})
        finally:
            await app.stop()
