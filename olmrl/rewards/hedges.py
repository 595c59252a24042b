"""Signs of hedging that need no reference text: another reading beside the one that passes.

What a page says is unknown, so these bound hedging rather than exclude it, and leave alone what
honest pages have: numbered captions, columns of equal cells, series of similar formulas.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from itertools import pairwise
from typing import cast
from zlib import crc32

from rapidfuzz import fuzz
from rapidfuzz.distance import Hamming, Levenshtein

from olmrl.bench.document import ParsedPage
from olmrl.bench.math_case import MathCase
from olmrl.bench.table_case import TableCase
from olmrl.bench.text_cases import AbsentCase, FootnoteCase, FormatCase, OrderCase
from olmrl.markup.formatting import Kind
from olmrl.markup.tables import Cell, Table
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
_PLACE = 48
"""Letters of a short needle with the text around it that make a place of a page."""
_SAME_PLACE = 80.0
_EDGE = 70.0
"""Similarity of a word beside a needle that makes it a reading of the needle's first or last."""
_CELL = 60.0
_STYLED = re.compile(
    r"\\(?:left|right|[bB]igg?[lr]?|displaystyle|textstyle|limits|nolimits|mathrm|mathbf|mathit"
    r"|boldsymbol|bm|text|textbf|textrm|operatorname|quad|qquad)(?![a-zA-Z])|\\[,;:! ]"
)
_SYMBOL = re.compile(r"\\[A-Za-z]+|[^\s{}\\~&$]")
_FRACTION = re.compile(r"\\[dt]frac(?![a-zA-Z])")
_COMMAND_CODE, _COMMAND_CODES = 0xE000, 6000
"""Where the characters for commands begin, and how many there are: all for private use."""
_EDGE_WORD = 4
_LEAST_WORD = 6
_LETTERS_PER_SLIP = 4
"""Letters of a word for each letter that another reading of it has wrong."""
_MOST_MARKS = 3
_SAME_CELLS = 0.5
_LEAST_SHARED = 6
"""Share of a smaller table's cells, and letters of a row, that make two of them readings of one."""
_LEAST_FORMULA = 5
_FORMULA_READING = 78.0
_LONGEST_FORMULA = 2
_FORMULA_SLACK = 10
_LONGEST_MARK = 1.25
_MARK_SLACK = 2
"""Letters of a heading or an emphasis, for those of the text that it should have: a number more."""
_NOT_LETTERS = re.compile(r"[\W_]+")
_WORD = re.compile(r"[^\W_]+")
_GLUED_BEFORE = re.compile(r"(?<![^\W_])[^\W_]{1,2}\Z")
_GLUED_AFTER = re.compile(r"[^\W_]{1,2}(?![^\W_])")


@lru_cache(maxsize=2048)
def _letters(text: str) -> str:
    return _NOT_LETTERS.sub("", text.lower())


def several_readings(needle: str, page: ParsedPage, known: Sequence[str]) -> bool:
    """Whether a text that contains a needle has another reading of it as well.

    Of a long needle, or of a place where a short one stands, anywhere; of a word if it is one as
    long; of a short needle or of its first or last word nearby. What contains the needle is not
    another reading.

    Args:
        needle: What a test looks for.
        page: The transcription.
        known: What all tests of the page look for: these are no readings.
    """
    wanted = _letters(normalize(needle))
    if len(wanted) < _LEAST_NEEDLE:
        return False
    text = _letters(page.normal_text)
    pieces = text.split(wanted)
    if len(pieces) == 1 and _doubles_letters(wanted, text):
        return True
    if len(wanted) >= _SENTENCE and not _mostly_digits(wanted):
        return any(_has_reading(wanted, piece, _LONG_READING) for piece in pieces)
    if len(wanted) >= _LONG_NEEDLE and any(
        _has_reading(wanted, piece, _LONG_READING) for piece in pieces
    ):
        return True
    reach = len(wanted) + _BESIDE
    beside = [piece[-reach:] for piece in pieces[:-1]] + [piece[:reach] for piece in pieces[1:]]
    if any(_has_reading(wanted, piece, _READING) for piece in beside):
        return True
    return (
        _word_has_readings(needle, page, known)
        or _edges_have_readings(needle, page)
        or _place_recurs(wanted, pieces)
    )


def _doubles_letters(wanted: str, text: str) -> bool:
    """Whether the passage most like a needle has letters besides its own: then it may have two
    readings of one, which tests that allow for errors mind less than one that is wrong."""
    found = fuzz.partial_ratio_alignment(wanted, text, score_cutoff=_READING)
    if found is None or len(text) < len(wanted):
        return False
    edits = Levenshtein.opcodes(wanted, text[found.dest_start : found.dest_end])
    return any(edit.tag == "insert" and 0 < edit.src_start < len(wanted) for edit in edits)


def _word_has_readings(needle: str, page: ParsedPage, known: Sequence[str]) -> bool:
    """Whether another word is as long as a needle of one word, and has few other letters."""
    words = _WORD.findall(needle.lower())
    wanted = words[0] if len(words) == 1 else ""
    if len(wanted) < _LEAST_WORD or not wanted.isalpha():
        return False
    most = len(wanted) // _LETTERS_PER_SLIP
    others = {word for word in set(_WORD.findall(page.lower_text)) if len(word) == len(wanted)}
    return any(
        0 < Hamming.distance(wanted, other) <= most and not any(other in k.lower() for k in known)
        for other in others
    )


def _edges_have_readings(needle: str, page: ParsedPage) -> bool:
    """Whether a word right before or after a needle is a reading of its first or last word."""
    words = _WORD.findall(needle.lower())
    if not words:
        return False
    text, wanted = page.lower_text, normalize(needle).lower().strip()
    for at in _starts(wanted, text):
        before = _WORD.findall(text[max(0, at - 2 * _CONTEXT) : at])[-2:]
        after = _WORD.findall(text[at + len(wanted) :][: 2 * _CONTEXT])[:2]
        if _is_reading_of(words[0], before) or _is_reading_of(words[-1], after):
            return True
    return False


def _starts(wanted: str, text: str) -> list[int]:
    return [match.start() for match in re.finditer(re.escape(wanted), text)] if wanted else []


def only_glued(needle: str, text: str) -> bool:
    """Whether a letter or two stand directly beside a needle, wherever a text has it."""
    wanted, text = normalize(needle).lower().strip(), text.lower()
    starts = _starts(wanted, text)
    return bool(starts) and all(
        _GLUED_BEFORE.search(text, max(0, at - 3), at) or _GLUED_AFTER.match(text, at + len(wanted))
        for at in starts
    )


def _is_reading_of(word: str, others: Sequence[str]) -> bool:
    return len(word) >= _EDGE_WORD and any(
        other != word and len(other) >= _EDGE_WORD and fuzz.ratio(word, other) >= _EDGE
        for other in others
    )


def _place_recurs(wanted: str, pieces: Sequence[str]) -> bool:
    """Whether a needle has a place like its own elsewhere, where something else stands."""
    around = max(_CONTEXT, (_PLACE - len(wanted)) // 2)
    for before, after in pairwise(pieces):
        place = before[-around:] + wanted + after[:around]
        if len(place) < _PLACE - 2:
            continue
        rest = [before[:-around], after[around:]]
        rest += [piece for piece in pieces if piece is not before and piece is not after]
        if any(_has_reading(place, piece, _SAME_PLACE) for piece in rest):
            return True
    return False


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
    found = [(table, cell) for table, cell in case.candidates(page) if case.has_all(table, cell)]
    if found and all(_row_recurs(*each) or _row_is_paired(*each) for each in found):
        return True
    passing = {id(table) for table, _ in found}
    tables = page.html_tables if case.ignore_markdown_tables else _all_tables(page)
    return any(
        _SAME_CELLS <= _shared(mine, other) < 1.0
        for mine in tables
        for other in tables
        if id(mine) in passing and id(other) not in passing
    )


def _row_recurs(table: Table, cell: Cell) -> bool:
    """Whether another row has half of the texts of a cell's row, and readings of the others."""
    rows: dict[int, list[str]] = defaultdict(list)
    for other in table.cells:
        rows[other.row].append(other.normal_text.strip())
    mine = rows.pop(cell.row)
    return any(_are_readings(mine, theirs) for theirs in rows.values() if len(theirs) == len(mine))


def _row_is_paired(table: Table, cell: Cell) -> bool:
    """Whether a row has each cell twice, in the same or another reading."""
    row = [c.normal_text.strip() for c in table.cells if c.row == cell.row]
    pairs = list(zip(row[::2], row[1::2], strict=False))
    return len(pairs) > 1 and all(a == b or fuzz.ratio(a, b) >= _CELL for a, b in pairs)


def _are_readings(mine: Sequence[str], theirs: Sequence[str]) -> bool:
    differ = [(a, b) for a, b in zip(mine, theirs, strict=True) if a != b]
    shared = sum(len(a) for a, b in zip(mine, theirs, strict=True) if a == b)
    if not 0 < 2 * len(differ) <= len(mine) or shared < _LEAST_SHARED:
        return False
    return all(len(a) > 2 and fuzz.ratio(a, b) >= _CELL and not _is_series(a, b) for a, b in differ)


def _is_series(one: str, other: str) -> bool:
    """Whether two texts differ in their numbers only: `chapter 3` and `chapter 4`."""
    bare = _without_digits(one)
    return bare == _without_digits(other) and any(map(str.isalpha, bare))


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
    wanted = symbols(case.math)
    if len(_letters(case.math)) < _LEAST_FORMULA:
        return False
    others = [other for other in map(symbols, known) if other != wanted]
    readings = set()
    for formula in page.formulas(dollars=not case.ignore_dollar_delimited):
        mine = symbols(formula)
        if _has_more(mine, wanted, others):
            return True
        near = fuzz.ratio(wanted, mine)
        if near >= _FORMULA_READING and all(fuzz.ratio(other, mine) < near for other in others):
            readings.add(mine)
    return len(readings) > 1


def _has_more(mine: str, wanted: str, others: Sequence[str]) -> bool:
    """Whether a formula has another reading of one beside it or in it, or much else."""
    if wanted in mine:
        for other in others:
            mine = mine.replace(other, "") if wanted not in other else mine
        if len(mine) > _LONGEST_FORMULA * len(wanted) + _FORMULA_SLACK:
            return True
        rest = mine.split(wanted, 1)
        return any(
            2 * len(piece) > len(wanted) and fuzz.partial_ratio(wanted, piece) >= _FORMULA_READING
            for piece in rest
        )
    if fuzz.ratio(wanted, mine) < _FORMULA_READING:
        return False
    edits = Levenshtein.opcodes(wanted, mine)
    return any(
        edit.tag == "insert"
        and 0 < edit.src_start < len(wanted)
        and mine[edit.dest_start : edit.dest_end].isalnum()
        for edit in edits
    )


@lru_cache(maxsize=2048)
def symbols(latex: str) -> str:
    """The symbols of a formula, one character each; grouping, spacing and styles left out."""
    found = _SYMBOL.findall(_STYLED.sub(" ", _FRACTION.sub(r"\\frac", latex)))
    return "".join(
        name if len(name) == 1 else chr(_COMMAND_CODE + crc32(name.encode()) % _COMMAND_CODES)
        for name in found
    )


def repeats_mark(case: FormatCase, page: ParsedPage) -> bool:
    """Whether a long text of a heading or an emphasis is there several times, or a mark on it
    holds much else as well."""
    wanted = _letters(normalize(case.text))
    if len(wanted) >= _LONG_NEEDLE and _letters(page.normal_text).count(wanted) > 1:
        return True
    most = _LONGEST_MARK * len(wanted) + _MARK_SLACK
    pieces = [p for p in page.formatted(cast("Kind", case.format)) if wanted in _letters(p)]
    return bool(pieces) and all(
        len(_letters(piece)) > most or only_glued(case.text, piece) for piece in pieces
    )


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


def many_marks(case: FootnoteCase, page: ParsedPage) -> bool:
    """Whether a footnote's mark is strewn over the page."""
    return len(case.marks(page)) > _MOST_MARKS


def marks_a_copy(case: FootnoteCase, page: ParsedPage) -> bool:
    """Whether what stands before a footnote's mark stands elsewhere as well, without the mark."""
    for start, end in case.marks(page):
        before = _letters(page.text[max(0, start - 2 * _PLACE) : start])[-_PLACE // 2 :]
        if len(before) < _PLACE // 2:
            continue
        rest = (_letters(page.text[: max(0, start - 2 * _PLACE)]), _letters(page.text[end:]))
        if any(_has_reading(before, piece, _SAME_PLACE) or before in piece for piece in rest):
            return True
    return False
