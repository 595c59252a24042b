"""Signs of hedging by marks (headings, emphasis, notes) that need no reference (see `hedges`)."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import cast

from olmrl.bench.document import ParsedPage
from olmrl.bench.text_cases import CONTEXT_CHARS, FootnoteCase, FormatCase
from olmrl.markup.formatting import Kind
from olmrl.markup.text import normalize
from olmrl.rewards.hedges import (
    LONG_NEEDLE,
    PLACE,
    SAME_PLACE,
    WORD,
    has_reading,
    letters_of,
    only_glued,
)

_MOST_MARKS = 3
_LONGEST_MARK = 1.25
_MARK_SLACK = 2
"""Letters of a heading or an emphasis, for those of the text that it should have: a number more."""
_LISTED_WORDS = 3
_LISTED_HEADINGS = 3
"""Words of a heading, and how many such ones in a row make a list of guesses."""
_HEADING = re.compile(r"[ \t]{0,3}#{1,6}(?=[ \t])|[ \t]*<h[1-6]>", re.IGNORECASE)


def repeats_mark(case: FormatCase, page: ParsedPage) -> bool:
    """Whether a long text of a heading or an emphasis is there several times, or a mark on it
    holds much else as well."""
    wanted = letters_of(normalize(case.text))
    if len(wanted) >= LONG_NEEDLE and letters_of(page.normal_text).count(wanted) > 1:
        return True
    if case.format == "heading" and _is_listed_heading(case.text, page.text):
        return True
    most = _LONGEST_MARK * len(wanted) + _MARK_SLACK
    pieces = [p for p in page.formatted(cast("Kind", case.format)) if wanted in letters_of(p)]
    return bool(pieces) and all(
        len(letters_of(piece)) > most or only_glued(case.text, piece) for piece in pieces
    )


def _is_listed_heading(needle: str, text: str) -> bool:
    """Whether a heading of few words stands only among such headings, with no text between."""
    wanted = tuple(WORD.findall(normalize(needle).lower()))
    if len(wanted) > _LISTED_WORDS:
        return False
    where = [run for run in _short_headings(text) if wanted in run]
    return bool(where) and all(len(run) >= _LISTED_HEADINGS for run in where)


@lru_cache(maxsize=8)
def _short_headings(text: str) -> tuple[tuple[tuple[str, ...], ...], ...]:
    """The words of headings that follow each other, of one level and of few words."""
    found: list[tuple[tuple[str, ...], ...]] = []
    level = ""
    for line in filter(str.strip, text.split("\n")):
        heading = _HEADING.match(line)
        words = tuple(WORD.findall(normalize(line[heading.end() :]).lower())) if heading else ()
        mark = heading[0].strip() if heading and len(words) <= _LISTED_WORDS else ""
        if mark and mark == level:
            found[-1] = (*found[-1], words)
        elif mark:
            found.append((words,))
        level = mark
    return tuple(found)


def many_marks(case: FootnoteCase, page: ParsedPage) -> bool:
    """Whether a footnote's mark is strewn over the page."""
    return len(case.marks(page)) > _MOST_MARKS


def only_glued_at_marks(case: FootnoteCase, page: ParsedPage) -> bool:
    """Whether a footnote's words have letters directly beside them, wherever they are at a mark."""
    before, after = case.appears_before_marker or "", case.appears_after_marker or ""
    ahead: list[str] = []
    behind: list[str] = []
    for start, end in case.marks(page):
        text = page.text[max(0, start - CONTEXT_CHARS) : start]
        ahead.append(text[_place(text, -2 * len(letters_of(before))) :])
        text = page.text[end : end + CONTEXT_CHARS]
        behind.append(text[: _place(text, 2 * len(letters_of(after)))])
    return any(
        only_glued(_spaced(words), _spaced("\n".join(texts)))
        for words, texts in ((before, ahead), (after, behind))
    )


def _spaced(text: str) -> str:
    """The words of a text, as footnote tests compare them: without what is between them."""
    return " ".join(WORD.findall(normalize(text).lower()))


def _place(text: str, number: int) -> int:
    """Where so many letters of a text begin (a negative number: from its end) or end."""
    places = [at for at, char in enumerate(text) if char.isalnum()]
    if abs(number) >= len(places):
        return 0 if number < 0 else len(text)
    return places[number]


def marks_a_copy(case: FootnoteCase, page: ParsedPage) -> bool:
    """Whether what stands before a footnote's mark stands elsewhere as well, without the mark."""
    for start, end in case.marks(page):
        before = letters_of(page.text[max(0, start - 2 * PLACE) : start])[-PLACE // 2 :]
        if len(before) < PLACE // 2:
            continue
        rest = (letters_of(page.text[: max(0, start - 2 * PLACE)]), letters_of(page.text[end:]))
        if any(has_reading(before, piece, SAME_PLACE) or before in piece for piece in rest):
            return True
    return False
