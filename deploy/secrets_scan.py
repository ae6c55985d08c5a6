"""Looks for keys, tokens and passwords in every file of the repository. Exit status 1: one is there.

What is meant to be there stands in `secrets-allowed.txt` beside this file, each with the reason: PATH, tab, the first
16 hex digits of the text's SHA-256, tab, reason. An entry whose text is gone is a finding, too.
"""

from __future__ import annotations

import hashlib
import math
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
ALLOWED = Path(__file__).with_name("secrets-allowed.txt")
FILE_BYTES_MAX = 2_000_000
"""A longer file is data; it is named as not read."""
ENTROPY_BITS_MIN = 3.7
"""Per character: random text of the usual alphabets has 4 and more, words have less."""

KINDS = {
    "private key": re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----\s*[A-Za-z0-9+/=\s]{40,}"),
    "toolmesh key": re.compile(r"\btm_[A-Za-z0-9._@-]{1,64}_[A-Za-z0-9_-]{43}\b"),
    "AWS key": re.compile(r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b"),
    "GitHub token": re.compile(r"\b(?:gh[pousr]_[A-Za-z0-9]{36}|github_pat_[A-Za-z0-9_]{60,})\b"),
    "GitLab token": re.compile(r"\bglpat-[A-Za-z0-9_-]{20,}\b"),
    "Slack token": re.compile(r"\bxox[abprs]-[A-Za-z0-9-]{20,}\b"),
    "Google key": re.compile(r"\bAIza[A-Za-z0-9_-]{35}\b"),
    "API key of a model": re.compile(r"\bsk-[A-Za-z0-9_-]{32,}\b"),
    "package index token": re.compile(r"\b(?:pypi-[A-Za-z0-9_-]{60,}|npm_[A-Za-z0-9]{36})\b"),
    "signed token": re.compile(r"\beyJ[A-Za-z0-9_-]{16,}\.eyJ[A-Za-z0-9_-]{16,}\.[A-Za-z0-9_-]{16,}"),
    "password in a URL": re.compile(r"\b[a-z][a-z0-9+]{1,12}://[^\s/:@\"'{}<>]{1,64}:([^\s/@\"'{}<>$]{12,})@"),
}
ASSIGNED = re.compile(
    r"(?i)(?:password|passwd|secret|token|api_?key|bearer)[\"']?\s*[:=]\s*[\"']([A-Za-z0-9+/=_.-]{20,})[\"']"
)


class Found(NamedTuple):
    path: str
    line: int
    kind: str
    digest: str


def entropy_bits(text: str) -> float:
    """Per character."""
    return -sum(n / len(text) * math.log2(n / len(text)) for n in Counter(text).values())


def found_in(path: str, text: str) -> Iterator[Found]:
    for kind, pattern in KINDS.items():
        for match in pattern.finditer(text):
            yield _found(path, text, match, kind, match[0])
    for match in ASSIGNED.finditer(text):
        if entropy_bits(match[1]) >= ENTROPY_BITS_MIN and any(c.isdigit() for c in match[1]):
            yield _found(path, text, match, "value of a secret", match[1])


def _found(path: str, text: str, match: re.Match[str], kind: str, secret: str) -> Found:
    digest = hashlib.sha256(secret.encode()).hexdigest()[:16]
    return Found(path, text.count("\n", 0, match.start()) + 1, kind, digest)


def allowed(text: str) -> dict[tuple[str, str], str]:
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    entries = [line.split("\t") for line in lines]
    return {(path, digest): reason for path, digest, reason in entries}


def files() -> list[str]:
    """What git tracks, and what it would track."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout
    return sorted({name for name in listed.decode().split("\0") if name})


def main() -> int:
    excuses = allowed(ALLOWED.read_text())
    used: set[tuple[str, str]] = set()
    wrong: list[str] = []
    read = 0
    for name in files():
        file = ROOT / name
        if not file.is_file() or file.stat().st_size > FILE_BYTES_MAX:
            continue
        data = file.read_bytes()
        if b"\0" in data[:8192]:
            continue
        read += 1
        for found in found_in(name, data.decode("utf-8", "replace")):
            if (found.path, found.digest) in excuses:
                used.add((found.path, found.digest))
            else:
                wrong.append(f"{found.path}:{found.line}: a {found.kind} ({found.digest})")
    wrong += [
        f"{path}: secrets-allowed.txt excuses {digest}, which is not there" for path, digest in excuses.keys() - used
    ]
    print(*wrong, f"secrets: {read} files, {len(wrong)} findings", sep="\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
