"""Words for lexical search: any script, identifiers split and whole, inflection removed, usual words left out."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

from router.documents import HUMPS
from router.scripts import folded, stem

TOKENS = 2
"""Version of how text becomes words: what was made of others is made again."""
WORD_MAX = 40
CACHED = 50_000

# Scripts written without spaces: Thai, Lao, Myanmar, Khmer, Hiragana, Katakana, Han, Hangul (syllables).
_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff"
# What a word goes on through though it is no letter: accents, points, vowel signs of India, joiners, soft hyphens.
_MARKS = (
    "\u00ad\u0300-\u036f\u0483-\u0487\u0591-\u05c7\u0610-\u061a\u064b-\u065f\u0670\u06d6-\u06ed"
    "\u0900-\u0963\u0966-\u0dff\u200b-\u200f"
)
_RUN = re.compile(rf"([\w{_MARKS}]+)(?:['’]s\b)?")
_PART = re.compile(rf"[{_UNSPACED}]+|(?:[^\W_{_UNSPACED}]|[{_MARKS}])+")
_UNSPACED_RUN = re.compile(rf"[{_UNSPACED}]")

_STOPWORDS = """
a an and any are as at be been but by can could did do does for from had has have he her here him his how i if
in into is it its just let me my of on or our please she should so some such than that the their them then there
these they this those to too us want was we were what when where which who whom will with would you your
"""
STOPWORDS = frozenset(_STOPWORDS.split())

Pieces = tuple[str, ...]
_known: dict[str, tuple[Pieces, Pieces]] = {}


def words(text: str) -> list[str]:
    """Stems in order, repeats included. Unspaced scripts give overlapping pairs of characters."""
    return [word for run in _runs(text) for word in run[0]]


def words_and_wholes(text: str) -> list[str]:
    """As `words`; an identifier of several words (`getUserName`, `user_name`, `YouTube`) is there as one, too."""
    return [word for run in _runs(text) for word in run[1]]


def _runs(text: str) -> Iterator[tuple[Pieces, Pieces]]:
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text)
    for run in _RUN.findall(text):
        yield _known.get(run) or _learn(run)


def _learn(run: str) -> tuple[Pieces, Pieces]:
    """The words of a run, and these with the whole, kept for when it comes again; at 50,000 all are forgotten."""
    pieces: list[str] = []
    spaced: list[str] = []
    for part in _PART.findall(run):
        if _UNSPACED_RUN.match(part):
            pieces += (part[i : i + 2] for i in range(max(1, len(part) - 1)))
        else:
            spaced += (word for hump in HUMPS.sub(" ", part).split() if (word := folded(hump)))
    pieces += (stem(word[:WORD_MAX]) for word in spaced if word not in STOPWORDS)
    whole = "".join(spaced)
    parts = tuple(pieces)
    both = (parts, (*parts, stem(whole)) if len(spaced) > 1 and len(whole) <= WORD_MAX else parts)
    if len(run) <= WORD_MAX:
        if len(_known) >= CACHED:
            _known.clear()
        _known[run] = both
    return both
