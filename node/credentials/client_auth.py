"""How this node proves to an authorization server which client it is (RFC 6749 §2.3, RFC 7523 §2.2)."""

from __future__ import annotations

import base64
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import quote_plus

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from joserfc import jwt
from joserfc.jwk import ECKey, OKPKey, RSAKey

from node.credentials.metadata import AuthorizationServer
from proto.errors import Invalid

ClientAuth = Literal["none", "client_secret_basic", "client_secret_post", "private_key_jwt"]
ASSERTION_S = 60
"""So long an assertion is good. The authorization server's clock may be off by about as much."""
RSA_BITS_MIN = 2048
_ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
_CURVES = {"secp256r1": "ES256", "secp384r1": "ES384", "secp521r1": "ES512"}


class SigningKey:
    """A private key (PEM: EC, RSA or Ed25519) that signs short JWTs. `kid` names it to whoever verifies."""

    def __init__(self, pem: str, kid: str = "") -> None:
        """Raises `Invalid`, without a word of the key."""
        self.kid = kid
        try:
            key = load_pem_private_key(pem.encode(), password=None)
        except (ValueError, TypeError, UnsupportedAlgorithm):
            raise Invalid("is not a private key in PEM without a passphrase; 'openssl genpkey' makes one") from None
        self._key: ECKey | RSAKey | OKPKey
        if isinstance(key, ec.EllipticCurvePrivateKey) and key.curve.name in _CURVES:
            self.algorithm, self._key = _CURVES[key.curve.name], ECKey.import_key(pem)
        elif isinstance(key, rsa.RSAPrivateKey) and key.key_size >= RSA_BITS_MIN:
            self.algorithm, self._key = "RS256", RSAKey.import_key(pem)
        elif isinstance(key, ed25519.Ed25519PrivateKey):
            self.algorithm, self._key = "Ed25519", OKPKey.import_key(pem)
        else:
            raise Invalid(f"must be an EC key (P-256, P-384, P-521), Ed25519, or RSA of {RSA_BITS_MIN} bits or more")

    def __repr__(self) -> str:
        return f"SigningKey({self.algorithm} {self.kid or '-'})"

    def public(self) -> dict[str, Any]:
        """As a JWK, for whoever verifies."""
        named = {"kid": self.kid} if self.kid else {}
        return {**self._key.as_dict(private=False), "alg": self.algorithm, "use": "sig", **named}

    def sign(self, claims: Mapping[str, Any], *, ttl_s: int = ASSERTION_S, typ: str = "JWT") -> str:
        """A compact JWT with these claims, `iat`, `nbf`, `exp` and a `jti` that is used once."""
        now = int(time.time())
        header = {"alg": self.algorithm, "typ": typ, **({"kid": self.kid} if self.kid else {})}
        full = {**claims, "iat": now, "nbf": now, "exp": now + ttl_s, "jti": secrets.token_urlsafe(16)}
        return jwt.encode(header, full, self._key, algorithms=[self.algorithm])


@dataclass(frozen=True, slots=True)
class OAuthClient:
    """Which client this node is to one issuer. A `secret` goes with the methods of that name, a `key` with JWTs."""

    client_id: str
    secret: str = field(default="", repr=False)
    method: ClientAuth = "none"
    key: SigningKey | None = None

    def proof(self, server: AuthorizationServer) -> tuple[dict[str, str], dict[str, str]]:
        """(form fields, headers) that go with a request to one of its endpoints."""
        match self.method:
            case "client_secret_basic":
                # RFC 6749 §2.3.1: both are form-encoded first, so that a colon ends the id and nothing else does.
                pair = f"{quote_plus(self.client_id)}:{quote_plus(self.secret)}"
                return {}, {"Authorization": f"Basic {base64.b64encode(pair.encode()).decode()}"}
            case "client_secret_post":
                return {"client_id": self.client_id, "client_secret": self.secret}, {}
            case "private_key_jwt" if self.key is not None:
                # The issuer as audience, not the endpoint: so an assertion for one server is none for another.
                claims = {"iss": self.client_id, "sub": self.client_id, "aud": server.issuer or server.token_endpoint}
                signed = self.key.sign(claims)
                return {
                    "client_id": self.client_id,
                    "client_assertion_type": _ASSERTION_TYPE,
                    "client_assertion": signed,
                }, {}
        return {"client_id": self.client_id}, {}


def method_for(server: AuthorizationServer, *, has_secret: bool, has_key: bool) -> ClientAuth:
    """What of ours this server takes, the stronger first. Raises `Invalid`: nothing of it."""
    fit: list[ClientAuth] = ["private_key_jwt"] if has_key else []
    fit += ["client_secret_basic", "client_secret_post"] if has_secret else []
    fit += ["none"] if not fit else []
    taken = server.token_auth_methods
    for method in fit:
        if not taken or method in taken:
            return method
    raise Invalid(f"{server.issuer or server.token_endpoint} takes {', '.join(taken)[:200]}, not {' or '.join(fit)}")
