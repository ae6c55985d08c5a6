from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest

from node import log
from proto.errors import Forbidden


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    quiet = {name: logging.getLogger(name).level for name in log._QUIET}
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    for name, was in quiet.items():
        logging.getLogger(name).setLevel(was)


def test_a_line_names_level_and_area() -> None:
    out = io.StringIO()
    log.set_up("info", stream=out)
    logging.getLogger("toolmesh.sync").info("peer %s is alive", "eu-1")
    logging.getLogger("toolmesh.sync").debug("not shown")
    (line,) = out.getvalue().splitlines()
    assert line.endswith("INFO    toolmesh.sync: peer eu-1 is alive")


@pytest.mark.parametrize("as_json", [False, True])
def test_a_message_from_outside_cannot_forge_a_line(as_json: bool) -> None:
    out = io.StringIO()
    log.set_up(as_json=as_json, stream=out)
    logging.getLogger("toolmesh.x").warning("said %s", "a\nERROR forged\x1b[31m\x9b \ud800")
    (line,) = out.getvalue().splitlines()
    assert "\x1b" not in line
    assert "\\x0aERROR" in line if not as_json else "\\x0aERROR" in json.loads(line)["message"]


def test_json_lines_carry_the_traceback() -> None:
    out = io.StringIO()
    log.set_up(as_json=True, stream=out)
    try:
        raise KeyError("x")
    except KeyError:
        logging.getLogger("toolmesh.x").exception("failed")
    line = json.loads(out.getvalue())
    assert (line["level"], line["logger"], line["message"]) == ("error", "toolmesh.x", "failed")
    assert "KeyError: 'x'" in line["traceback"]


FORGED = "no\n2026-01-31 12:34:56.789 ERROR   toolmesh.x: forged"


@pytest.mark.parametrize("as_json", [False, True])
def test_what_a_peer_says_in_a_refusal_begins_no_line(as_json: bool) -> None:
    out = io.StringIO()
    log.set_up(as_json=as_json, stream=out)
    try:
        raise Forbidden(FORGED + "\r2026-\x1b[2J\u2028" + FORGED)
    except Forbidden as e:
        logging.getLogger("toolmesh.federation").warning("refused: %s", e.message)
        logging.getLogger("toolmesh.federation").exception("refused: %s", e.message)
    said = out.getvalue()
    assert not {"\r", "\x1b", "\u2028"} & set(said)
    if as_json:
        assert [json.loads(line)["level"] for line in said.splitlines()] == ["warning", "error"]
    else:
        assert len([line for line in said.splitlines() if not line.startswith("    ")]) == 2


def test_setting_up_twice_writes_each_line_once() -> None:
    out = io.StringIO()
    log.set_up(stream=io.StringIO())
    log.set_up(stream=out)
    logging.getLogger("toolmesh.x").info("once")
    assert out.getvalue().count("once") == 1


def test_chatty_libraries_start_at_warning() -> None:
    log.set_up("debug", stream=io.StringIO())
    assert not logging.getLogger("zeroconf").isEnabledFor(logging.INFO)
    assert logging.getLogger("toolmesh").isEnabledFor(logging.DEBUG)
