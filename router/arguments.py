"""What agents write into the meta-tools' arguments, read forgivingly: spellings, lists, texts that hold JSON. Pure.

Models mistake `taskDescription` for `task_description`, an array for a list with commas, an object for its JSON text;
what they mean is plain, so it is taken. What is not plain is refused, naming the argument, what is wrong with it and
the mend.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from proto import jsons
from proto.errors import Invalid

DETAILS = ("names", "signatures", "schemas")
KINDS = ("tool", "prompt", "resource")
LIMIT_MAX = 20
TASK_MAX = 4_000
SHOWN_MAX = 60
NAME_MAX = 200
WORDS_MAX = 256
WORDS_CHARACTERS_MAX = 8_000
"""Of a list, before it is taken apart: four million commas take seconds. A search takes far fewer words."""

_COMMAS = re.compile(r"[,，、;；\n]")
# What shows nothing and separates nothing: a text of nothing else is empty.
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufffd\ufff9-\uffff]+")


@dataclass(frozen=True, slots=True)
class Search:
    """What to search for. `limit` is None where the node's own default counts; `region` and `server` are empty where
    they narrow nothing; `server` is a name as a search shows it."""

    task: str
    key_words: tuple[str, ...] = ()
    limit: int | None = None
    detail: str = "signatures"
    region: str = ""
    server: str = ""
    kind: str = "tool"


@dataclass(frozen=True, slots=True)
class Use:
    """One tool to run: `params` are its own arguments."""

    server: str
    tool: str
    params: dict[str, Any]


class Taking:
    """The arguments that `tool` takes, by the names that its schema gives them; `spellings` are others, folded, that
    are taken for one of them. Case, dashes and underscores count for nothing."""

    def __init__(self, tool: str, names: Sequence[str], spellings: Mapping[str, str] | None = None) -> None:
        self.tool = tool
        self.names = tuple(names)
        self._known = frozenset(names)
        self._meant = {fold(name): name for name in names} | (dict(spellings) if spellings else {})

    def read(self, given: Mapping[str, Any]) -> Arguments:
        """Raises `Invalid` for an argument that means none of them, or for two that mean the same."""
        if given.keys() <= self._known:
            return Arguments(self.tool, given)
        values: dict[str, Any] = {}
        for spelt, value in given.items():
            name = spelt if spelt in self.names else self._meant.get(fold(spelt))
            if name is None:
                raise Invalid(self._unknown(spelt))
            if name in values:
                raise Invalid(f"{name} is given twice, once as {_shown(spelt)}; give it once")
            values[name] = value
        return Arguments(self.tool, values)

    def _unknown(self, spelt: str) -> str:
        near = get_close_matches(fold(spelt)[:SHOWN_MAX], list(self._meant), 1, 0.6)
        hint = f"; did you mean {self._meant[near[0]]}?" if near else ""
        if not hint and "params" in self.names:
            hint = "; the tool's own arguments go inside params"
        return f"{self.tool} takes {', '.join(self.names)}, not {_shown(spelt)}{hint}"


class Arguments:
    """What one call gave, under the names of the schema. Raises `Invalid` for a value that cannot be meant."""

    def __init__(self, tool: str, values: Mapping[str, Any]) -> None:
        self._tool = tool
        self._values = values

    def text(self, name: str, *, strip: bool = True) -> str:
        """A text that must be there."""
        if name not in self._values:
            raise Invalid(f"{self._tool} needs {name}")
        value = self._values[name]
        if not isinstance(value, str):
            raise Invalid(f"{name} is {jsons.type_name(value)}; give a string")
        if not value.strip():
            raise Invalid(f"{name} is empty; give a text")
        return value.strip() if strip else value

    def plain_text(self, name: str, most: int) -> str:
        """A text that must be there, at most `most` characters, without what nobody can see in it."""
        value = self.text(name)
        if len(value) > most:
            raise Invalid(f"{name} is {len(value)} characters long, at most {most} are read; say one step of the task")
        value = _CONTROLS.sub(" ", value).strip()
        if not value:
            raise Invalid(f"{name} holds no character that can be read; say in words what the tool should do")
        return value

    def optional_text(self, name: str) -> str:
        """Empty where it is missing, null or blank."""
        value = self._values.get(name)
        if value is None:
            return ""
        if not isinstance(value, str):
            raise Invalid(f"{name} is {jsons.type_name(value)}; give a string, or leave it out")
        if len(value) > NAME_MAX:
            raise Invalid(f"{name} is {len(value)} characters long, at most {NAME_MAX} are read; shorten it")
        return value.strip()

    def words(self, name: str) -> tuple[str, ...]:
        """A list: one string, words between commas of any script, an array, or the JSON text of one."""
        value = self._values.get(name)
        if isinstance(value, str) and len(value) > WORDS_CHARACTERS_MAX:
            raise Invalid(f"{name} is {len(value)} characters long; give a few words")
        if isinstance(value, str) and value.lstrip().startswith("["):
            try:
                value = jsons.loads(value)
            except Invalid:
                # Not JSON after all: a word may begin with a bracket.
                value = value.strip().strip("[]")
        if value is None:
            return ()
        if isinstance(value, str):
            value = _COMMAS.split(value)
        elif isinstance(value, list) and len(value) > WORDS_MAX:
            raise Invalid(f"{name} holds {len(value)} words; give a few")
        if not isinstance(value, list) or not all(isinstance(word, str) for word in value):
            raise Invalid(f"{name} must be a string, words separated by commas, or an array of strings")
        if sum(map(len, value)) > WORDS_CHARACTERS_MAX:
            raise Invalid(f"{name} holds more than {WORDS_CHARACTERS_MAX} characters; give a few words")
        stripped = (_CONTROLS.sub(" ", word).strip() for word in value)
        return tuple(word for word in stripped if word)

    def number(self, name: str, most: int) -> int | None:
        """A whole number from 1 to `most`, or its digits; None where it is missing."""
        value = self._values.get(name)
        if value is None or value == "":
            return None
        if isinstance(value, str) and value.strip().isascii() and value.strip().isdigit() and len(value) < SHOWN_MAX:
            value = int(value)
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
            raise Invalid(f"{name} is {_shown(value)}; give a whole number from 1 to {most}")
        return value

    def choice(self, name: str, among: Sequence[str], default: str) -> str:
        """One of a few words, in singular or plural and any case."""
        value = self.optional_text(name).lower()
        if not value:
            return default
        for word in among:
            if value.rstrip("s") == word.rstrip("s"):
                return word
        near = get_close_matches(value[:SHOWN_MAX], among, 1, 0.6)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise Invalid(f"{name} is {_shown(value)}; give one of {', '.join(among)}{hint}")

    def object(self, name: str, of: str) -> dict[str, Any]:
        """An object, or its JSON text; {} where it is missing, null or blank. `of` names what it is for."""
        value = self._values.get(name)
        if isinstance(value, str):
            value = jsons.loads_object(value, f"the text in {name}") if value.strip() else {}
        if value is None:
            return {}
        if not isinstance(value, dict):
            raise Invalid(f"{name} is {jsons.type_name(value)}; give an object with the arguments of {_shown(of)}")
        return value


def fold(name: str) -> str:
    """Equal for `taskDescription`, `task_description` and `task-description`."""
    return name.replace("_", "").replace("-", "").lower()


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= SHOWN_MAX else f"{text[:SHOWN_MAX]}…"
