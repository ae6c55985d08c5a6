"""Bodies as they may be kept: without what must not be, and no longer than they may be. Pure."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Sequence
from typing import Any

from proto import jsons
from proto.errors import Invalid

MASKED = "[masked]"
CUT = "…"

NAMES = (
    "*password*", "*passwd*", "*passphrase*", "*secret*", "*token*", "*credential*", "authorization", "*-authorization",
    "cookie", "set-cookie", "*apikey*", "*api_key*", "*api-key*", "*accesskey*", "*access_key*", "*access-key*",
    "*privatekey*", "*private_key*", "*private-key*", "key", "pin", "otp", "cvv", "cvc",
)  # fmt: skip
"""Members of these names, in any case, are always masked; `audit.mask` adds to them."""

_STEP = re.compile(r"\.(?P<name>[^.\[\]*]+)|\.(?P<any>\*)|\[(?P<index>[0-9]{1,6}|\*)\]")
# Shapes that are secrets wherever they stand: bearer and basic credentials, JWTs, our own keys, PEM private keys,
# passwords in URLs, and `name=value` of a name that would be masked.
_SHAPES = re.compile(
    r"""(?ix)
    (?P<keep>\b(?:bearer|basic|dpop)\s+)[\w.~+/=-]{8,}
    | \beyJ[\w-]{6,}\.[\w-]{6,}\.[\w-]*
    | \btm_[a-z0-9._@-]{1,64}_[\w-]{16,}
    | -----BEGIN[ ][A-Z ]*PRIVATE[ ]KEY-----.*?(?:-----END[ ][A-Z ]*PRIVATE[ ]KEY-----|\Z)
    | (?P<scheme>\b[a-z][a-z0-9+.-]{1,20}://)[^\s/@:]{0,200}:[^\s/@]{1,200}(?=@)
    | (?P<named>\b[\w-]{0,40}(?:password|passwd|passphrase|secret|token|credential|api[_-]?key|authorization)[\w-]{0,20}
        ["']?\s*[=:]\s*["']?)(?:(?:bearer|basic|dpop)\s+)?[^\s"',;&}]{1,2000}
    """,
    re.DOTALL,
)
_JSON_TEXT_MAX = 64 * 1024


def scrub(text: str) -> str:
    """A text less what looks like a secret in it. Never fails; linear in the length."""
    return _SHAPES.sub(lambda m: (m["keep"] or m["scheme"] or m["named"] or "") + MASKED, text)


Path = tuple[str | int | None, ...]
"""Member names and indices from the top; None stands for every one."""


def parse_path(text: str) -> Path:
    """`$.params.arguments.note`, `$.answer.result.content[*].text`. Raises `Invalid`."""
    steps: list[str | int | None] = []
    at = 1
    while at < len(text):
        step = _STEP.match(text, at)
        if step is None:
            raise Invalid(f"{text!r} is not a path: write $, then .NAME, .*, [0] or [*] for each step")
        if step["name"] is not None:
            steps.append(step["name"])
        elif step["index"] is not None and step["index"] != "*":
            steps.append(int(step["index"]))
        else:
            steps.append(None)
        at = step.end()
    if not steps or not text.startswith("$"):
        raise Invalid(f"{text!r} is not a path: write $, then .NAME, .*, [0] or [*] for each step")
    return tuple(steps)


class Mask:
    """`rules` are globs over member names at any depth, or paths (beginning with `$`) from `{"params", "answer"}`."""

    def __init__(self, rules: Sequence[str] = ()) -> None:
        globs = [*NAMES, *(r.lower() for r in rules if not r.startswith("$"))]
        self._names = re.compile("|".join(map(fnmatch.translate, globs)))
        self._paths = tuple(parse_path(r) for r in rules if r.startswith("$"))

    def __repr__(self) -> str:
        return f"Mask({len(self._paths)} paths)"

    def body(self, value: Any, root: str, most: int) -> str:
        """`value`, which stands under `root`, as JSON text without its secrets, of `most` characters at most.

        One that is cut ends with `CUT`, and is no JSON any more. Work is bounded by `most`, not by the value.
        """
        paths = tuple(p[1:] for p in self._paths if p[0] in (root, None))
        if () in paths:
            return jsons.dumps(MASKED).decode()
        copied = self._copy(value, paths, _Room(most))
        text = jsons.dumps(copied).decode()
        return text if len(text) <= most else text[: most - 1] + CUT

    def _copy(self, value: Any, paths: tuple[Path, ...], room: _Room) -> Any:
        match value:
            case dict():
                made: dict[str, Any] = {}
                for name, inner in value.items():
                    if room.left <= 0:
                        made[CUT] = CUT
                        break
                    room.left -= len(name) + 4
                    below = tuple(p[1:] for p in paths if p[0] in (name, None))
                    masked = () in below or self._names.fullmatch(name.lower()) is not None
                    made[name] = MASKED if masked else self._copy(inner, below, room)
                return made
            case list() | tuple():
                items: list[Any] = []
                for i, inner in enumerate(value):
                    if room.left <= 0:
                        items.append(CUT)
                        break
                    room.left -= 1
                    below = tuple(p[1:] for p in paths if p[0] in (i, None))
                    items.append(MASKED if () in below else self._copy(inner, below, room))
                return items
            case str():
                return self._text(value, room)
        room.left -= 5
        return value

    def _text(self, text: str, room: _Room) -> str:
        if text[:1] in ("{", "[") and len(text) <= _JSON_TEXT_MAX:
            # Tools often answer with JSON in a text.
            try:
                inner = jsons.loads(text)
            except Invalid:
                pass
            else:
                return jsons.dumps(self._copy(inner, (), room)).decode()
        if len(text) > room.left:
            text = text[: max(0, room.left)] + CUT
        room.left -= len(text)
        return scrub(text)


class _Room:
    """How many characters a body may still take."""

    __slots__ = ("left",)

    def __init__(self, left: int) -> None:
        self.left = left
