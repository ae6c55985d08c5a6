"""Descriptions as people and generators write them, made plain: markup out, docstring sections apart, in sentences.

Pure and total; linear in the text.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator

SENTENCE_MIN = 12
PROSE_MIN = 12
"""A description that is all sections is taken whole."""

_TAG = re.compile(
    r"</?(?:a|b|big|blockquote|br|code|dd|div|dl|dt|em|h[1-6]|hr|i|img|kbd|li|ol|p|pre|small|span|strong|sub|sup|"
    r"table|tbody|td|th|thead|tr|u|ul)(?:\s[^<>\n]{0,300})?/?>",
    re.IGNORECASE,
)
_LINK = re.compile(r"!?\[([^\]\n]{1,200})\]\([^()\s]{1,500}\)")
_FENCE = re.compile(r"^[ \t]*(?:```|~~~)[^\n]*$", re.MULTILINE)
_EMPHASIS = re.compile(r"\*\*|(?<!\w)__(?=\w)|(?<=\w)__(?!\w)|`")
_LINE_MARK = re.compile(r"^[ \t]*(?:#{1,6}[ \t]+|>[ \t]*|[-*+•–][ \t]+|\d{1,2}[.)][ \t]+)", re.MULTILINE)
_SECTION = re.compile(
    r"(?:^|(?<=[.!?。！？]))[ \t]*"
    r"(?:args|arguments|parameters?|params|inputs?|returns?|return format|raises|yields|outputs?|"
    r"responses?(?: format)?|requests?|examples?|example usage|usage|syntax|see also|references?|"
    r"参数|返回值?|示例|例子|用法|引数|戻り値|"
    r"параметры|возвращает|пример)"
    r"[ \t]*[:：]",
    re.IGNORECASE | re.MULTILINE,
)
_SPACES = re.compile(r"\s+")
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+|(?<=[。！？])|\n+")
# What hosts are told, not what the tool does.
_ADVICE = re.compile(
    r"\W*(?:important|notes?|warning|caution|prerequisites?|tips?|hint|remember|todo|deprecated|attention|注意|重要)\b",
    re.IGNORECASE,
)
_QUOTES = {'"': '"', "'": "'", "“": "”", "「": "」"}


def spaced(text: str) -> str:
    """On one line, with single spaces."""
    return _SPACES.sub(" ", text).strip()


def plain(text: str) -> str:
    """Without HTML tags, markdown and a pair of quotes around the whole; line breaks stay."""
    text = _TAG.sub(" ", html.unescape(text))
    text = _LINK.sub(r"\1", _FENCE.sub("", text))
    text = _LINE_MARK.sub("", _EMPHASIS.sub("", text)).strip()
    if len(text) > 1 and _QUOTES.get(text[0]) == text[-1] and text[0] not in text[1:-1]:
        text = text[1:-1].strip()
    return text


def sections(text: str) -> tuple[str, str]:
    """(what the tool does, the sections of a docstring that follow: arguments, results, examples)."""
    for found in _SECTION.finditer(text):
        if found.start() >= PROSE_MIN:
            return text[: found.start()].strip(), text[found.start() :].strip()
    return text, ""


def sentences(text: str) -> Iterator[str]:
    """Those that end with a full stop, in any script, or with the line."""
    for part in _SENTENCE_END.split(text):
        if sentence := spaced(part):
            yield sentence


def telling(text: str, count: int) -> list[str]:
    """The first `count` sentences that tell what the tool does, long enough to mean something alone."""
    found = [s for s in sentences(text) if len(s) >= SENTENCE_MIN or (not s.isascii() and len(s) >= SENTENCE_MIN // 2)]
    told = [s for s in found if not _ADVICE.match(s)]
    return (told or found)[:count]
