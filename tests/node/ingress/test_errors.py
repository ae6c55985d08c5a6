"""The table holds every kind, and tells neither what must stay hidden nor what must not be told apart."""

import logging

import pytest
from mcp_types import jsonrpc

from node.ingress.errors import TABLE, challenge, refusal, status_of
from proto.errors import ERRORS, Conflict, Exhausted, Fault, Forbidden, MeshError, ScopeRequired, Unavailable, Unknown

TAKEN = {v for v in vars(jsonrpc).values() if isinstance(v, int)} | {-32002}
STANDARD = {jsonrpc.INVALID_PARAMS, jsonrpc.INTERNAL_ERROR}


def test_every_kind_of_error_has_a_row_and_no_row_is_left_over():
    assert TABLE.keys() == ERRORS.keys()


@pytest.mark.parametrize("kind", sorted(ERRORS))
def test_a_row_is_what_the_caller_is_told(kind):
    row = TABLE[kind]
    told = refusal(ERRORS[kind]("the reason"))
    assert (told.code, told.status) == row
    assert told.data["kind"] == ("unknown" if kind == "forbidden" else kind)
    assert told.legacy_status == (row.status if row.status in (401, 403) else 200)
    assert (told.message == "the reason") == (kind not in ("unknown", "forbidden", "fault"))


@pytest.mark.parametrize("kind", sorted(ERRORS))
def test_codes_of_ours_stay_clear_of_those_of_mcp_and_its_sdks(kind):
    code = TABLE[kind].code
    assert code in STANDARD or (-32099 <= code <= -32000 and code not in TAKEN)


@pytest.mark.parametrize("method", ["tools/call", "prompts/get", "resources/read", "vendor/x", "server/discover", ""])
@pytest.mark.parametrize("data", [{}, {"method": "vendor/x"}])
def test_forbidden_is_byte_for_byte_unknown(method, data):
    params = {"name": "n", "uri": "u:v"}
    hidden = refusal(Forbidden("rule 7 denies", rule="7", **data), method=method, params=params)
    absent = refusal(Unknown("no such tool on node eu-1", node="eu-1", **data), method=method, params=params)
    assert hidden == absent
    assert (hidden.code, hidden.status) == ((-32601, 404) if data else (-32602, 400))


def test_a_bug_is_logged_once_with_its_traceback_and_shown_only_by_its_id(caplog):
    with caplog.at_level(logging.ERROR, "toolmesh.ingress"):
        told = refusal(ZeroDivisionError("secret 7"), method="tools/call")
    assert (told.message, told.data.keys()) == ("internal error", {"kind", "fault_id"})
    (record,) = caplog.records
    assert told.data["fault_id"] in record.getMessage()
    assert record.exc_info[1].args == ("secret 7",)


def test_a_fault_raised_within_keeps_its_id_and_hides_its_message():
    told = refusal(Fault("table 9 is corrupt", fault_id="abc", path="/var"))
    assert (told.message, told.data) == ("internal error", {"kind": "fault", "fault_id": "abc"})


def test_an_error_outside_the_tree_of_kinds_is_a_fault():
    class Odd(MeshError):
        kind = "odd"

    assert refusal(Odd("x")).code == jsonrpc.INTERNAL_ERROR


@pytest.mark.parametrize(
    ("retry_after_s", "header"), [(0.2, "1"), (7, "7"), (-1, "0"), (float("inf"), None), ("soon", None), (None, None)]
)
@pytest.mark.parametrize("kind", [Exhausted, Unavailable])
def test_when_to_try_again_is_told_in_whole_seconds(kind, retry_after_s, header):
    assert refusal(kind("later", retry_after_s=retry_after_s)).headers.get("Retry-After") == header


def test_every_missing_scope_is_in_one_challenge_and_none_breaks_out_of_it():
    scopes = ["tools:call", 'evil", realm="x', "line\r\nbreak", 7, "files:read"]
    told = refusal(ScopeRequired("more is needed", scopes=scopes))
    assert told.status == told.legacy_status == 403
    assert told.headers["WWW-Authenticate"] == 'Bearer error="insufficient_scope", scope="tools:call files:read"'
    assert challenge(ERRORS["unauthenticated"]("who?")) == "Bearer"


@pytest.mark.parametrize(
    ("code", "status"), [(-32602, 400), (-32601, 404), (-32603, 200), (1, 200), (None, 200), ("x", 200)]
)
def test_a_servers_error_code_gets_the_status_of_the_specification(code, status):
    assert status_of(code) == status


def test_data_that_json_cannot_carry_is_withheld_and_the_error_still_told():
    told = refusal(Conflict("two of them", names={"a", "b"}))
    assert (told.message, told.data) == ("two of them", {"kind": "conflict"})
