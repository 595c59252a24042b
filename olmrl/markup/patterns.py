"""Regular expressions that `re` searches for quickly.

`re` skips to the characters that a match can begin with only if each of the outer alternatives of
an expression begins with a character as such: what must stand before it is looked for after it, as
in `--(?<!---)`, and `x+` is written `xx*`.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable


def one_of(words: Iterable[str]) -> str:
    """An expression for one of some words, whose first letters are tried once each.

    The caller says what follows a word: of two that begin alike, either may be found.
    """
    groups = itertools.groupby(sorted(words), key=lambda word: word[0])
    return f"(?:{'|'.join(_beginning(first, [*group]) for first, group in groups)})"


def _beginning(first: str, words: list[str]) -> str:
    return f"{first}(?:{'|'.join(word[1:] for word in words)})" if len(words) > 1 else words[0]
