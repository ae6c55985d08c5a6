"""Who is calling, by whatever was shown; who is not, any more."""

from __future__ import annotations

import base64
import hashlib
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from node.guard.governed import Governed, KeyRecord, Revoked, Tenant, Ungoverned
from node.identity import users as users_module
from node.identity.chain import TOKENS_MAX
from node.identity.key_source import FRESH_S
from node.identity.keys import fresh_key
from node.identity.passwords import PasswordHash
from node.ports import Credentials
from proto.errors import Exhausted, Invalid, Unauthenticated
from proto.records import ANONYMOUS, Principal
from tests.node.identity.conftest import MESH, NOW_S

PASSWORD = "correct horse battery"
HASH = str(PasswordHash.of(PASSWORD, ln=14))


def sha(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


def bearer(key: str, peer: str = "192.0.2.7") -> Credentials:
    return Credentials(bearer=key, peer=peer)


def certificate(uri: str = "", dns: str = "", common: str = "", days: int = 30) -> bytes:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)] if common else [])
    begins = datetime.fromtimestamp(NOW_S, UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(0xABC)
        .not_valid_before(begins)
        .not_valid_after(begins + timedelta(days=days))
    )
    others = [x509.UniformResourceIdentifier(uri)] * bool(uri) + [x509.DNSName(dns)] * bool(dns)
    if others:
        builder = builder.add_extension(x509.SubjectAlternativeName(others), critical=False)
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)


# ---- keys -----------------------------------------------------------------------------------------


async def test_a_key_counts_until_its_end_and_from_its_addresses_only(make, clock):
    entry = {"name": "ci", "sha256": sha("k" * 30), "expires": "2030-03-18T00:00:00Z", "addresses": ["192.0.2.0/24"]}
    chain = make({"keys": [entry]})
    principal = await chain.authenticate(bearer("k" * 30))
    assert (principal.subject, principal.issuer, principal.kind) == ("ci", MESH, "key")
    assert (principal.credential, principal.expires_s) == ("key/ci", 1_900_022_400)
    for peer in ("198.51.100.1", "", "unix"):
        with pytest.raises(Unauthenticated, match="a valid key is needed"):
            await chain.authenticate(bearer("k" * 30, peer))
    assert (await chain.authenticate(bearer("k" * 30, "::ffff:192.0.2.9"))) is principal
    clock.now_s = 1_900_022_400
    assert not chain.valid(principal)
    with pytest.raises(Unauthenticated, match="expired"):
        await chain.authenticate(bearer("k" * 30))


async def test_an_end_at_the_first_moment_of_all_is_an_end(make):
    chain = make({"keys": [{"name": "ci", "sha256": sha("k" * 30), "expires": "1970-01-01T00:00:00Z"}]})
    with pytest.raises(Unauthenticated, match="expired"):
        await chain.authenticate(bearer("k" * 30))


async def test_keys_that_an_authority_lays_down_count_until_it_takes_them_back(make):
    governance = Ungoverned()
    chain = make({"required": True}, governance)
    key = fresh_key("ops")
    assert key.startswith("tm_ops_")
    with pytest.raises(Unauthenticated):
        await chain.authenticate(bearer(key))
    record = KeyRecord("ops", hashlib.sha256(key.encode()).digest(), "acme", scopes=("operator",), authority="hq")
    laid = {record.sha256: record}
    governance.lay_down(Governed(1, keys=laid))
    principal = await chain.authenticate(bearer(key))
    assert (principal.tenant, principal.scopes) == ("acme", ("operator",))
    assert chain.principals()["ops"] == principal
    governance.lay_down(Governed(2, keys=laid, revoked={"key/ops": Revoked("key/ops")}))
    assert not chain.valid(principal)
    with pytest.raises(Unauthenticated):
        await chain.authenticate(bearer(key))
    governance.lay_down(Governed(3))
    with pytest.raises(Unauthenticated):
        await chain.authenticate(bearer(key))


async def test_a_key_that_bears_the_name_of_a_configured_one_is_not_taken(make, caplog):
    other = KeyRecord("ci", hashlib.sha256(b"other").digest(), authority="hq")
    chain = make({"keys": [{"name": "ci", "sha256": sha("mine")}]}, Ungoverned(Governed(1, keys={other.sha256: other})))
    assert (await chain.authenticate(bearer("mine"))).subject == "ci"
    with pytest.raises(Unauthenticated):
        await chain.authenticate(bearer("other"))
    assert "has this name" in caplog.text
    assert chain.principals().keys() == {"ci"}


async def test_a_key_that_bears_the_name_of_a_user_is_not_taken(make):
    key = KeyRecord("ann", hashlib.sha256(b"k").digest(), authority="hq")
    auth = {"users": [{"name": "ann", "password": {"scrypt": HASH}}]}
    with pytest.raises(Unauthenticated):
        await make(auth, Ungoverned(Governed(1, keys={key.sha256: key}))).authenticate(bearer("k"))


async def test_who_is_revoked_is_out_whatever_he_shows(make, authority):
    governance = Ungoverned()
    chain = make({"issuers": [{"issuer": authority.url}]}, governance)
    asked = Credentials(bearer=authority.token(), resource="/mcp")
    principal = await chain.authenticate(asked)
    for revoked in ("jti/t1", f"subject/{authority.url}|ann"):
        governance.lay_down(Governed(1, revoked={revoked: Revoked(revoked)}))
        assert not chain.valid(principal)
        with pytest.raises(Unauthenticated):
            await chain.authenticate(asked)
        governance.lay_down(Governed(2))
        assert await chain.authenticate(asked) == principal


async def test_where_tenants_are_governed_a_tenant_must_exist_and_its_addresses_hold(make):
    governance = Ungoverned()
    chain = make({"keys": [{"name": "ci", "sha256": sha("k"), "tenant": "acme"}]}, governance)
    principal = await chain.authenticate(bearer("k"))
    governance.lay_down(Governed(1, tenants_governed=True))
    assert not chain.valid(principal)
    with pytest.raises(Unauthenticated):
        await chain.authenticate(bearer("k"))
    for networks, admitted in (((), True), (("192.0.2.0/24",), True), (("10.0.0.0/8",), False), (("nonsense",), False)):
        tenants = {"acme": Tenant("acme", addresses=networks)}
        governance.lay_down(Governed(2, tenants=tenants, tenants_governed=True))
        if admitted:
            assert await chain.authenticate(bearer("k")) == principal
        else:
            with pytest.raises(Unauthenticated):
                await chain.authenticate(bearer("k"))


async def test_a_node_that_asks_for_nothing_still_knows_who_shows_a_key(make):
    record = KeyRecord("ops", hashlib.sha256(b"k").digest())
    chain = make({}, Ungoverned(Governed(1, keys={record.sha256: record})))
    assert await chain.authenticate(Credentials()) is ANONYMOUS
    assert await chain.authenticate(bearer("unknown")) is ANONYMOUS
    assert (await chain.authenticate(bearer("k"))).subject == "ops"
    assert (
        await make({"required": False, "keys": [{"name": "a", "sha256": sha("a")}]}).authenticate(Credentials())
    ) is ANONYMOUS


async def test_the_same_words_are_said_for_no_key_a_wrong_one_and_a_revoked_one(make):
    revoked = Governed(1, revoked={"key/b": Revoked("key/b")})
    entries = [{"name": "a", "sha256": sha("a")}, {"name": "b", "sha256": sha("b")}]
    chain = make({"keys": entries}, Ungoverned(revoked))
    said, known = set(), []
    for shown in (Credentials(), bearer("x"), bearer("b"), Credentials(basic="a:b")):
        with pytest.raises(Unauthenticated) as e:
            await chain.authenticate(shown)
        said.add(e.value.message)
        known.append(e.value.rule)
        assert e.value.data.get("presented", False) == bool(shown.bearer or shown.basic)
    assert len(said) == 1
    # The audit is told the truth.
    assert known == ["nothing was shown", "it is not known here", "key/b is revoked", "it is not known here"]


# ---- several at once ------------------------------------------------------------------------------


async def test_credentials_of_two_callers_in_one_request_are_refused(make):
    chain = make(
        {
            "keys": [{"name": "a", "sha256": sha("a")}, {"name": "b", "sha256": sha("b")}],
            "users": [{"name": "ann", "password": {"scrypt": HASH}}],
            "certificates": [{"subject": "uri:spiffe://x/*"}],
        }
    )
    der = certificate(uri="spiffe://x/1")
    pair = f"ann:{PASSWORD}"
    for shown in (
        Credentials(bearer="a", api_key="b"),
        Credentials(bearer="a", api_key="wrong"),
        Credentials(bearer="wrong", api_key="b"),
        Credentials(api_key="a", basic=pair),
        Credentials(bearer="a", certificate=der),
        Credentials(basic=pair, certificate=der),
    ):
        with pytest.raises(Unauthenticated, match="credentials"):
            await chain.authenticate(shown)
    assert (await chain.authenticate(Credentials(bearer="a", api_key="a"))).subject == "a"


async def test_each_of_several_credentials_must_count(make, authority):
    """Of one caller: a token and a certificate of the same name cannot be, two tokens cannot be sent; keys can."""
    laid = [
        KeyRecord("ci", hashlib.sha256(key).digest(), addresses=at) for key, at in ((b"a", ()), (b"b", ("10.0.0.0/8",)))
    ]
    chain = make({"required": True}, Ungoverned(Governed(1, keys={key.sha256: key for key in laid})))
    both = {"bearer": "a", "api_key": "b"}
    assert (await chain.authenticate(Credentials(**both, peer="10.1.1.1"))).subject == "ci"
    with pytest.raises(Unauthenticated):
        await chain.authenticate(Credentials(**both, peer="192.0.2.1"))


async def test_a_token_bound_to_a_certificate_and_that_certificate_are_one_caller(make, authority):
    der = certificate(uri="spiffe://x/1")
    bound = base64.urlsafe_b64encode(hashlib.sha256(der).digest()).rstrip(b"=").decode()
    chain = make({"issuers": [{"issuer": authority.url}], "certificates": [{"subject": "uri:spiffe://x/*"}]})
    asked = Credentials(bearer=authority.token(cnf={"x5t#S256": bound}), certificate=der, resource="/mcp")
    assert (await chain.authenticate(asked)).subject == "ann"
    with pytest.raises(Unauthenticated, match="different callers"):
        await chain.authenticate(Credentials(bearer=authority.token(), certificate=der, resource="/mcp"))


# ---- passwords ------------------------------------------------------------------------------------


@pytest.fixture
def people(make):
    return make({"users": [{"name": "ann", "password": {"scrypt": HASH}, "groups": ["g"], "scopes": ["s"]}]})


async def test_a_name_and_its_password_say_who_calls(people):
    principal = await people.authenticate(Credentials(basic=f"ann:{PASSWORD}"))
    assert principal == Principal("ann", MESH, "", ("g",), ("s",), "user", credential="user/ann")


@pytest.mark.parametrize(
    "pair", ["ann:wrong", "ann:", ":", f"bob:{PASSWORD}", f"ann:{PASSWORD} ", "ann:\udcff", "ann:" + "x" * 5_000]
)
async def test_a_wrong_password_and_an_unknown_name_are_told_the_same(people, pair):
    with pytest.raises(Unauthenticated, match="or a name and password"):
        await people.authenticate(Credentials(basic=pair))


async def test_an_unknown_name_costs_as_much_as_a_known_one(people, monkeypatch):
    costs = []

    def matches(self, password):
        costs.append((self.ln, self.p, len(self.digest)))
        return False

    monkeypatch.setattr(PasswordHash, "matches", matches)
    for name in ("ann", "nobody"):
        with pytest.raises(Unauthenticated):
            await people.authenticate(Credentials(basic=f"{name}:x"))
    assert costs[0] == costs[1]


async def test_a_right_password_is_checked_once_a_minute_and_a_wrong_one_each_time(people, monkeypatch):
    checked = []
    original = PasswordHash.matches
    monkeypatch.setattr(PasswordHash, "matches", lambda self, p: checked.append(p) or original(self, p))
    for _ in range(3):
        await people.authenticate(Credentials(basic=f"ann:{PASSWORD}"))
        with pytest.raises(Unauthenticated):
            await people.authenticate(Credentials(basic="ann:wrong"))
    assert checked.count(PASSWORD) == 1
    assert checked.count("wrong") == 3


async def test_checks_of_passwords_are_bounded(people, monkeypatch):
    monkeypatch.setattr(users_module, "WAITING_MAX", 0)
    with pytest.raises(Exhausted) as e:
        await people.authenticate(Credentials(basic="ann:wrong"))
    assert e.value.data["retry_after_s"] == users_module.RETRY_AFTER_S


@pytest.mark.parametrize(
    "text",
    [
        PASSWORD,
        HASH.replace("ln=14", "ln=10"),
        HASH.replace("ln=14", "ln=30"),
        HASH.replace("r=8", "r=1"),
        HASH.replace("p=1", "p=0"),
        HASH[:-8],
        "$2b$12$abcdefghijklmnopqrstuv",
    ],
    # The salt differs from process to process, and tests are told apart by what they are called.
    ids=["the password itself", "n too low", "n too high", "r too low", "p too low", "cut short", "another scheme"],
)
def test_only_a_hash_that_is_dear_enough_is_a_password(text):
    with pytest.raises(Invalid):
        PasswordHash.parse(text)


def test_a_password_that_can_be_guessed_is_not_hashed():
    with pytest.raises(Invalid, match="shorter than 12"):
        PasswordHash.of("letmein")
    assert PASSWORD not in repr(PasswordHash.parse(HASH))


# ---- certificates ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "subject"),
    [
        ({"uri": "spiffe://x/agent/1", "dns": "a.example", "common": "a"}, "uri:spiffe://x/agent/1"),
        ({"uri": "spiffe://other/1", "dns": "A.example", "common": "a"}, "dns:a.example"),
        ({"dns": "b.other", "common": "robot 7"}, "cn:robot 7"),
    ],
)
async def test_a_certificate_is_known_by_its_most_particular_name_that_an_entry_takes(make, names, subject):
    entries = [
        {"subject": "cn:robot *"},
        {"subject": "dns:*.example"},
        {"subject": "uri:spiffe://x/agent/*", "tenant": "acme"},
    ]
    principal = await make({"certificates": entries}).authenticate(Credentials(certificate=certificate(**names)))
    assert (principal.subject, principal.kind, principal.credential) == (subject, "service", "cert/abc")
    assert principal.expires_s == int(NOW_S) + 30 * 86_400


async def test_a_certificate_that_no_entry_takes_is_nobody_and_an_ended_one_too(make, clock):
    chain = make({"certificates": [{"subject": "uri:spiffe://x/*"}]})
    for der in (
        certificate(uri="spiffe://y/1"),
        certificate(common="uri:spiffe://x/1"),
        certificate(),
        b"no certificate",
    ):
        with pytest.raises(Unauthenticated):
            await chain.authenticate(Credentials(certificate=der))
    good = Credentials(certificate=certificate(uri="spiffe://x/1"))
    principal = await chain.authenticate(good)
    clock.now_s += 31 * 86_400
    assert not chain.valid(principal)
    with pytest.raises(Unauthenticated):
        await chain.authenticate(good)


async def test_a_token_whose_key_its_issuer_takes_back_counts_no_longer_than_it_is_remembered(make, authority, clock):
    chain = make({"issuers": [{"issuer": authority.url}]})
    chain._issuers[authority.url]._keys._now_s = clock
    shown = Credentials(bearer=authority.token(exp=int(NOW_S) + 100 * 365 * 86_400), resource="/mcp")
    await chain.authenticate(shown)
    authority.rotate("k2")
    clock.now_s += 2 * FRESH_S
    with pytest.raises(Unauthenticated, match="no key of its issuer"):
        await chain.authenticate(shown)


# ---- bounds and hand-over -------------------------------------------------------------------------


async def test_as_many_tokens_are_remembered_as_there_is_room_for(make, authority, monkeypatch):
    chain = make({"issuers": [{"issuer": authority.url}]})
    monkeypatch.setattr(chain._tokens, "_most", 3)
    for i in range(8):
        await chain.authenticate(Credentials(bearer=authority.token(jti=f"t{i}"), resource="/mcp"))
    assert len(chain._tokens) == 3
    assert TOKENS_MAX == 10_000


async def test_who_exchanges_tokens_is_given_those_that_were_proved_here_alone(make, authority):
    kept = []
    chain = make(
        {"issuers": [{"issuer": authority.url}]}, keep=lambda principal, token: kept.append((principal.subject, token))
    )
    token = authority.token()
    for asked in (token, authority.token(aud="https://other.example")):
        try:
            await chain.authenticate(Credentials(bearer=asked, resource="/mcp"))
        except Unauthenticated:
            continue
    assert kept == [("ann", token)]


async def test_a_token_that_is_refused_takes_the_place_of_none_for_exchange(make, authority):
    kept = []
    governance = Ungoverned(Governed(revoked={"jti/t1": Revoked("jti/t1")}))
    chain = make(
        {"issuers": [{"issuer": authority.url}], "keys": [{"name": "ci", "sha256": sha("k" * 30)}]},
        governance=governance,
        keep=lambda principal, token: kept.append((principal.subject, token)),
    )
    for shown in (
        Credentials(bearer=authority.token(), resource="/mcp"),
        Credentials(bearer=authority.token(jti="t2"), api_key="k" * 30, resource="/mcp"),
    ):
        with pytest.raises(Unauthenticated):
            await chain.authenticate(shown)
    await chain.authenticate(bearer("k" * 30))
    assert kept == []
    await chain.authenticate(Credentials(bearer=authority.token(jti="t3"), resource="/mcp"))
    assert [subject for subject, _ in kept] == ["ann"]


async def test_a_key_that_is_not_known_here_is_shown_to_no_issuer(make, authority):
    asked = {"client_id": "node", "client_secret": "secret"}
    chain = make({"issuers": [{"issuer": authority.url, "introspection": asked}]})
    for shown, issuers_asked in ((fresh_key("ci"), False), ("opaque", True)):
        with pytest.raises(Unauthenticated):
            await chain.authenticate(Credentials(bearer=shown, resource="/mcp"))
        assert ("/introspect" in authority.asked) is issuers_asked
