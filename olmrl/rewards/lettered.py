"""A text and its letters: what two transcriptions are compared by.

Letters are compared without case, white space, punctuation and tags, and in their plain form: what
the tests take for the same must be the same here. So a ligature is its letters, and a raised digit
a digit.
"""

from __future__ import annotations

import html
import re
import unicodedata
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from olmrl.markup.formulas import formula_spans
from olmrl.markup.letters import fold
from olmrl.markup.visible import ENTITY, TAG

SLIP = 2
"""Most letters inside a word that are a typing error."""
_LONGEST_FORMULA = 2000
"""Characters from which a formula is no formula."""
_PARAGRAPH_END = re.compile(r"\n[ \t]*\n")
_DELIMITERS = (("\\(", "\\)"), ("\\[", "\\]"), ("$$", "$$"))
_PRICE = re.compile(r"\$(?<!\$\$)(?= ?[\d\u00a3\u20ac\u00a5])")
_STYLE = re.compile(
    r"\\(?:left|right|[bB]igg?[lr]?|[hv]?phantom|displaystyle|textstyle|limits|nolimits|mathrm"
    r"|mathbf|mathit|boldsymbol|bm|text|textbf|textrm|operatorname|quad|qquad|tag)(?![a-zA-Z])"
)

Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]
Span = tuple[int, int]
"""Start and end."""

_SIGNS = "+\u2030\u2031\u2020\u2021\u00a7\u00b6"
"""Punctuation, or symbols of ASCII, that a reader does not take for markup."""


def _is_letter(char: str) -> bool:
    """Whether a character says something: also vowel signs and symbols, but no punctuation."""
    if char.isalnum() or char in _SIGNS:
        return True
    return char > "\x7f" and unicodedata.category(char)[0] in "MS"


class _Plain(dict[str, str]):
    """The letters of a character in their plain form, found when they are first asked for."""

    def __missing__(self, char: str) -> str:
        letters = char
        if not char.isascii():
            plain = fold(unicodedata.normalize("NFKC", char))
            letters = "".join(c for c in plain if _is_letter(c))
        self[char] = letters = letters.lower()
        return letters


_PLAIN = _Plain()
_IS_LETTER = np.array([_is_letter(chr(code)) for code in range(0x10000)])


@dataclass(frozen=True)
class Lettered:
    """A text and its letters and digits, lower case, with their places."""

    text: str
    key: str
    places: Ints
    """Index in `text` of each character of `key`; the letters of a ligature have the same."""

    @classmethod
    def of(cls, text: str) -> Lettered:
        """Find the letters of a text, tags and styling commands of LaTeX left out."""
        codes = codes_of(text)
        is_letter = _IS_LETTER[np.minimum(codes, 0xFFFF)]
        beyond = np.flatnonzero(codes > 0xFFFF)
        is_letter[beyond] = [_is_letter(chr(code)) for code in codes[beyond]]
        for pattern, mark in ((TAG, "<"), (_STYLE, "\\")):
            if mark in text:
                for match in pattern.finditer(text):
                    is_letter[match.start() : match.end()] = False
        for match in ENTITY.finditer(text) if "&" in text else ():
            if len(html.unescape(match[0])) == 1:  # of "&ltword;" the word is text
                is_letter[match.start() : match.end()] = False
        is_letter[_prices(text)] = True
        places = np.flatnonzero(is_letter)
        key = text_of(codes[places])
        if text.isascii():
            return cls(text, key.lower(), places)
        plain = [_PLAIN[char] for char in key]
        return cls(text, "".join(plain), np.repeat(places, list(map(len, plain))))

    @property
    def n_written(self) -> int:
        """Number of characters that have letters: a ligature is one."""
        return int(np.count_nonzero(np.diff(self.places))) + bool(len(self.places))

    @cached_property
    def _edges(self) -> Ints:
        """Where each word begins in `key`, and the last one ends: letters that stand side by side
        in the text are a word."""
        cuts = np.flatnonzero(np.diff(self.places) > 1) + 1
        return np.concatenate(([0], cuts, [len(self.places)]))

    def words_between(self, start: int, end: int) -> list[tuple[int, int]]:
        """The words that lie between two places of `key`."""
        first = self._edges.searchsorted(start)
        last = self._edges.searchsorted(end, "right")
        return list(pairwise(self._edges[first:last].tolist()))

    def words_around(self, at: int, less: int, more: int) -> tuple[int, int]:
        """Where the words begin and end that are so many from that of a letter."""
        own = int(self._edges[:-1].searchsorted(at, "right")) - 1
        first, last = max(0, own + less), min(len(self._edges) - 2, own + more)
        return int(self._edges[first]), int(self._edges[last + 1])

    def glued(self, start: int, end: int) -> tuple[bool, bool]:
        """Whether a letter stands directly before a run of letters, and directly after it."""
        return self.joined(start - 1), self.joined(end - 1)

    def joined(self, at: int) -> bool:
        """Whether a letter and the next stand side by side."""
        if not 0 <= at < len(self.places) - 1:
            return False
        return int(self.places[at + 1] - self.places[at]) <= 1

    @cached_property
    def _cuts(self) -> frozenset[int]:
        return frozenset(self._paragraphs)

    def begins_paragraph(self, at: int) -> bool:
        """Whether a paragraph begins at a letter, or ends before it."""
        return at in self._cuts

    @cached_property
    def _paragraphs(self) -> list[int]:
        """Where each paragraph begins and the last one ends, in `key`."""
        ends = [match.end() for match in _PARAGRAPH_END.finditer(self.text)]
        cuts = np.searchsorted(self.places, np.array(ends, np.int64)).tolist()
        return sorted({0, *cuts, len(self.key)})

    def paragraphs_between(self, start: int, end: int) -> list[tuple[int, int]]:
        """A run of letters, cut at the ends of paragraphs."""
        cuts = self._paragraphs
        inner = cuts[bisect_right(cuts, start) : bisect_left(cuts, end)]
        return list(pairwise([start, *inner, end]))

    def paragraphs_from(self, at: int, step: int) -> Iterator[Span]:
        """The paragraph of a letter, and all after it (step 1) or before it (step -1)."""
        number = bisect_right(self._paragraphs, at) - 1
        while 0 <= number < len(self._paragraphs) - 1:
            yield self._paragraphs[number], self._paragraphs[number + 1]
            number += step

    def is_paragraph(self, start: int, end: int) -> bool:
        """Whether letters are a paragraph of their own."""
        cuts = self._paragraphs
        at = bisect_left(cuts, start)
        return at + 1 < len(cuts) and cuts[at] == start and cuts[at + 1] == end

    def pieces(self, start: int, end: int) -> list[tuple[int, int]]:
        """The words, or parts of words, of a run of letters."""
        cuts = np.flatnonzero(np.diff(self.places[start:end]) > 1) + 1 + start
        found = pairwise([start, *cuts.tolist(), end])
        return [
            (first, last)
            for first, last in found
            if last - first > SLIP or is_word(self, first, last)
        ]

    @cached_property
    def _delimited(self) -> list[tuple[int, int]]:
        return _formula_spans(self.text)

    @cached_property
    def no_formulas(self) -> list[tuple[int, int]]:
        """Where what is written as one formula is too long for one, in `text`."""
        return [span for span in self._delimited if not _is_formula(self.text, *span)]

    @cached_property
    def formulas(self) -> list[tuple[int, int, int, int]]:
        """Start and end of each formula in `text` and in `key`."""
        if "\\" not in self.text and "$$" not in self.text:
            return []
        spans = [span for span in self._delimited if _is_formula(self.text, *span)]
        ends = np.searchsorted(self.places, np.array(spans, np.int64).reshape(-1, 2))
        return [(*span, int(e[0]), int(e[1])) for span, e in zip(spans, ends, strict=True)]


def _is_formula(text: str, start: int, end: int) -> bool:
    """Whether delimited text is short, and within a paragraph."""
    return end - start <= _LONGEST_FORMULA and not _PARAGRAPH_END.search(text, start, end)


def _formula_spans(text: str) -> list[tuple[int, int]]:
    """Start and end of each formula, delimiters included; none overlap."""
    found = []
    for opening, closing in _DELIMITERS:
        start = text.find(opening)
        while start >= 0:
            end = text.find(closing, start + 2)
            if end < 0:
                break
            found.append((start, end + 2))
            start = text.find(opening, end + 2)
    spans: list[tuple[int, int]] = []
    for start, end in sorted(found):
        if not spans or start >= spans[-1][1]:
            spans.append((start, end))
    return spans


def _prices(text: str) -> list[int]:
    """Where dollar signs are of amounts of money, not of formulas."""
    prices = {match.start() for match in _PRICE.finditer(text)} if "$" in text else set()
    for span in formula_spans(text) if prices else ():
        prices -= {span.start, span.inside_start - 1, span.inside_end, span.end - 1}
    return sorted(prices)


def codes_of(text: str) -> NDArray[np.uint32]:
    """The code points of a text."""
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)


def text_of(codes: NDArray[np.uint32]) -> str:
    """The text of code points."""
    return codes.tobytes().decode("utf-32-le", "surrogatepass")


def runs(flags: Bools) -> list[tuple[int, int]]:
    """Start and end of each run of true flags."""
    if not len(flags):
        return []
    edges = (np.flatnonzero(flags[1:] != flags[:-1]) + 1).tolist()
    if flags[0]:
        edges.insert(0, 0)
    if flags[-1]:
        edges.append(len(flags))
    return list(zip(edges[::2], edges[1::2], strict=True))


def share(flags: Bools) -> float:
    """Share of flags that are true; of some."""
    return float(np.count_nonzero(flags) / len(flags))


def all_of(flags: Bools) -> bool:
    """Whether all flags are true; faster than `all` of few."""
    return int(np.count_nonzero(flags)) == len(flags)


def is_word(lettered: Lettered, start: int, end: int) -> bool:
    """Whether letters are whole words: none is beside them in the text."""
    places, text = lettered.places, lettered.text
    first, last = int(places[start]), int(places[end - 1])
    before = first > 0 and _is_letter(text[first - 1]) and _PLAIN[text[first - 1]]
    after = last + 1 < len(text) and _is_letter(text[last + 1]) and _PLAIN[text[last + 1]]
    return not before and not after
