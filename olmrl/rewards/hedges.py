"""Signs of hedging that need no reference text: another reading beside the one that passes.

What a page says is unknown, so these bound hedging rather than exclude it, and leave alone what
honest pages have: numbered captions, columns of equal cells, series of similar formulas.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from rapidfuzz import fuzz

from olmrl.bench.document import ParsedPage
from olmrl.bench.math_case import MathCase
from olmrl.bench.table_case import TableCase
from olmrl.bench.text_cases import AbsentCase, FootnoteCase, FormatCase, OrderCase
from olmrl.markup.tables import Table
from olmrl.markup.text import normalize

_READING = 78.0
_LONG_READING = 85.0
"""Similarity, 0..100, that makes a text another reading of a short or a long needle."""
_LEAST_NEEDLE = 5
_BESIDE = 6
"""Letters that may stand between two readings of a short needle."""
_LONG_NEEDLE = 12
_SENTENCE = 24
_CONTEXT = 12
_MOST_MARKS = 3
_SAME_CELLS = 0.5
_LEAST_FORMULA = 5
_FORMULA_READING = 78.0
_LONGEST_FORMULA = 2
_FORMULA_SLACK = 10
_NOT_LETTERS = re.compile(r"[\W_]+")


def _letters(text: str) -> str:
    return _NOT_LETTERS.sub("", text.lower())


def several_readings(needle: str, page: ParsedPage) -> bool:
    """Whether a text that contains a needle has another reading of it as well.

    Of a long needle anywhere, of a short one nearby. What contains the needle is not another
    reading.
    """
    wanted = _letters(normalize(needle))
    if len(wanted) < _LEAST_NEEDLE:
        return False
    pieces = _letters(page.normal_text).split(wanted)
    if len(wanted) >= _SENTENCE and not _mostly_digits(wanted):
        return any(_has_reading(wanted, piece, _LONG_READING) for piece in pieces)
    reach = len(wanted) + _BESIDE
    beside = [piece[-reach:] for piece in pieces[:-1]] + [piece[:reach] for piece in pieces[1:]]
    return any(_has_reading(wanted, piece, _READING) for piece in beside)


def _mostly_digits(text: str) -> bool:
    return 2 * sum(map(str.isdigit, text)) > len(text)


def _has_reading(wanted: str, piece: str, least: float) -> bool:
    if len(piece) < len(wanted) - 2:
        return False
    found = fuzz.partial_ratio_alignment(wanted, piece, score_cutoff=least)
    if found is None:
        return False
    other = piece[found.dest_start : found.dest_end]
    # "chapter 3" beside "chapter 4" is a series, not a reading
    return _without_digits(other) != _without_digits(wanted)


def _without_digits(text: str) -> str:
    return "".join(char for char in text if not char.isdigit())


def says_again(case: OrderCase, page: ParsedPage) -> bool:
    """Whether a text in question occurs twice within the same words, or a long one at all."""
    text = _letters(page.normal_text)
    for needle in (case.before, case.after):
        wanted = _letters(normalize(needle))
        starts = [match.start() for match in re.finditer(re.escape(wanted), text)] if wanted else []
        if len(starts) > 1 and len(wanted) >= _LONG_NEEDLE:
            return True
        ends = [start + len(wanted) for start in starts]
        before = Counter(text[max(0, start - _CONTEXT) : start] for start in starts)
        after = Counter(text[end : end + _CONTEXT] for end in ends)
        if any(n > 1 and len(t) == _CONTEXT for c in (before, after) for t, n in c.items()):
            return True
    return False


def repeats_tables(case: TableCase, page: ParsedPage) -> bool:
    """Whether the cell passes in one of several tables that share cells and differ in others.

    A table that is wholly a part of another one is no other reading of it.
    """
    passing = {id(table) for table, cell in case.candidates(page) if case.has_all(table, cell)}
    tables = page.html_tables if case.ignore_markdown_tables else _all_tables(page)
    return any(
        _SAME_CELLS <= _shared(mine, other) < 1.0
        for mine in tables
        for other in tables
        if id(mine) in passing and id(other) not in passing
    )


def _all_tables(page: ParsedPage) -> list[Table]:
    return [*page.markdown_tables, *page.html_tables]


def _shared(one: Table, other: Table) -> float:
    """Share of the smaller table's cells that the other one has as well."""
    mine = Counter(text.strip() for text in one.normal_texts if text.strip())
    theirs = Counter(text.strip() for text in other.normal_texts if text.strip())
    return (mine & theirs).total() / max(1, min(mine.total(), theirs.total()))


def several_formulas(case: MathCase, page: ParsedPage, known: Sequence[str]) -> bool:
    """Whether several formulas are readings of one test's, or one formula holds much besides.

    Args:
        case: The test.
        page: The transcription.
        known: The formulas of all tests of the page: what resembles another one more is its own.
    """
    wanted = _letters(case.math)
    if len(wanted) < _LEAST_FORMULA:
        return False
    others = [other for other in map(_letters, known) if other != wanted]
    readings = set()
    for formula in page.formulas(dollars=not case.ignore_dollar_delimited):
        mine = _letters(formula)
        if wanted in mine and len(mine) > _LONGEST_FORMULA * len(wanted) + _FORMULA_SLACK:
            return True
        near = fuzz.ratio(wanted, mine)
        if near >= _FORMULA_READING and all(fuzz.ratio(other, mine) < near for other in others):
            readings.add("".join(formula.split()))
    return len(readings) > 1


def repeats_mark(case: FormatCase, page: ParsedPage) -> bool:
    """Whether the text of a heading or an emphasis is there several times, if it is a long one."""
    wanted = _letters(normalize(case.text))
    return len(wanted) >= _LONG_NEEDLE and _letters(page.normal_text).count(wanted) > 1


def near_end(case: AbsentCase, page: ParsedPage, needles: Sequence[str]) -> AbsentCase:
    """A test of the page's first or last characters, taken to where its known text begins or ends.

    Filler before a running head does not move it out of sight.
    """
    text = page.normal_text
    if not (case.first_n or case.last_n):
        return case
    found = [(at, at + len(n)) for n in needles if n and (at := text.find(n)) >= 0]
    if not found:
        return case
    first, last = min(at for at, _ in found), max(end for _, end in found)
    return replace(
        case,
        first_n=case.first_n and max(case.first_n, first),
        last_n=case.last_n and max(case.last_n, len(text) - last),
    )


def spells_out(case: AbsentCase, page: ParsedPage) -> bool:
    """Whether a text is there with other marks between its letters."""
    wanted = _letters(normalize(case.text))
    anywhere = not (case.first_n or case.last_n)
    return anywhere and len(wanted) >= _LONG_NEEDLE and wanted in _letters(page.normal_text)


def many_marks(case: FootnoteCase, page: ParsedPage) -> bool:
    """Whether a footnote's mark is strewn over the page."""
    return len(case.marks(page)) > _MOST_MARKS
