from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from node.config import NodeConfig, load, parse
from proto.errors import Invalid

Load = Callable[[str], NodeConfig]
Refused = Callable[[str], list[str]]


def test_an_empty_file_gives_a_node_alone_on_loopback(load_text: Load, tmp_path: Path) -> None:
    config = load_text("")
    assert config.http.host == "127.0.0.1"
    assert config.http.port == 7400
    assert config.node_id.uri == "spiffe://toolmesh.local/region/local/node/local"
    assert not config.federation.enabled
    assert config.node.data_dir == tmp_path / "data"


def test_a_section_with_nothing_below_it_means_its_defaults(load_text: Load) -> None:
    assert load_text("servers:\nhttp:\n") == load_text("")


def test_a_misspelt_key_is_named_with_line_and_suggestion(refused: Refused) -> None:
    assert refused("servers:\n  time:\n    url: http://t/mcp\n    comand: [a]\n") == [
        "node.yaml:4: servers.time.comand: unknown key; did you mean 'command'?"
    ]


def test_a_key_that_resembles_nothing_lists_what_is_known(refused: Refused) -> None:
    assert refused("log: {zzz: 1}") == ["node.yaml:1: log.zzz: unknown key; known here: json, level"]


def test_an_alias_is_what_is_suggested_not_the_name_in_the_code(refused: Refused) -> None:
    assert refused("log: {jsn: true}") == ["node.yaml:1: log.jsn: unknown key; did you mean 'json'?"]


def test_every_error_is_reported_at_once_in_the_order_of_the_file(refused: Refused) -> None:
    lines = refused(
        "node: {name: EU_1, region: no}\n"
        "http:\n"
        "  listen: 7400\n"
        "  body_bytes_max: lots\n"
        "servers:\n"
        "  git: {command: uvx mcp-server-git}\n"
        "  bad_name: {command: [a]}\n"
        "  ftp: {url: 'ftp://host/x'}\n"
        "log: {level: verbose}\n"
        "mesh: {}\n"
    )
    assert [line.partition(": ")[0] for line in lines] == [f"node.yaml:{n}" for n in (1, 1, 3, 4, 6, 7, 8, 9, 10)]
    text = "\n".join(lines)
    assert "node.region: must be text, not a boolean; put it in quotes" in text
    assert "http.listen: must be text, not a number; put it in quotes" in text
    assert "http.body_bytes_max: must be a valid integer" in text
    assert "Write [uvx, mcp-server-git]" in text
    assert "servers.bad_name: server name 'bad_name' is not valid" in text
    assert "log.level: must be one of 'debug', 'info', 'warning' or 'error'" in text


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("http: {}\nnode: {}\nhttp: {}\n", "node.yaml:3: http: duplicate key, first on line 1; remove one of them"),
        ("servers:\n  a: {url: x, url: y}\n", "node.yaml:2: servers.a.url: duplicate key"),
        ("- a\n", "node.yaml:1: the top level must be a mapping"),
        ("node: [\n", "not valid YAML"),
        ("node: {name: !!python/object:os.system x}\n", "not valid YAML"),
        ("node: {name: 2026-13-45}\n", "put it in quotes"),
        ("node: *nowhere\n", "not valid YAML"),
        ("node: &a {x: *a}\n", "node.x: unknown key"),
        ("? [a, b]\n: c\n", "found unhashable key"),
        ("1: {}\n", "keys must be text; put them in quotes"),
        ("\x00", "not valid YAML"),
    ],
)
def test_what_is_no_configuration_is_refused_by_its_reason(refused: Refused, text: str, line: str) -> None:
    assert any(line in found for found in refused(text))


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match=r"nowhere\.yaml: cannot be read: No such file"):
        load(tmp_path / "nowhere.yaml")
    with pytest.raises(Invalid, match="cannot be read"):
        load(tmp_path)


def test_a_file_beyond_the_bound_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "big.yaml"
    path.write_bytes(b"#" * (4 * 1024 * 1024 + 1))
    with pytest.raises(Invalid, match="larger than"):
        load(path)


def test_nothing_can_be_changed_after_loading(load_text: Load) -> None:
    config = load_text("")
    with pytest.raises(ValueError, match="frozen"):
        config.http.listen = "0.0.0.0:1"


def test_settings_of_a_program_are_parsed_like_those_of_a_file(tmp_path: Path) -> None:
    config = parse({"servers": {"a": {"command": ["x"]}}}, tmp_path)
    assert config.servers["a"].cwd == tmp_path
    with pytest.raises(Invalid, match=r"^settings: servers\.a: needs exactly one of"):
        parse({"servers": {"a": {}}}, tmp_path)


def test_several_errors_in_a_list_are_told_apart_by_index(refused: Refused) -> None:
    lines = refused("federation:\n  tls: {ca: a, cert: b, key: c}\n  static: ['h:1', nonsense, '0.0.0.0:7']\n")
    assert [line.split(": ")[1] for line in lines] == ["federation.static[1]", "federation.static[2]"]


@pytest.mark.parametrize(("given", "meant"), [("true", True), ("false", False), ("[a, b]", ("a", "b"))])
def test_what_may_be_run_twice_is_everything_nothing_or_named_tools(load_text: Load, given: str, meant: object) -> None:
    config = load_text(f"servers: {{s: {{command: [x], retry_safe: {given}}}}}")
    assert config.servers["s"].to_spec("s").retry_safe == meant


@pytest.mark.parametrize("given", ["search", "3", "[1]", "['']", "{search: true}", "null"])
def test_anything_else_about_running_twice_is_refused_with_an_example(refused: Refused, given: str) -> None:
    assert refused(f"servers: {{s: {{command: [x], retry_safe: {given}}}}}") == [
        "node.yaml:1: servers.s.retry_safe: must be true, false, or a list of tool names, like [search, fetch]"
    ]
