"""The words in which a finding is told."""

from __future__ import annotations

from enum import StrEnum

from node.operator.explained import Finding

DIGEST_SHOWN = 8


class About(StrEnum):
    NAME = "name"
    PRINCIPAL = "principal"
    RECORD = "record"
    OWNER = "owner"
    SERVER = "server"
    TOOL = "tool"
    POLICY = "policy"
    CONFLICT = "conflict"
    DEFINITION = "definition"
    SEARCH = "search"
    SESSION = "session"


def yes(about: About, text: str) -> Finding:
    return {"about": about, "ok": True, "text": text, "mend": ""}


def no(about: About, text: str, mend: str) -> Finding:
    return {"about": about, "ok": False, "text": text, "mend": mend}


def say(about: About, text: str, mend: str = "") -> Finding:
    return {"about": about, "ok": None, "text": text, "mend": mend}


def short(digest: bytes) -> str:
    return digest.hex()[:DIGEST_SHOWN]
