"""An entry node's signed word about who calls: for roads on which TLS does not prove that node to the owner.

A compact JWS (RFC 7515) under the key of the entry node's own certificate, whose chain travels in `x5c` and must lead
to a CA of that node's trust domain. It binds the caller to one owner, one call id and one request: server, method,
params and the definition that the caller saw. An owner takes it once.
"""

from __future__ import annotations

import base64
import binascii
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from joserfc import jws
from joserfc.errors import JoseError
from joserfc.jwk import ECKey

from federation.credentials import parse_chain, vouch
from federation.vouching import direct, not_direct
from proto import jsons
from proto.calls import Call
from proto.errors import Forbidden, Invalid, Unauthenticated, Unavailable
from proto.names import NodeId
from proto.records import Principal

if TYPE_CHECKING:
    from datetime import datetime

ALGORITHM = "ES256"
"""The one of certificates of `toolmesh ca`; what a header says is only compared with it."""
TYPE = "toolmesh-call+jwt"
"""Of the header: nothing else that these keys sign can be taken for an assertion (RFC 8725 §3.11)."""

LIFE_S = 60
SKEW_S = 30
ASSERTION_BYTES_MAX = 64 * 1024
"""Tokens have 16 KiB at most at any door, so no caller's groups and scopes come near it."""
CHAIN_MAX = 4
TAKEN_MAX = 100_000
"""Assertions that are remembered as taken, until they would have expired; beyond it none is taken."""


class _Registry(jws.JWSRegistry):
    # A chain of certificates in a header is longer than the library expects of headers.
    max_header_length = ASSERTION_BYTES_MAX
    max_payload_length = ASSERTION_BYTES_MAX


_REGISTRY = _Registry(algorithms=[ALGORITHM])


class Signer:
    """Signs for the node whose certificate chain and key (PEM) these are."""

    def __init__(self, me: NodeId, chain_pem: bytes, key_pem: bytes, now_s: Callable[[], float] = time.time) -> None:
        self._me = me
        self._key = ECKey.import_key(key_pem)
        self._x5c = [
            base64.b64encode(c.public_bytes(Encoding.DER)).decode() for c in parse_chain(chain_pem, "the certificate")
        ]
        self._now_s = now_s

    def __repr__(self) -> str:
        return f"Signer({self._me.uri})"

    def sign(self, call: Call, audience: NodeId) -> bytes:
        """For this call at this owner, within the next `LIFE_S` seconds. Raises `Invalid` if params are no JSON."""
        now_s = int(self._now_s())
        claims = {
            "iss": self._me.uri,
            "aud": audience.uri,
            "iat": now_s,
            "exp": now_s + LIFE_S,
            "jti": call.call_id,
            "req": _digest(call),
            "principal": _told(call.principal),
        }
        header = {"alg": ALGORITHM, "typ": TYPE, "x5c": self._x5c}
        return jws.serialize_compact(header, jsons.dumps(claims), self._key, registry=_REGISTRY).encode("ascii")


class Assertions:
    """Who may speak for a caller at the node `me` (`federation.vouching.Vouching`).

    A peer of this trust domain on a stream of its own needs no signature. A node of one of the domains in `bundles`
    (trust domain → its CA certificates) needs one; anybody else speaks for nobody.
    """

    def __init__(
        self,
        me: NodeId,
        bundles: Mapping[str, Sequence[x509.Certificate]],
        *,
        now: Callable[[], datetime],
        taken_max: int = TAKEN_MAX,
    ) -> None:
        self._me = me
        self._bundles = dict(bundles)
        self._now = now
        self._taken_max = taken_max
        self._taken: dict[tuple[str, str], float] = {}

    def __repr__(self) -> str:
        return f"Assertions({self._me.uri}, {len(self._bundles)} other domains, {len(self._taken)} taken)"

    def check(self, call: Call, assertion: bytes, peer: NodeId) -> None:
        if not direct(call, peer):
            raise not_direct(call, peer)
        if peer.trust_domain == self._me.trust_domain:
            return
        authorities = self._bundles.get(peer.trust_domain)
        if authorities is None:
            raise Forbidden(f"{peer.uri} is of a trust domain that this node knows no CA of")
        if not assertion:
            raise Unauthenticated(f"{peer.uri} is of another trust domain and did not sign who calls")
        claims = self._claims(assertion, authorities, peer)
        self._compare(claims, call, peer)
        self._take((peer.uri, call.call_id))

    def _claims(self, assertion: bytes, authorities: Sequence[x509.Certificate], peer: NodeId) -> dict[str, Any]:
        """What a certificate of the peer has signed."""
        if len(assertion) > ASSERTION_BYTES_MAX:
            raise _refused(f"it has {len(assertion)} bytes; at most {ASSERTION_BYTES_MAX} are read")
        try:
            header = jws.extract_compact(assertion, registry=_REGISTRY).headers()
            if set(header) != {"alg", "typ", "x5c"} or header["alg"] != ALGORITHM or header["typ"] != TYPE:
                raise _refused(f"its header is not that of a {TYPE} under {ALGORITHM}")
            chain = _chain(header["x5c"])
            pem = b"".join(c.public_bytes(Encoding.PEM) for c in chain)
            vouch(pem, authorities, peer, self._now())
            key = ECKey.import_key(chain[0].public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
            signed = jws.deserialize_compact(assertion, key, registry=_REGISTRY)
            return jsons.loads_object(signed.payload, "the assertion")
        except (JoseError, ValueError, TypeError, KeyError, UnicodeError, Invalid) as e:
            raise _refused(str(e)[:200] or type(e).__name__) from None

    def _compare(self, claims: Mapping[str, Any], call: Call, peer: NodeId) -> None:
        now_s = self._now().timestamp()
        begins_s, ends_s = claims.get("iat"), claims.get("exp")
        if type(begins_s) is not int or type(ends_s) is not int or ends_s - begins_s > LIFE_S:
            raise _refused(f"it does not say that it lasts {LIFE_S} s at most")
        if not begins_s - SKEW_S <= now_s < ends_s + SKEW_S:
            raise _refused("it has expired, or the two clocks disagree")
        if claims.get("iss") != peer.uri or claims.get("aud") != self._me.uri:
            raise _refused("it is of another node, or for another")
        if claims.get("jti") != call.call_id or claims.get("req") != _digest(call):
            raise _refused("it is about another call")
        if claims.get("principal") != _told(call.principal):
            raise _refused("it speaks for another caller")

    def _take(self, once: tuple[str, str]) -> None:
        now_s = self._now().timestamp()
        if once in self._taken and self._taken[once] > now_s:
            raise _refused("it was taken before")
        while self._taken and next(iter(self._taken.values())) <= now_s:
            del self._taken[next(iter(self._taken))]
        if len(self._taken) >= self._taken_max:
            raise Unavailable("this node remembers as many signed calls as it can; try again in a minute")
        self._taken.pop(once, None)
        self._taken[once] = now_s + LIFE_S + 2 * SKEW_S


def _refused(why: str) -> Unauthenticated:
    return Unauthenticated(f"the entry node's signed word is not accepted: {why}")


def _digest(call: Call) -> str:
    """Of what is asked, whatever the order of its members."""
    asked = {"server": call.server, "method": call.method, "tool": call.tool_digest.hex(), "params": call.params}
    return jsons.digest(asked).hex()


def _told(principal: Principal) -> dict[str, Any]:
    return {
        "subject": principal.subject,
        "issuer": principal.issuer,
        "tenant": principal.tenant,
        "groups": list(principal.groups),
        "scopes": list(principal.scopes),
        "kind": principal.kind,
        "actors": list(principal.actors),
        "credential": principal.credential,
        "expires_s": principal.expires_s,
    }


def _chain(texts: Any) -> list[x509.Certificate]:
    """Raises `ValueError`."""
    if not isinstance(texts, list) or not 0 < len(texts) <= CHAIN_MAX:
        raise ValueError(f"its x5c is no chain of at most {CHAIN_MAX} certificates")
    try:
        return [x509.load_der_x509_certificate(base64.b64decode(text, validate=True)) for text in texts]
    except binascii.Error as e:
        raise ValueError(f"its x5c cannot be read: {e}") from None
