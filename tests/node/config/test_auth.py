"""Who may call, as a configuration says it: what is refused, and what `toolmesh check` finds."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import orjson
import pytest
from typer.testing import CliRunner

from node.cli import app
from node.config import NodeConfig, parse
from node.identity.keys import PREFIX
from node.identity.passwords import PasswordHash
from node.verbs.check_auth import callers, findings
from node.verbs.keys import new_key
from proto.errors import Invalid

HASH = "$scrypt$ln=15,r=8,p=1$J97YLcwJx9f0APxi/GDspA$kLBuCFylpzlswEFKA/xQ/H/n/mRLOfbh+7ehkrpAaZI"
NOW = datetime(2027, 1, 1, tzinfo=UTC)
ISSUER = {"issuer": "https://login.example.org", "audiences": ["api://mesh"]}


def config(auth: dict[str, object], **http: object) -> NodeConfig:
    return parse({"auth": auth, "http": http}, Path("/nowhere"))


@pytest.mark.parametrize(
    ("auth", "said"),
    [
        ({"issuers": [{**ISSUER, "issuer": "http://login.example.org"}]}, "write https://"),
        ({"issuers": [{**ISSUER, "issuer": "https://login.example.org?x=1"}]}, "without query"),
        ({"issuers": [{**ISSUER, "issuer": "https://u:p@login.example.org"}]}, "without query and credentials"),
        ({"issuers": [{**ISSUER, "jwks_url": "http://10.0.0.1/jwks"}]}, "write https://"),
        ({"issuers": [{**ISSUER, "algorithms": ["HS256"]}]}, "must be one of"),
        ({"issuers": [{**ISSUER, "algorithms": ["none"]}]}, "must be one of"),
        ({"issuers": [{**ISSUER, "algorithms": []}]}, "at least 1"),
        ({"issuers": [{"issuer": "https://login.example.org"}]}, "http.public_url too"),
        ({"issuers": [ISSUER, ISSUER]}, "named twice"),
        ({"issuers": [{**ISSUER, "jwks": "x", "jwks_url": "https://x.example"}]}, "no effect beside jwks"),
        (
            {"issuers": [{**ISSUER, "jwks": "x", "introspection": {"client_id": "a", "client_secret": "b"}}]},
            "with introspection the issuer is asked",
        ),
        (
            {
                "issuers": [
                    {
                        **ISSUER,
                        "issuer": f"https://{n}.example",
                        "introspection": {"client_id": "a", "client_secret": "b"},
                    }
                    for n in "ab"
                ]
            },
            "which issuer to ask",
        ),
        ({"issuers": [{**ISSUER, "required_scopes": ['a"b']}]}, "may hold only"),
        ({"users": [{"name": "ann", "password": {"scrypt": "secret"}}]}, "'toolmesh key password' makes one"),
        ({"users": [{"name": "ann", "password": "secret"}]}, "'toolmesh key password' makes the hash"),
        ({"users": [{"name": "ann", "password": {"bcrypt": "secret"}}]}, "give one of scrypt, file and env"),
        ({"users": [{"name": "ann", "password": {"scrypt": HASH}}] * 2}, "names must differ"),
        (
            {"users": [{"name": "a", "password": {"scrypt": HASH}}], "keys": [{"name": "a", "sha256": "0" * 64}]},
            "used by an earlier key",
        ),
        ({"certificates": [{"subject": "uri:x"}]}, "needs http.tls.client_ca"),
        ({"certificates": [{"subject": "spiffe://x"}]}, "write uri:…, dns:… or cn:…"),
        ({"certificates": [{"subject": "*"}]}, "'*' does not say which kind of name it is"),
        ({"certificates": [{"subject": "cn:"}]}, "does not say which kind"),
        ({"keys": [{"name": "a", "sha256": "0" * 64, "addresses": ["10.0.0.1/8"]}]}, "host bits"),
        ({"keys": [{"name": "a", "sha256": "0" * 64, "expires": "soon"}]}, "keys[0].expires"),
        ({"peers": {"servers": ["x"]}}, "needs auth.keys"),
    ],
)
def test_what_would_not_hold_is_refused_with_its_mend(auth, said):
    with pytest.raises(Invalid) as e:
        config(auth)
    assert said in e.value.message
    assert "secret" not in e.value.message.replace("client_secret", "").replace("shared secret", "")


@pytest.mark.parametrize(
    "url", ["http://mesh.example.org", "mesh.example.org", "https://mesh.example.org/?a=b", "ftp://x"]
)
def test_a_public_url_is_one_that_clients_can_trust(url):
    with pytest.raises(Invalid, match="public_url"):
        config({}, public_url=url)
    assert config({}, public_url="https://mesh.example.org/").http.public_url == "https://mesh.example.org"


def test_any_way_to_prove_oneself_opens_a_listener_beyond_loopback():
    tls = {"cert": "a", "key": "b"}
    public = {"public_url": "https://mesh.example.org", "tls": tls}
    for auth in ({"users": [{"name": "a", "password": {"scrypt": HASH}}]}, {"issuers": [ISSUER]}, {"required": True}):
        assert config(auth, listen="0.0.0.0:7400", **public).auth.demanded
    for auth in ({}, {"required": False, "issuers": [ISSUER]}):
        with pytest.raises(Invalid, match="reachable from other machines"):
            config(auth, listen="0.0.0.0:7400", **public)
    with pytest.raises(Invalid, match="write the URL that they do"):
        config({"issuers": [ISSUER]}, listen="0.0.0.0:7400", tls=tls)


def test_check_says_for_whom_a_node_is_and_what_will_end(tmp_path):
    file = tmp_path / "jwks.json"
    file.write_bytes(orjson.dumps({"keys": [{"kty": "oct", "k": "c2VjcmV0"}]}))
    keys = [
        {"name": "old", "sha256": "0" * 64, "expires": "2026-12-31"},
        {"name": "new", "sha256": "1" * 64, "expires": "2027-01-20"},
    ]
    found = config(
        {
            "keys": keys,
            "issuers": [ISSUER, {**ISSUER, "issuer": "https://b.example", "jwks": str(file)}],
            "required": False,
        }
    )
    said = list(findings(found, NOW))
    text = "\n".join(f"{kind}: {words}" for kind, words in said)
    assert "fact: tokens of https://login.example.org for api://mesh; RS256" in text
    assert "problem: auth.issuers: jwks:" in text
    assert "'oct' is not taken" in text
    assert "'old' has ended" in text
    assert "'new' ends in 19 days" in text
    assert "whoever shows nothing may call" in text
    assert callers(config({"issuers": [ISSUER]})) == "1 issuer of tokens"
    assert callers(config({"required": True})) == "keys that authorities of the mesh lay down"
    assert callers(config({})) == "anyone who reaches it"


def test_one_bad_item_is_one_problem():
    with pytest.raises(Invalid) as e:
        config({"issuers": [{**ISSUER, "algorithms": ["HS256"]}]})
    assert "algorithms[0]: must be one of" in e.value.message
    assert len(e.value.message.splitlines()) == 1
    with pytest.raises(Invalid, match=r"algorithms: must hold at least 1"):
        config({"issuers": [{**ISSUER, "algorithms": []}]})


def test_a_node_alone_that_nobody_could_ever_call_is_a_problem():
    sections = {"auth": {"required": True}, "guard": {"authorities": ["lord"]}}
    problems = [words for kind, words in findings(parse(sections, Path()), NOW) if kind == "problem"]
    assert [words.split(":")[0] for words in problems] == ["auth.required", "guard.authorities"]
    meshed = {"node": {"name": "east", "region": "eu"}, "federation": {"tls": {"ca": "a", "cert": "b", "key": "c"}}}
    assert not [words for kind, words in findings(parse({**sections, **meshed}, Path()), NOW) if kind == "problem"]


def test_a_client_authority_that_cannot_be_read_is_a_problem(tmp_path):
    tls = {"cert": "a", "key": "b", "client_ca": str(tmp_path / "none.pem")}
    problems = [words for kind, words in findings(config({}, tls=tls), NOW) if kind == "problem"]
    assert "give a PEM file" in problems[0]


def test_a_password_is_hashed_from_a_pipe_and_shown_nowhere():
    result = CliRunner().invoke(app, ["key", "password"], input="correct horse battery\n")
    assert result.exit_code == 0
    assert PasswordHash.parse(result.stdout.splitlines()[0]).matches("correct horse battery")
    assert "correct horse" not in result.output
    assert isinstance(CliRunner().invoke(app, ["key", "password"], input="letmein\n").exception, Invalid)


def test_a_new_key_can_be_found_by_its_form():
    key, entry = new_key("support-bot")
    assert key.startswith(f"{PREFIX}support-bot_")
    assert key not in entry
