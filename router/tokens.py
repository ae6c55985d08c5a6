"""Words for lexical search: any script, names split, English inflection removed."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from functools import lru_cache

import Stemmer

from router.documents import HUMPS

TOKENS = 1
"""Version of how text becomes words: what was made of others is made again."""
WORD_MAX = 40
STEMS_CACHED = 50_000

# Scripts written without spaces: Han, Hiragana, Katakana, Hangul (syllables), Thai, Lao, Khmer, Myanmar.
_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff"
_WORD = re.compile(rf"[{_UNSPACED}]+|[^\W_{_UNSPACED}]+")
_UNSPACED_RUN = re.compile(rf"[{_UNSPACED}]")
_POSSESSIVE = re.compile(r"(?<=\w)['’]s\b")
# Without its own cache, which is not safe between threads; `stem` keeps one.
_stemmer = Stemmer.Stemmer("english", 0)

_STOPWORDS = """
a an and any are as at be been but by can could did do does for from had has have he her here him his how i if
in into is it its just let me my of on or our please she should so some such than that the their them then there
these they this those to too us want was we were what when where which who whom will with would you your
"""
STOPWORDS = frozenset(_STOPWORDS.split())


def words(text: str) -> Iterator[str]:
    """Stems in order, repeats included. Unspaced scripts give overlapping pairs of characters."""
    text = _POSSESSIVE.sub("", unicodedata.normalize("NFKC", text))
    for match in _WORD.finditer(HUMPS.sub(" ", text)):
        word = match.group().casefold()
        if _UNSPACED_RUN.match(word):
            yield from (word[i : i + 2] for i in range(max(1, len(word) - 1)))
        elif word not in STOPWORDS:
            yield stem(word[:WORD_MAX])


@lru_cache(maxsize=STEMS_CACHED)
def stem(word: str) -> str:
    return str(_stemmer.stemWord(word)) if word.isascii() and word.isalpha() else word
