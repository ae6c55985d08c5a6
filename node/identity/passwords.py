"""Passwords of people, known by their scrypt hash alone (RFC 7914), in the text form that others use too:

$scrypt$ln=15,r=8,p=1$SALT$HASH        salt and hash in base64 without padding
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass, field

from proto.errors import Invalid

SALT_BYTES = 16
HASH_BYTES = 32
LN_MIN, LN_MAX = 14, 17
"""Binary logarithm of the cost: 16 MiB and about 50 ms, to 128 MiB and about 400 ms."""
LN = 15
R = 8
P_MAX = 4
CHARACTERS_MAX = 1_024
"""A longer password is not looked at."""
CHARACTERS_MIN = 12

_FORM = re.compile(r"\$scrypt\$ln=(\d{1,2}),r=(\d{1,2}),p=(\d{1,2})\$([A-Za-z0-9+/]{16,88})\$([A-Za-z0-9+/]{43,88})")


@dataclass(frozen=True, slots=True)
class PasswordHash:
    ln: int
    p: int
    salt: bytes = field(repr=False)
    digest: bytes = field(repr=False)

    @classmethod
    def of(cls, password: str, ln: int = LN) -> PasswordHash:
        """A new salt. Raises `Invalid` for a password that is too short or too long."""
        if len(password) < CHARACTERS_MIN:
            raise Invalid(
                f"the password is shorter than {CHARACTERS_MIN} characters and could be guessed; take several words"
            )
        if len(password) > CHARACTERS_MAX:
            raise Invalid(f"the password is longer than {CHARACTERS_MAX} characters")
        salt = secrets.token_bytes(SALT_BYTES)
        return cls(ln, 1, salt, _scrypt(password, salt, ln, 1, HASH_BYTES))

    @classmethod
    def parse(cls, text: str) -> PasswordHash:
        """Raises `Invalid` for what is no hash, and for one that is too cheap to guess against or too dear to check."""
        found = _FORM.fullmatch(text)
        if found is None:
            raise Invalid("is no scrypt hash; 'toolmesh key password' makes one")
        ln, r, p = (int(found[i]) for i in (1, 2, 3))
        if r != R or not LN_MIN <= ln <= LN_MAX or not 1 <= p <= P_MAX:
            raise Invalid(f"has ln={ln}, r={r}, p={p}; ln is from {LN_MIN} to {LN_MAX}, r is {R}, p from 1 to {P_MAX}")
        return cls(ln, p, _decoded(found[4]), _decoded(found[5]))

    def matches(self, password: str) -> bool:
        """Takes as long for a wrong password as for the right one: tens of milliseconds, away from the loop."""
        if len(password) > CHARACTERS_MAX:
            return False
        found = _scrypt(password, self.salt, self.ln, self.p, len(self.digest))
        return hmac.compare_digest(found, self.digest)

    def __str__(self) -> str:
        return f"$scrypt$ln={self.ln},r={R},p={self.p}${_encoded(self.salt)}${_encoded(self.digest)}"


def _scrypt(password: str, salt: bytes, ln: int, p: int, length: int) -> bytes:
    raw = password.encode("utf-8", "surrogatepass")
    n = 1 << ln
    return hashlib.scrypt(raw, salt=salt, n=n, r=R, p=p, maxmem=128 * n * R * p + (1 << 22), dklen=length)


def _encoded(raw: bytes) -> str:
    return base64.b64encode(raw).decode().rstrip("=")


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except ValueError:
        raise Invalid("is no scrypt hash: its base64 is damaged; 'toolmesh key password' makes one") from None
