"""Letters of a text in a form in which a text and the text layer of its page can be compared.

A PDF's layer tells letters in the order in which they are set, as a reader of PDFs makes sense of
it: spaces and hyphens come and go, accents may be letters of their own, ligatures one letter or
several, and the letters of Arabic and Hebrew words come from either end.
"""

from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Iterator

_NOT_TEXT = re.compile(r"[\W_]+")
_TATWEEL = "\u0640"
"""Lengthens an Arabic word, and says nothing."""
_JAMO = ("\u1160", "\u11ff")
"""Vowels and endings of Korean syllables that are written in parts."""


@functools.lru_cache(maxsize=1 << 16)
def key(text: str) -> str:
    """Letters and digits in lower case, composed, compatibility forms (ligatures, widths) resolved.

    Letters of words that are read from the right are sorted: their order in a layer means nothing.
    """
    if text.isascii():
        return _NOT_TEXT.sub("", text).lower()
    return "".join(letter for letter, _ in letters_of(text))


def letters_of(text: str) -> list[tuple[str, int]]:
    """The letters of `key`, each with the index of the character it comes from."""
    found: list[tuple[str, int]] = []
    word: list[tuple[str, int]] = []
    for cluster, place in _clusters(text):
        if cluster.isascii() and not word:  # most letters of most pages
            if cluster.isalnum():
                found.append((cluster.lower(), place))
            continue
        letters = _NOT_TEXT.sub("", unicodedata.normalize("NFKC", cluster).lower())
        if unicodedata.bidirectional(cluster[0]) in ("R", "AL") and letters:
            word += [(letter, place) for letter in letters]
            continue
        found += sorted(word)
        word = []
        found += [(letter, place) for letter in letters]
    return found + sorted(word)


def is_right_to_left(text: str) -> bool:
    """Whether most letters are read from the right."""
    letters = [char for char in text if char.isalpha()]
    right = sum(unicodedata.bidirectional(char) in ("R", "AL") for char in letters)
    return 2 * right > len(letters)


def _clusters(text: str) -> Iterator[tuple[str, int]]:
    """Letters with the accents that follow them; what only joins or directs them is left out."""
    cluster, place = "", 0
    for index, char in enumerate(text):
        if char == _TATWEEL or unicodedata.category(char) == "Cf":
            continue
        if cluster and (unicodedata.combining(char) or _JAMO[0] <= char <= _JAMO[1]):
            cluster += char
            continue
        if cluster:
            yield cluster, place
        cluster, place = char, index
    if cluster:
        yield cluster, place
