from __future__ import annotations

from collections.abc import Callable

import pytest

from node.config import NodeConfig, load
from node.secrets.keys import new_key
from proto.errors import Invalid

Load = Callable[[str], NodeConfig]
Refused = Callable[[str], list[str]]


def test_the_environment_overrides_the_file_key_by_key(load_text: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOOLMESH_HTTP__LISTEN", "127.0.0.1:7500")
    monkeypatch.setenv("TOOLMESH_LOG__JSON", "true")
    config = load_text("http: {listen: '127.0.0.1:1', body_bytes_max: 2048}\n")
    assert config.http.listen == "127.0.0.1:7500"
    assert config.http.body_bytes_max == 2048
    assert config.log.as_json


def test_lists_and_mappings_come_as_json(load_text: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOOLMESH_SERVERS__TIME__COMMAND", '["time-server", "--utc"]')
    monkeypatch.setenv("TOOLMESH_SERVERS__TIME__ENV", '{"TZ": "UTC"}')
    monkeypatch.setenv("TOOLMESH_SEARCH", '{"top_k": 7}')
    config = load_text("")
    assert config.servers["time"].command == ("time-server", "--utc")
    assert config.servers["time"].to_spec("time").env == {"TZ": "UTC"}
    assert config.search.top_k == 7


def test_a_reference_to_a_key_comes_as_json_too(load_text: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOOLMESH_SECRETS__KEY", '{"env": "STORE_KEY"}')
    monkeypatch.setenv("STORE_KEY", key := new_key())
    config = load_text("")
    assert config.secrets.key is not None
    assert config.secrets.key.get_secret_value() == key


def test_no_file_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOOLMESH_NODE__NAME", "solo")
    assert load(None).node.name == "solo"


def test_errors_from_the_environment_say_so(refused: Refused, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOOLMESH_HTTP__LISTNE", "x:1")
    monkeypatch.setenv("TOOLMESH_SERVERS__TIME__COMMAND", "[broken")
    assert refused("node: {zzz: 1}\n")[:2] == [
        "environment: http.listne: unknown key; did you mean 'listen'?",
        "environment: servers.time.command: must be a list, one item for each argument; no shell splits it. "
        "Write [[broken]",
    ]


def test_a_variable_of_an_unknown_section_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOOLMESH_HTPP__LISTEN", "x:1")
    with pytest.raises(Invalid, match=r"TOOLMESH_HTPP__LISTEN: unknown section; known are node, http"):
        load(None)


def test_the_variables_of_the_command_line_are_no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOOLMESH_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("TOOLMESH_KEY", "secret")
    assert load(None).http.listen == "127.0.0.1:7400"
