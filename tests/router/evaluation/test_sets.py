from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from proto.errors import Invalid
from router.evaluation.sets import name_of, read
from router.queries import QUERY_MAX

MAIL = {"server": "post", "tool": "send_mail", "description": "Send a mail.", "input_schema": {"type": "object"}}
DISK = {"server": "disk", "tool": "read_file", "server_description": "Files."}


def write(folder: Path, corpus: list[Any] | None, queries: list[Any]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, rows in (("corpus.jsonl", corpus), ("queries.jsonl", queries)):
        if rows is not None:
            lines = (row if isinstance(row, str) else json.dumps(row) for row in rows)
            (folder / name).write_text("".join(f"{line}\n" for line in lines), "utf-8")
    return folder


def asked(query: str = "write to my aunt", relevant: Any = ("post/send_mail",)) -> dict[str, Any]:
    return {"query": query, "relevant": list(relevant) if isinstance(relevant, tuple) else relevant}


def test_a_set_is_read_with_all_that_is_known_of_its_tools(tmp_path: Path) -> None:
    write(tmp_path / "mine", [MAIL, DISK], [asked()])
    (one,) = read(tmp_path).sets
    assert [name_of(t) for t in one.corpus.tools] == ["post/send_mail", "disk/read_file"]
    assert one.corpus.tools[0].definition["inputSchema"] == {"type": "object"}
    assert one.corpus.tools[1].server_description == "Files."
    assert one.queries[0].relevant == {"post/send_mail"}


def test_a_directory_may_be_a_set_itself(tmp_path: Path) -> None:
    write(tmp_path, [MAIL], [asked()])
    assert [s.name for s in read(tmp_path).sets] == [tmp_path.name]


def test_a_set_without_tools_of_its_own_takes_those_of_the_longest_name_that_begins_its_own(tmp_path: Path) -> None:
    write(tmp_path / "m", [DISK], [asked()])
    write(tmp_path / "mail", [MAIL], [asked()])
    write(tmp_path / "mail-long", None, [asked()])
    found = {s.name: s.corpus.name for s in read(tmp_path).sets}
    assert found == {"m": "m", "mail": "mail", "mail-long": "mail"}


def test_one_corpus_may_lie_beside_many_sets_of_queries(tmp_path: Path) -> None:
    write(tmp_path / "short", None, [asked()])
    (tmp_path / "corpus.jsonl").write_text(json.dumps(MAIL))
    assert len(read(tmp_path).sets[0].corpus.tools) == 1


def test_a_set_without_any_corpus_is_refused_with_the_mend(tmp_path: Path) -> None:
    write(tmp_path / "mine", None, [asked()])
    with pytest.raises(Invalid, match=r"mine has no corpus.jsonl.*put the tools there"):
        read(tmp_path)


def test_only_the_sets_that_were_asked_for_are_read(tmp_path: Path) -> None:
    write(tmp_path / "one", [MAIL], [asked()])
    write(tmp_path / "two", ["no JSON at all"], [asked()])
    assert [s.name for s in read(tmp_path, ["one"]).sets] == ["one"]
    with pytest.raises(Invalid, match="no set three; it has one, two"):
        read(tmp_path, ["three"])


@pytest.mark.parametrize(
    ("corpus", "queries", "message"),
    [
        (["{"], [asked()], r"corpus.jsonl line 1: not valid JSON"),
        (['["a"]'], [asked()], r"corpus.jsonl line 1 must be a JSON object, not an array"),
        ([MAIL, {"server": "post"}], [asked()], r"corpus.jsonl line 2: 'tool' is missing; give a text"),
        ([{**MAIL, "tool": " "}], [asked()], r"line 1: 'tool' is empty"),
        ([{**MAIL, "description": 7}], [asked()], r"line 1: 'description' is a number; give a text"),
        ([{**MAIL, "input_schema": [1]}], [asked()], r"line 1: 'input_schema' is an array; give a JSON Schema object"),
        ([MAIL], ["", asked(relevant=None)], r"queries.jsonl line 2: 'relevant' is null; give a list"),
        ([MAIL], [asked(relevant=[1])], r"line 1: 'relevant' holds a number; give a list of \"server/tool\" texts"),
        ([MAIL], [{"query": ["x"], "relevant": []}], r"line 1: 'query' is an array; give a text"),
    ],
)
def test_what_is_wrong_is_named_with_file_line_field_and_mend(
    tmp_path: Path, corpus: list[Any], queries: list[Any], message: str
) -> None:
    write(tmp_path / "mine", corpus, queries)
    with pytest.raises(Invalid, match=message):
        read(tmp_path)


def test_a_directory_without_sets_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="holds no set"):
        read(tmp_path)
    with pytest.raises(Invalid, match="is not a directory"):
        read(tmp_path / "nowhere")


def test_what_is_no_utf_8_is_refused_with_its_place(tmp_path: Path) -> None:
    write(tmp_path / "mine", [MAIL], [asked()])
    (tmp_path / "mine" / "queries.jsonl").write_bytes(b'{"query": "\xff"}')
    with pytest.raises(Invalid, match=r"queries.jsonl is not UTF-8: .* at byte 11"):
        read(tmp_path)


def test_odd_but_readable_lines_are_read(tmp_path: Path) -> None:
    odd = '{"server": "a", "tool": "t", "input_schema": {"default": NaN, "x": "\\ud800"}}'
    quoted = {"tool": "u", "input_schema": '{"type": "object"}'}
    write(tmp_path / "mine", [odd, "", quoted], [asked("q\u2028r", "t"), ""])
    queries = tmp_path / "mine" / "queries.jsonl"
    queries.write_bytes(b"\xef\xbb\xbf" + queries.read_bytes().replace(b"\n", b"\r\n"))
    (one,) = read(tmp_path).sets
    assert one.corpus.tools[0].definition["inputSchema"] == {"default": None, "x": "?"}
    assert one.corpus.tools[1].definition["inputSchema"] == {"type": "object"}
    assert (one.queries[0].text, one.queries[0].relevant) == ("q\u2028r", {"a/t"})


def test_relevant_tools_that_are_not_there_are_counted_and_told(tmp_path: Path) -> None:
    write(tmp_path / "mine", [MAIL], [asked(relevant=("post/send_mail", "post/gone"))])
    reading = read(tmp_path)
    assert reading.sets[0].queries[0].relevant == {"post/send_mail", "post/gone"}
    assert "mine: 1 relevant tools are not in the corpus, or a bare name of several (post/gone)" in reading.remarks[0]


def test_a_bare_tool_name_will_do_where_only_one_server_has_it(tmp_path: Path) -> None:
    twice = [MAIL, {**MAIL, "server": "other"}, DISK]
    write(tmp_path / "mine", twice, [asked(relevant=("read_file", "send_mail"))])
    reading = read(tmp_path)
    assert reading.sets[0].queries[0].relevant == {"disk/read_file", "send_mail"}
    assert "1 relevant tools are not in the corpus, or a bare name of several (send_mail)" in reading.remarks[0]


def test_repeated_tools_empty_and_long_queries_are_told_of(tmp_path: Path) -> None:
    write(tmp_path / "mine", [MAIL, {**MAIL, "description": "Other."}], [asked("x" * 5_000), asked(" ")])
    reading = read(tmp_path)
    (one,) = reading.sets
    assert [t.definition["description"] for t in one.corpus.tools] == ["Send a mail."]
    assert [len(q.text) for q in one.queries] == [QUERY_MAX]
    assert len(reading.remarks) == 3


def test_an_empty_set_is_left_out_and_nothing_but_empty_sets_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "empty", [MAIL], [])
    with pytest.raises(Invalid, match="every set is empty"):
        read(tmp_path)
    write(tmp_path / "full", [MAIL], [asked()])
    reading = read(tmp_path)
    assert [s.name for s in reading.sets] == ["full"]
    assert reading.remarks == ("empty is left out: it has no queries",)
