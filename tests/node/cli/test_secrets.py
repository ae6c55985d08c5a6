"""`toolmesh secrets`, on a store of a configuration that need not be sound yet."""

from __future__ import annotations

import io
import stat
import sys
from pathlib import Path
from typing import Any

import pytest

CONFIG = """
node: {data_dir: kept}
secrets: {key: {file: store.key}}
servers: {a: {url: 'https://a.example.org/mcp', headers: {X-Token: {store: a/token}}}}
"""


class Piped(io.TextIOWrapper):
    def isatty(self) -> bool:
        return False


@pytest.fixture
def config(run: Any, tmp_path: Path) -> str:
    assert run("secrets", "key", "-o", str(tmp_path / "store.key")).status == 0
    file = tmp_path / "node.yaml"
    file.write_text(CONFIG)
    return str(file)


def give(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setattr(sys, "stdin", Piped(io.BytesIO(text.encode())))


def test_a_secret_is_set_from_standard_input_and_never_shown(
    run: Any, config: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    missing = run("check", "-c", config)
    assert missing.status == 2
    assert "no secret is named 'a/token'; 'toolmesh secrets set a/token' puts one there" in missing.err
    give(monkeypatch, "s3cret-value\n")
    ran = [run("secrets", "set", "a/token", "-c", config)]
    ran += [run("secrets", verb, "-c", config) for verb in ("list", "check")]
    ran.append(run("check", "-c", config))
    assert [r.status for r in ran] == [0] * 4
    assert ran[1].out == "a/token\n"
    assert not any("s3cret-value" in r.out + r.err for r in ran)
    assert run("secrets", "remove", "a/token", "-c", config).status == 0
    assert run("secrets", "list", "-c", config).out == ""


def test_there_is_no_way_to_give_a_value_on_the_command_line(run: Any, config: str) -> None:
    assert run("secrets", "set", "a/token", "s3cret-value", "-c", config).status == 2
    assert run("secrets", "set", "a/token", "--value", "s3cret-value", "-c", config).status == 2


def test_keys_are_changed_by_hand_in_three_steps(
    run: Any, config: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    give(monkeypatch, "s3cret-value")
    run("secrets", "set", "a/token", "-c", config)
    run("secrets", "key", "-o", str(tmp_path / "new.key"))
    both = CONFIG.replace("{file: store.key}", "{file: new.key}, old_key: {file: store.key}")
    Path(config).write_text(both)
    assert "run 'toolmesh secrets rotate'" in run("secrets", "check", "-c", config).err
    assert run("secrets", "rotate", "-c", config).out.startswith("1 secret under secrets.key now")
    Path(config).write_text(CONFIG.replace("store.key", "new.key"))
    assert run("secrets", "check", "-c", config).status == 0
    assert run("check", "-c", config).status == 0


def test_a_spoilt_secret_is_named_and_the_status_says_so(
    run: Any, config: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sqlite3
    from contextlib import closing

    give(monkeypatch, "s3cret-value")
    run("secrets", "set", "a/token", "-c", config)
    with closing(sqlite3.connect(tmp_path / "kept" / "secrets.db", isolation_level=None)) as db:
        db.execute("UPDATE secrets SET sealed = x'00'")
    ran = run("secrets", "check", "-c", config)
    assert (ran.status, ran.err) == (
        1,
        "secret a/token does not open: it was changed without the key; set it anew\n",
    )


def test_a_key_is_made_for_its_owner_alone_and_never_over_another(run: Any, tmp_path: Path) -> None:
    file = tmp_path / "k"
    assert run("secrets", "key", "-o", str(file)).status == 0
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert run("secrets", "key", "-o", str(file)).status == 1
    printed = {run("secrets", "key").out for _ in range(3)}
    assert len(printed) == 3


@pytest.mark.parametrize("verb", [["list"], ["check"], ["rotate"], ["set", "x"], ["remove", "x"]])
def test_without_a_store_each_verb_says_what_is_missing(
    run: Any, tmp_path: Path, verb: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "node.yaml").write_text("node: {name: n}\n")
    give(monkeypatch, "v")
    ran = run("secrets", *verb, "-c", str(tmp_path / "node.yaml"))
    assert ran.status == 2
    assert "give secrets.key ('toolmesh secrets key' makes one)" in ran.err
