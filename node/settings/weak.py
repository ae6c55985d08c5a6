"""Secrets that can be guessed: words that come with software and documentation, and texts of little variety."""

from __future__ import annotations

import hashlib
import math
import re

BITS_MIN = 50.0
"""As counted here, which is on the low side: the shortest random texts in use, of 80 bits, come to 55 and more.
Nobody tries 2**50 keys over a network."""

DEFAULTS = (
    *("admin", "administrator", "api-key", "apikey", "api_key", "change-it", "change-me", "change_me", "changeit"),
    *(
        "changeme",
        "default",
        "demo",
        "dev",
        "dummy",
        "example",
        "fixme",
        "guest",
        "hunter2",
        "insert",
        "key",
        "letmein",
    ),
    *("localhost", "master", "mysecret", "mytoken", "pass", "passw0rd", "password", "placeholder", "please", "qwerty"),
    *(
        "replace",
        "root",
        "s3cret",
        "sample",
        "secret",
        "sk",
        "super",
        "supersecret",
        "test",
        "testing",
        "todo",
        "token",
    ),
    *("toolmesh", "user", "welcome", "your", "here", "this", "my", "the", "value", "xxx", "tm"),
)
"""As they stand in configurations that were copied and never finished, alone or joined."""

_WORD = re.compile("|".join(sorted(map(re.escape, DEFAULTS), key=len, reverse=True)))
_RUNS = ("abcdefghijklmnopqrstuvwxyz", "0123456789", "qwertyuiop", "asdfghjkl", "zxcvbnm")
_DIGESTS = frozenset(
    hashlib.sha256(word.encode()).hexdigest()
    for word in ("", *DEFAULTS, *(f"{a}-{b}" for a in DEFAULTS for b in DEFAULTS))
)


def weakness(secret: str) -> str:
    """Why a secret can be guessed, to follow its name in a sentence; empty where nothing says so."""
    left = _WORD.sub("", secret.lower())
    left = re.sub(r"[^a-z0-9]", "", left)
    if not left or (left.isdigit() and len(left) <= 8 and len(left) < len(secret)):
        return "is a word that software and documentation come with"
    if _bits(secret) < BITS_MIN:
        return "has so little variety that it can be guessed"
    return ""


def weak_digest(sha256: str) -> str:
    """The same of a secret that only its SHA-256 (hex) tells of."""
    return "is that of a word that software and documentation come with" if sha256.lower() in _DIGESTS else ""


def _bits(secret: str) -> float:
    """What a guesser who tries repeats, runs and known words first still has to find out, at most.

    Each character that no such rule foretells counts by the size of the alphabet that the text uses.
    """
    lower = secret.lower()
    known = [False] * len(lower)
    for match in _WORD.finditer(lower):
        if match.end() - match.start() > 2:
            known[match.start() : match.end()] = [True] * (match.end() - match.start())
    surprises = 0
    for i, char in enumerate(lower):
        before = lower[max(0, i - 1) : i]
        if known[i] or (before and (char == before or _follows(before, char))):
            continue
        # A block that was there before, from its second character on.
        if i >= 1 and lower[i - 1 : i + 1] in lower[: i - 1]:
            continue
        surprises += 1
    return surprises * math.log2(_alphabet(secret))


def _follows(before: str, char: str) -> bool:
    return any(before + char in run or char + before in run for run in _RUNS)


def _alphabet(secret: str) -> int:
    size = 26 * any(c.islower() for c in secret) + 26 * any(c.isupper() for c in secret)
    size += 10 * any(c.isdigit() for c in secret) + 20 * any(not c.isalnum() for c in secret)
    return max(2, min(size, 4 * len(set(secret))))
