"""Signs of hedging that need no reference text: another reading beside the one that passes.

What a page says is unknown, so these bound hedging rather than exclude it, and leave alone what
honest pages have: numbered captions, columns of equal cells, series of similar formulas.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from rapidfuzz import fuzz

from olmrl.bench.document import ParsedPage
from olmrl.bench.math_case import MathCase
from olmrl.bench.table_case import TableCase
from olmrl.bench.text_cases import FootnoteCase, OrderCase
from olmrl.markup.tables import Table
from olmrl.markup.text import normalize

_READING = 78.0
"""Similarity, 0..100, that makes a text another reading of a needle."""
_LEAST_NEEDLE = 5
_NEAR = 40
"""Letters around a match that are searched for numbers in another reading."""
_LONG_NEEDLE = 12
_CONTEXT = 12
_MOST_MARKS = 3
_SAME_CELLS = 0.5
_LEAST_FORMULA = 5
_FORMULA_READING = 70.0
_NOT_LETTERS = re.compile(r"[\W_]+")


def _letters(text: str) -> str:
    return _NOT_LETTERS.sub("", text.lower())


def several_readings(needle: str, page: ParsedPage) -> bool:
    """Whether a text that contains a needle has another reading of it as well.

    Another word anywhere, or other digits nearby. What contains the needle is not another reading.
    """
    wanted = _letters(normalize(needle))
    if len(wanted) < _LEAST_NEEDLE:
        return False
    pieces = _letters(page.normal_text).split(wanted)
    digits = sum(map(str.isdigit, wanted)) * 2 > len(wanted)
    for index, piece in enumerate(pieces):
        if digits:
            head = piece[:_NEAR] if index else ""
            tail = piece[-_NEAR:] if index + 1 < len(pieces) else ""
            if _has_reading(wanted, head) or _has_reading(wanted, tail):
                return True
        elif _has_reading(wanted, piece):
            return True
    return False


def _has_reading(wanted: str, piece: str) -> bool:
    if len(piece) < len(wanted) - 2:
        return False
    found = fuzz.partial_ratio_alignment(wanted, piece, score_cutoff=_READING)
    if found is None:
        return False
    other = piece[found.dest_start : found.dest_end]
    # "chapter 3" beside "chapter 4" is a series, not a reading
    return _without_digits(other) != _without_digits(wanted) or wanted.isdigit()


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
    """Whether the cell passes in one of several tables that share most of their cells."""
    passing = {id(table) for table, cell in case.candidates(page) if case.has_all(table, cell)}
    tables = page.html_tables if case.ignore_markdown_tables else _all_tables(page)
    chosen = [table for table in tables if id(table) in passing]
    return any(
        _shared(mine, other) >= _SAME_CELLS
        for mine in chosen
        for other in tables
        if other is not mine
    )


def _all_tables(page: ParsedPage) -> list[Table]:
    return [*page.markdown_tables, *page.html_tables]


def _shared(one: Table, other: Table) -> float:
    """Share of the smaller table's cells that the other one has as well."""
    mine = Counter(text.strip() for text in one.normal_texts if text.strip())
    theirs = Counter(text.strip() for text in other.normal_texts if text.strip())
    return (mine & theirs).total() / max(1, min(mine.total(), theirs.total()))


def several_formulas(case: MathCase, page: ParsedPage, known: Sequence[str]) -> bool:
    """Whether similar formulas stand side by side, one of which no test knows."""
    wanted = _letters(case.math)
    if len(wanted) < _LEAST_FORMULA:
        return False
    likely = {_letters(formula) for formula in known}
    formulas = [_letters(f) for f in page.formulas(dollars=not case.ignore_dollar_delimited)]
    similar = [
        formula
        for formula in formulas
        if formula not in likely and fuzz.ratio(wanted, formula) >= _FORMULA_READING
    ]
    longest = max((len(f) for f in formulas if wanted in f), default=0)
    return len(similar) > 1 or longest > 4 * len(wanted) + 40


def many_marks(case: FootnoteCase, page: ParsedPage) -> bool:
    """Whether a footnote's mark is strewn over the page."""
    return len(case.marks(page)) > _MOST_MARKS
