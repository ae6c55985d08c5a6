"""The public keys of an issuer (RFC 7517), and what each of them may check."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from joserfc.errors import JoseError
from joserfc.jwk import ECKey, OKPKey, RSAKey
from joserfc.jws import JWSRegistry
from joserfc.util import urlsafe_b64decode

from node.identity.jose import KID_CHARACTERS_MAX, SignedToken
from proto.errors import Invalid

KEYS_MAX = 100
TRIED_MAX = 8
"""Keys that a token without `kid` is held against."""
RSA_BITS_MIN, RSA_BITS_MAX = 2_048, 8_192
_CURVES = {"P-256": "ES256", "P-384": "ES384", "P-521": "ES512"}
_RSA = frozenset({"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"})
_EDDSA = frozenset({"EdDSA"})


@dataclass(frozen=True, slots=True)
class PublicKey:
    """`algorithms` follow from the key itself, so that no token can have it used in another way (RFC 8725 §3.1)."""

    kid: str
    algorithms: frozenset[str]
    key: RSAKey | ECKey | OKPKey = field(repr=False)

    def proves(self, token: SignedToken) -> bool:
        if token.algorithm not in self.algorithms:
            return False
        try:
            return bool(JWSRegistry.algorithms[token.algorithm].verify(token.signed, token.signature, self.key))
        except (JoseError, ValueError, TypeError):
            return False


def keys_of(document: Mapping[str, Any]) -> tuple[PublicKey, ...]:
    """The keys of a JWK Set that can check signatures, others left aside. Raises `Invalid` where none is left."""
    listed = document.get("keys")
    if not isinstance(listed, list) or len(listed) > KEYS_MAX:
        raise Invalid(f"'keys' is no list of at most {KEYS_MAX} keys")
    found, reasons = [], []
    for jwk in listed:
        try:
            found.append(_key(jwk))
        except Invalid as e:
            reasons.append(e.message)
    if not found:
        raise Invalid(f"no key in it can check signatures: {'; '.join(dict.fromkeys(reasons)) or 'it is empty'}")
    return tuple(found)


def fitting(keys: Iterable[PublicKey], kid: str, algorithm: str) -> list[PublicKey]:
    """Those that a token of this `kid` (empty: it names none) and `alg` may be held against."""
    fit = [key for key in keys if algorithm in key.algorithms and (not kid or key.kid == kid)]
    return fit[:TRIED_MAX]


def _key(jwk: Any) -> PublicKey:
    if not isinstance(jwk, dict):
        raise Invalid("a key is no object")
    kid, use, operations = jwk.get("kid", ""), jwk.get("use", "sig"), jwk.get("key_ops", ["verify"])
    if not isinstance(kid, str) or len(kid) > KID_CHARACTERS_MAX:
        raise Invalid("a key has no readable 'kid'")
    if use != "sig" or not isinstance(operations, list) or "verify" not in operations:
        raise Invalid(f"key {kid!r} is not for signatures")
    try:
        key, algorithms = _public(jwk)
    except (JoseError, ValueError, TypeError, KeyError, AttributeError) as e:
        raise Invalid(f"key {kid!r} cannot be read: {type(e).__name__}") from None
    named = jwk.get("alg")
    if named is not None:
        algorithms = algorithms & {named}
        if not algorithms:
            raise Invalid(f"key {kid!r} is for {named!r}, which is not taken")
    return PublicKey(kid, algorithms, key)


def _public(jwk: dict[str, Any]) -> tuple[RSAKey | ECKey | OKPKey, frozenset[str]]:
    # Only the public members: who publishes a private key by mistake must not have it kept here.
    match jwk.get("kty"):
        case "RSA":
            bits = int.from_bytes(urlsafe_b64decode(jwk["n"].encode())).bit_length()
            if not RSA_BITS_MIN <= bits <= RSA_BITS_MAX:
                raise Invalid(f"an RSA key has {bits} bits; {RSA_BITS_MIN} to {RSA_BITS_MAX} are taken")
            return RSAKey.import_key({name: jwk[name] for name in ("kty", "n", "e")}), _RSA
        case "EC" if jwk.get("crv") in _CURVES:
            ec = ECKey.import_key({name: jwk[name] for name in ("kty", "crv", "x", "y")})
            _ = ec.public_key  # a point that is not on the curve is found here
            return ec, frozenset({_CURVES[jwk["crv"]]})
        case "OKP" if jwk.get("crv") == "Ed25519":
            okp = OKPKey.import_key({name: jwk[name] for name in ("kty", "crv", "x")})
            _ = okp.public_key
            return okp, _EDDSA
    raise Invalid(f"a key of kind {str(jwk.get('kty'))[:20]!r} is not taken: RSA, EC and Ed25519 are")
