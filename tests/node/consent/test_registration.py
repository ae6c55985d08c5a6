"""As which client this node comes to an authorization server, and that one issuer's client is shown to no other."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from node.credentials.metadata import AuthorizationServer
from node.credentials.registration import Registrar
from node.secrets.memory import MemorySecrets
from node.settings.consent_auth import AuthorizationCodeAuth
from proto.errors import Unavailable

BACK = "https://node.example/oauth/callback"
DOCUMENT = "https://node.example/oauth/client.json"
ONE = AuthorizationServer("https://one.example", registration_endpoint="https://one.example/register")


class Http:
    """Registers whoever asks, in the way that `answer` says."""

    def __init__(self, status: int = 201, **answer: Any) -> None:
        self.status, self.answer = status, answer
        self.asked: list[tuple[str, dict[str, Any]]] = []

    async def post_json(self, url, body, headers, *, learned):
        assert learned
        self.asked.append((url, dict(body)))
        return self.status, {"client_id": f"id{len(self.asked)}", **self.answer}


def auth(**more: Any) -> AuthorizationCodeAuth:
    return AuthorizationCodeAuth(kind="authorization_code", **more)


async def test_a_client_is_registered_once_for_each_issuer_and_address_and_kept():
    store, http = MemorySecrets(), Http(token_endpoint_auth_method="none")
    two = AuthorizationServer("https://two.example", registration_endpoint="https://one.example/register")
    registrar = Registrar(store, http)
    first = await registrar.client(ONE, auth(), BACK, "")
    assert await Registrar(store, http).client(ONE, auth(), BACK, "") == first
    assert (await registrar.client(two, auth(), BACK, "")).client_id != first.client_id
    assert (await registrar.client(ONE, auth(), BACK + "2", "")).client_id != first.client_id
    assert await registrar.client(ONE, auth(), BACK, "") == first
    assert len(http.asked) == 3
    _, said = http.asked[0]
    assert said["redirect_uris"] == [BACK]
    assert said["application_type"] == "web"
    registrar.forget(ONE.issuer, BACK)
    assert (await registrar.client(ONE, auth(), BACK, "")).client_id == "id4"


async def test_a_client_of_this_machine_says_that_it_is_native():
    http = Http(token_endpoint_auth_method="none")
    await Registrar(MemorySecrets(), http).client(ONE, auth(), "http://127.0.0.1:7400/oauth/callback", "")
    assert http.asked[0][1]["application_type"] == "native"


async def test_a_document_is_preferred_where_both_sides_can_and_not_where_one_cannot():
    knows = AuthorizationServer(
        "https://one.example",
        registration_endpoint="https://one.example/register",
        client_id_metadata_document_supported=True,
    )
    http = Http(token_endpoint_auth_method="none")
    registrar = Registrar(MemorySecrets(), http)
    assert (await registrar.client(knows, auth(), BACK, DOCUMENT)).client_id == DOCUMENT
    assert (await registrar.client(knows, auth(), BACK, "")).client_id == "id1"
    assert (await registrar.client(knows, auth(registration="dynamic"), BACK, DOCUMENT)).client_id == "id1"
    with pytest.raises(Unavailable, match="set registration: dynamic"):
        await registrar.client(ONE, auth(registration="document"), BACK, DOCUMENT)


async def test_a_client_that_was_registered_by_hand_is_used_as_it_is():
    http = Http()
    registrar = Registrar(MemorySecrets(), http)
    public = await registrar.client(ONE, auth(client_id="mine"), BACK, DOCUMENT)
    assert (public.client_id, public.method) == ("mine", "none")
    secret = await registrar.client(ONE, auth(client_id="mine", client_secret="s3cret", issuer=ONE.issuer), BACK, "")
    assert (secret.secret, secret.method) == ("s3cret", "client_secret_basic")
    assert "s3cret" not in repr(secret)
    assert http.asked == []


@pytest.mark.parametrize(
    ("http", "says"),
    [
        (Http(400, error="invalid_redirect_uri"), "invalid_redirect_uri"),
        (Http(client_id=""), "cannot use"),
        (Http(token_endpoint_auth_method="private_key_jwt"), "cannot use"),
        (Http(token_endpoint_auth_method="client_secret_basic"), "cannot use"),
    ],
)
async def test_a_registration_that_cannot_be_used_says_what_to_do(http, says):
    with pytest.raises(Unavailable, match=says) as raised:
        await Registrar(MemorySecrets(), http).client(ONE, auth(), BACK, "")
    assert "client_id" in raised.value.message


async def test_where_nobody_can_register_the_message_names_the_redirect_uri():
    with pytest.raises(Unavailable, match="oauth/callback"):
        await Registrar(MemorySecrets(), Http()).client(AuthorizationServer("https://x.example"), auth(), BACK, "")


async def test_a_secret_that_is_about_to_end_is_replaced_by_registering_anew():
    http = Http(token_endpoint_auth_method="client_secret_basic", client_secret="s", client_secret_expires_at=1_000)
    store, now = MemorySecrets(), [0.0]
    registrar = Registrar(store, http, clock=lambda: now[0])
    assert (await registrar.client(ONE, auth(), BACK, "")).client_id == "id1"
    assert (await registrar.client(ONE, auth(), BACK, "")).client_id == "id1"
    now[0] = 950
    assert (await registrar.client(ONE, auth(), BACK, "")).client_id == "id2"


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"client_secret": "s"}, "client_id"),
        ({"client_id": "c", "client_secret": "s"}, "issuer"),
        ({"client_id": "c", "client_auth": "client_secret_post"}, "client_secret"),
        ({"client_id": "c", "registration": "dynamic"}, "drop one"),
    ],
)
def test_a_configuration_that_contradicts_itself_is_refused(wrong, says):
    with pytest.raises(ValidationError, match=says):
        auth(**wrong)
