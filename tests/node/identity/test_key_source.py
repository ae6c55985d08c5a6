"""The keys of an issuer while they change, and while it cannot be reached."""

from __future__ import annotations

import asyncio

import orjson
import pytest
from joserfc.jwk import ECKey

from node.identity.jwks import PublicKey, keys_of
from node.identity.key_source import FRESH_S, INTERVAL_S, KEPT_S, RETRY_S, KeySource
from node.ports import Credentials
from proto.errors import Unauthenticated, Unavailable
from tests.node.identity.conftest import Clock


class Issuer:
    """`gate` holds a fetch back until it is set; `fetched` counts those that began."""

    def __init__(self) -> None:
        self.clock = Clock(0.0)
        self.kids = ["a"]
        self.away = False
        self.fetched = 0
        self.gate = asyncio.Event()
        self.began = asyncio.Event()
        self.gate.set()
        self.keys = KeySource("https://i.example", self.load, self.clock)

    async def load(self) -> tuple[PublicKey, ...]:
        self.fetched += 1
        self.began.set()
        await self.gate.wait()
        if self.away:
            raise Unavailable("no answer")
        return keys_of({"keys": [{**KEY.as_dict(private=False), "kid": kid} for kid in self.kids]})

    async def kids_for(self, kid: str) -> list[str]:
        return [key.kid for key in await self.keys.fitting(kid, "ES256")]

    async def settled(self) -> None:
        """Until a fetch in the background is over."""
        while self.keys._loading is not None:
            await asyncio.shield(self.keys._loading)


KEY = ECKey.generate_key("P-256", auto_kid=False)


async def test_a_key_that_is_not_known_is_asked_for_once_in_an_interval():
    issuer = Issuer()
    assert await issuer.kids_for("a") == ["a"]
    issuer.kids = ["b"]
    for _ in range(20):
        assert await issuer.kids_for("b") == []
    assert issuer.fetched == 1
    issuer.clock.now_s += INTERVAL_S
    assert await issuer.kids_for("b") == ["b"]
    for stranger in range(50):
        assert await issuer.kids_for(f"x{stranger}") == []
    assert issuer.fetched == 2
    assert await issuer.kids_for("a") == []


async def test_whoever_asks_at_once_waits_for_one_fetch_and_one_who_leaves_stops_nobody():
    issuer = Issuer()
    issuer.gate.clear()
    waiting = [asyncio.ensure_future(issuer.kids_for("a")) for _ in range(10)]
    await issuer.began.wait()
    waiting[0].cancel()
    await asyncio.wait(waiting[:1])
    issuer.gate.set()
    assert await asyncio.gather(*waiting[1:]) == [["a"]] * 9
    assert issuer.fetched == 1


async def test_old_keys_are_fetched_again_behind_the_callers_back():
    issuer = Issuer()
    await issuer.kids_for("a")
    issuer.kids = ["b"]
    issuer.clock.now_s += FRESH_S
    assert await issuer.kids_for("a") == ["a"]
    await issuer.settled()
    assert (issuer.fetched, await issuer.kids_for("b")) == (2, ["b"])


async def test_a_key_that_was_taken_away_is_not_believed_once_more_after_a_quiet_time():
    issuer = Issuer()
    await issuer.kids_for("a")
    issuer.kids = ["b"]
    issuer.clock.now_s += 2 * FRESH_S
    assert await issuer.kids_for("a") == []


async def test_keys_outlive_their_issuers_absence_for_a_day_and_no_longer():
    issuer = Issuer()
    await issuer.kids_for("a")
    issuer.away = True
    issuer.clock.now_s += KEPT_S - 1
    assert await issuer.kids_for("a") == ["a"]
    await issuer.settled()
    assert "cannot be reached" in repr(issuer.keys)
    issuer.clock.now_s += INTERVAL_S
    with pytest.raises(Unavailable, match="cannot be checked now") as e:
        await issuer.kids_for("a")
    assert e.value.data["retry_after_s"] == INTERVAL_S


async def test_an_issuer_that_was_never_reached_admits_nobody_and_is_tried_again_soon():
    issuer = Issuer()
    issuer.away = True
    for _ in range(5):
        with pytest.raises(Unavailable):
            await issuer.kids_for("a")
    assert issuer.fetched == 1
    issuer.away = False
    issuer.clock.now_s += RETRY_S
    assert await issuer.kids_for("a") == ["a"]


async def test_a_new_key_of_an_issuer_that_went_away_is_no_forgery_but_cannot_be_checked():
    issuer = Issuer()
    await issuer.kids_for("a")
    issuer.away = True
    issuer.clock.now_s += INTERVAL_S
    for _ in range(2):
        with pytest.raises(Unavailable):
            await issuer.kids_for("b")
    assert await issuer.kids_for("a") == ["a"]


async def test_a_token_without_kid_is_held_against_all_keys_of_its_kind(authority, who):
    first = authority.keys["k1"]
    authority.keys = {"k2": KEY, "k1": first}
    token = authority.token({"kid": ""})
    assert (await who(token)).subject == "ann"


async def test_metadata_of_another_issuer_opens_nothing(authority, who):
    authority.names = "https://other.example"
    with pytest.raises(Unavailable):
        await who(authority.token())
    assert "/jwks" not in authority.asked


async def test_a_page_for_people_is_no_metadata_and_the_next_place_is_tried(authority, who):
    authority.pages = True
    assert (await who(authority.token())).subject == "ann"
    assert authority.asked[1:] == ["/.well-known/openid-configuration", "/jwks"]


async def test_metadata_leads_to_the_keys(authority, who):
    await who(authority.token())
    assert authority.asked == ["/.well-known/oauth-authorization-server", "/jwks"]


async def test_keys_may_come_from_a_file(authority, make, tmp_path):
    file = tmp_path / "jwks.json"
    file.write_bytes(orjson.dumps(authority.jwks()))
    chain = make({"issuers": [{"issuer": "https://issuer.example", "jwks": str(file)}]})
    token = authority.token(iss="https://issuer.example")
    assert (await chain.authenticate(Credentials(bearer=token, resource="/mcp"))).issuer == "https://issuer.example"
    assert authority.asked == []


# ---- introspection --------------------------------------------------------------------------------


def asked(authority, **more):
    return {
        "issuers": [{"issuer": authority.url, "introspection": {"client_id": "us:1", "client_secret": "s/1"}, **more}]
    }


async def ask(chain, bearer: str = "opaque"):
    return await chain.authenticate(Credentials(bearer=bearer, resource="/mcp"))


async def test_an_opaque_token_is_what_its_issuer_says_for_a_minute_at_most(authority, make, clock):
    chain = make(asked(authority))
    authority.tokens["opaque"] = {"active": True, "scope": "read", **authority.claims()}
    assert (await ask(chain)).scopes == ("read",)
    assert authority.shown == ["Basic dXMlM0ExOnMlMkYx"]
    authority.tokens.clear()
    clock.now_s += 59
    assert (await ask(chain)).subject == "ann"
    clock.now_s += 1
    with pytest.raises(Unauthenticated, match="active"):
        await ask(chain)


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        ({"active": "true"}, "active"),
        ({"active": 1}, "active"),
        ({}, "active"),
        ({"active": True, "iss": "https://other.example"}, "another has issued"),
        ({"active": True, "iss": ""}, "another has issued"),
        ({"active": True, "aud": None}, "no audience"),
        ({"active": True, "aud": "https://other.example"}, "not for this server"),
        ({"active": True, "exp": 1}, "expired"),
        ({"active": True, "exp": None}, "no end"),
        ({"active": True, "token_type": "DPoP"}, "DPoP"),
        ({"active": True, "sub": None}, "'sub'"),
    ],
)
async def test_an_answer_that_is_no_clear_yes_admits_nobody(authority, make, answer, why):
    claims = authority.claims() | answer if "active" in answer else {}
    authority.tokens["opaque"] = {name: value for name, value in claims.items() if value is not None}
    with pytest.raises(Unauthenticated, match=why):
        await ask(make(asked(authority)))


async def test_an_issuer_that_does_not_answer_admits_nobody(authority, make):
    authority.tokens["opaque"] = {"active": True, **authority.claims()}
    authority.broken = True
    chain = make(asked(authority))
    with pytest.raises(Unavailable) as e:
        await ask(chain)
    assert e.value.data["retry_after_s"] > 0
    authority.broken = False
    assert (await ask(chain)).subject == "ann"


async def test_calls_that_come_together_ask_once(authority, make):
    chain = make(asked(authority))
    authority.tokens["opaque"] = {"active": True, **authority.claims()}
    callers = await asyncio.gather(*(ask(chain) for _ in range(10)))
    assert {caller.subject for caller in callers} == {"ann"}
    assert authority.asked.count("/introspect") == 1


async def test_what_stands_behind_a_node_is_not_told_to_strangers(authority, make, caplog):
    authority.broken = True
    chain = make(asked(authority))
    for _ in range(3):
        with pytest.raises(Unavailable) as e:
            await ask(chain)
        assert "127.0.0.1" not in e.value.message
    assert caplog.text.count("cannot be checked") == 1
    alarm = chain.alarms[0]
    assert (alarm.about, alarm.name, alarm.count) == (authority.url, "issuer", 3)
    assert "cannot be checked: " in alarm.message
    authority.broken = False
    with pytest.raises(Unauthenticated):
        await ask(chain)
    assert chain.alarms == ()


async def test_with_introspection_a_signature_alone_is_not_enough(authority, make):
    with pytest.raises(Unauthenticated, match="active"):
        await ask(make(asked(authority)), authority.token())


async def test_a_token_of_another_issuer_is_shown_to_none_but_its_own(authority, make):
    chain = make({"issuers": [*asked(authority)["issuers"], {"issuer": "https://other.example"}]})
    with pytest.raises(Unauthenticated):
        await ask(chain, authority.token(iss="https://third.example"))
    assert authority.asked == []
