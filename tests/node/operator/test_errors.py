from __future__ import annotations

import json

import pytest

from node.operator.errors import CONTENT_TYPE, TABLE, problem
from proto.errors import ERRORS, Exhausted, Fault, Forbidden, MeshError, ScopeRequired, Unauthenticated, Unknown

EXPECTED = {
    "unknown": 404,
    "unauthenticated": 401,
    "forbidden": 404,
    "scope_required": 403,
    "invalid": 400,
    "conflict": 409,
    "exhausted": 429,
    "unavailable": 503,
    "expired": 504,
    "outcome_unknown": 502,
    "fault": 500,
}


def test_the_table_holds_every_kind_and_nothing_else() -> None:
    assert TABLE.keys() == ERRORS.keys()


@pytest.mark.parametrize("kind", list(ERRORS))
def test_every_kind_becomes_problem_details(kind: str) -> None:
    response = problem(ERRORS[kind]("what happened", more=1))
    body = json.loads(response.body)
    assert response.status == body["status"] == EXPECTED[kind]
    assert response.content_type == CONTENT_TYPE
    assert body["type"] == "about:blank"
    assert body["title"]
    if kind not in ("unknown", "forbidden", "fault"):
        assert body["detail"] == "what happened"
        assert body["kind"] == kind
        assert body["data"] == {"more": 1}


def test_forbidden_is_the_same_bytes_as_unknown() -> None:
    forbidden = problem(Forbidden("rule 7 says no", rule="7"))
    unknown = problem(Unknown("no server named 'x'", server="x"))
    assert forbidden.body == unknown.body
    assert (forbidden.status, dict(forbidden.headers)) == (unknown.status, dict(unknown.headers))


def test_a_fault_shows_its_id_and_hides_its_message() -> None:
    body = json.loads(problem(Fault("KeyError in /secret/path", where="there", fault_id="abc")).body)
    assert body["data"] == {"fault_id": "abc"}
    assert "secret" not in json.dumps(body)


@pytest.mark.parametrize(
    ("error", "header", "value"),
    [
        (Unauthenticated("who?"), "WWW-Authenticate", "Bearer"),
        (
            ScopeRequired("no", scopes=["a", "b"]),
            "WWW-Authenticate",
            'Bearer error="insufficient_scope", scope="a b"',
        ),
        (Exhausted("later", retry_after_s=2.4), "Retry-After", "3"),
        (Exhausted("later", retry_after_s=0.1), "Retry-After", "1"),
    ],
)
def test_headers_tell_what_to_do(error: MeshError, header: str, value: str) -> None:
    assert problem(error).headers[header] == value
