"""One form of a word for the many in which it is written, in each script, and its stem where there is a rule for it.

A word is folded by what its readers take for the same: case, width and ligatures everywhere; accents in Latin and
Greek; vowel points, the forms of alef and the like in Arabic and Hebrew; ё in Cyrillic; decimal digits of all scripts.
It is stemmed (Snowball) by its script alone, Latin as English, Cyrillic as Russian: of another language that gives
wrong stems, but the same ones to a tool and to who asks for it.
"""

from __future__ import annotations

import re
import unicodedata
from functools import cache

import Stemmer

_ACCENTS = re.compile(r"[\u0300-\u036f]+")
_POINTS = (*range(0x0591, 0x05C8), *range(0x0610, 0x061B), *range(0x064B, 0x0660), 0x0670, *range(0x06D6, 0x06EE))
_UNSEEN = (0x00AD, *range(0x200B, 0x2010), 0x0640)
# Forms of alef, alef maksura, ta marbuta, Persian kaf and ya; ё; the last forms of Hebrew letters.
_ALIKE = str.maketrans("أإآٱىةکیёךםןףץ", "ااااي\u0647كيеכמנפצ", "".join(map(chr, (*_POINTS, *_UNSEEN))))

_STEMMED = (
    (0x0370, 0x03FF, "greek"),
    (0x0400, 0x052F, "russian"),
    (0x0530, 0x058F, "armenian"),
    (0x0600, 0x06FF, "arabic"),
    (0x0900, 0x097F, "hindi"),
    (0x0B80, 0x0BFF, "tamil"),
)


def folded(word: str) -> str:
    """Of a word in NFKC; "" where nothing is left of it."""
    if word.isascii():
        return word.lower()
    word = word.casefold().translate(_ALIKE)
    if word and word[0] < "\u0400":
        word = unicodedata.normalize("NFC", _ACCENTS.sub("", unicodedata.normalize("NFD", word)))
    return "".join(str(unicodedata.decimal(c)) if c.isdecimal() else c for c in word)


def stem(word: str) -> str:
    """Of a folded word; itself where there is no rule for its script."""
    if word.isascii():
        return str(_stemmer("english").stemWord(word)) if word.isalpha() else word
    first = ord(word[0])
    for low, high, language in _STEMMED:
        if low <= first <= high:
            return str(_stemmer(language).stemWord(word)) or word
    return word


@cache
def _stemmer(language: str) -> Stemmer.Stemmer:
    """Loaded when the first word of its script comes. Without its own cache, which is not safe between threads."""
    return Stemmer.Stemmer(language, 0)
