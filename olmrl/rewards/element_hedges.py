"""Signs of hedging in tables and formulas that need no reference text (see `hedges`)."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from functools import lru_cache
from itertools import combinations
from zlib import crc32

from rapidfuzz import fuzz
from rapidfuzz.distance import Levenshtein

from olmrl.bench.document import ParsedPage
from olmrl.bench.math_case import MathCase
from olmrl.bench.table_case import TableCase
from olmrl.markup.tables import Cell, Table
from olmrl.rewards.hedges import letters_of, without_digits

_CELL = 60.0
"""Similarity, 0..100, of two cells that makes one another reading of the other."""
_STYLED = re.compile(
    r"\\(?:left|right|[bB]igg?[lr]?|displaystyle|textstyle|limits|nolimits|mathrm|mathbf|mathit"
    r"|boldsymbol|bm|text|textbf|textrm|operatorname|quad|qquad)(?![a-zA-Z])|\\[,;:! ]"
)
_DECORATION = re.compile(
    r"\\(?:(?:over|under)(?:line|brace|bracket)|boxed|fbox|[bx]?cancel|sout|[hv]?phantom"
    r"|wide(?:hat|tilde|check)|over(?:right|left)arrow)(?![a-zA-Z])"
)
"""Commands that may go around a whole formula, which then is a reading of what it was before."""
_SYMBOL = re.compile(r"\\[A-Za-z]+|[^\s{}\\~&$]")
_FRACTION = re.compile(r"\\[dt]frac(?![a-zA-Z])")
_COMMAND_CODE, _COMMAND_CODES = 0xE000, 6000
"""Where the characters for commands begin, and how many there are: all for private use."""
_SAME_CELLS = 0.5
_LEAST_SHARED = 6
"""Share of a smaller table's cells, and letters of a row, that make two of them readings of one."""
_TELLING = 3
"""Letters of a cell that tells something if another column has it, too."""
_MOST_CELLS = 5000
"""Cells of a table whose columns and rows are compared."""
_MOST_LENGTHS = 4
"""Lengths of rows, the shortest, that are looked for within longer ones."""
_LEAST_FORMULA = 5
_FORMULA_READING = 78.0
_LONGEST_FORMULA = 2
_FORMULA_SLACK = 10


def repeats_tables(case: TableCase, page: ParsedPage) -> bool:
    """Whether the cell passes in one of several tables that share cells and differ in others.

    A table that is wholly a part of another one is no other reading of it.
    """
    found = [(table, cell) for table, cell in case.candidates(page) if case.has_all(table, cell)]
    if found and all(
        _row_recurs(*each)
        or _row_is_paired(*each)
        or _columns_recur(each[0])
        or _is_alone_among_copies(*each)
        or (case.top_heading and _headings_recur(each[0]))
        for each in found
    ):
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
    """Whether another row has half of the texts of a cell's row, and readings of the others.

    So for the half of a row: a row may hold another one beside its own cells.
    """
    rows = _rows(table)
    whole = [(list(_texts(row)), cell in row) for row in rows]
    halves = [(list(_texts(half)), cell in half) for row in rows for half in _halves(row)]
    return _recurs(whole) or _recurs(halves)


def _rows(table: Table) -> list[list[Cell]]:
    rows: dict[int, list[Cell]] = defaultdict(list)
    for cell in table.cells:
        rows[cell.row].append(cell)
    return list(rows.values())


def _texts(cells: Sequence[Cell]) -> tuple[str, ...]:
    return tuple(cell.normal_text.strip() for cell in cells)


def _headings_recur(table: Table) -> bool:
    """Whether a row of headings is there again, and another row of headings besides."""
    rows = [row for row in _rows(table) if len(row) > 1 and all(c.is_heading for c in row)]
    count = Counter(map(_texts, rows))
    return 1 < len(count) < count.total()


def _is_alone_among_copies(table: Table, cell: Cell) -> bool:
    """Whether a table holds a copy of itself, in which the row of a cell is another one.

    Half of its rows are there again then, two at least that say something. A row that is there
    twice has one reading.
    """
    copied = _copied_rows(table)
    if not copied:
        return False
    return _texts([other for other in table.cells if other.row == cell.row]) not in copied


@lru_cache(maxsize=64)
def _copied_rows(table: Table) -> frozenset[tuple[str, ...]]:
    """The rows that are there again, or within a longer one; none unless they are half of all.

    Of rows with two cells or more that say something.
    """
    if len(table.cells) > _MOST_CELLS:
        return frozenset()
    rows = map(_texts, _rows(table))
    count = Counter(row for row in rows if len(row) > 1 and sum(map(len, row)) >= _LEAST_SHARED)
    copied = {row for row, number in count.items() if number > 1}
    lengths = sorted({len(row) for row in count})[:_MOST_LENGTHS]
    for row in count:
        for length in lengths:
            if length < len(row):
                pieces = {row[at : at + length] for at in range(len(row) - length + 1)}
                within = pieces & count.keys()
                copied |= within | ({row} if within else set())
    half = 2 * sum(count[row] for row in copied) >= count.total()
    return frozenset(copied if len(copied) > 1 and half else ())


def _recurs(rows: Sequence[tuple[list[str], bool]]) -> bool:
    """Whether one of the rows that have a cell is a reading of one that has not."""
    return any(
        _are_readings(mine, theirs) if len(theirs) == len(mine) else _holds_row(mine, theirs)
        for mine, has_cell in rows
        if has_cell
        for theirs, has_it_too in rows
        if not has_it_too
    )


def _holds_row(mine: Sequence[str], theirs: Sequence[str]) -> bool:
    """`_are_readings` for rows of unlike length, wherever the longer one has more cells."""
    shorter, longer = sorted((mine, theirs), key=len)
    same = Counter(shorter) & Counter(longer)
    if 2 * same.total() < len(shorter) or sum(map(len, same.elements())) < _LEAST_SHARED:
        return False
    differ = list((Counter(shorter) - same).elements())
    rest = list((Counter(longer) - same).elements())
    return bool(differ) and all(
        len(a) > 2 and any(fuzz.ratio(a, b) >= _CELL and not _is_series(a, b) for b in rest)
        for a in differ
    )


def _halves(row: list[Cell]) -> list[list[Cell]]:
    middle = len(row) // 2
    return [row[:middle], row[middle:]] if middle > 1 and len(row) == 2 * middle else []


def _row_is_paired(table: Table, cell: Cell) -> bool:
    """Whether a row has each cell twice, in the same or another reading."""
    row = [c.normal_text.strip() for c in table.cells if c.row == cell.row]
    pairs = list(zip(row[::2], row[1::2], strict=False))
    if len(pairs) < 2 or len(set(row[::2])) < 2:
        return False
    return all(a == b or fuzz.ratio(a, b) >= _CELL for a, b in pairs)


@lru_cache(maxsize=64)
def _columns_recur(table: Table) -> bool:
    """Whether two columns have the same texts in half of their rows, and readings in the others.

    Two rows at least must say something, and not the same: columns of ticks are equal as well.
    """
    columns: dict[int, dict[int, str]] = defaultdict(dict)
    if len(table.cells) > _MOST_CELLS:
        return False
    for cell in table.cells:
        columns[cell.col][cell.row] = cell.normal_text.strip()
    return any(_is_copy(one, other) for one, other in combinations(columns.values(), 2))


def _is_copy(one: dict[int, str], other: dict[int, str]) -> bool:
    pairs = [(text, other[row]) for row, text in one.items() if row in other]
    same = [a for a, b in pairs if a == b]
    if 2 * len(same) < len(pairs) or len({a for a in same if len(a) >= _TELLING}) < 2:
        return False
    return all(a == b or fuzz.ratio(a, b) >= _CELL for a, b in pairs)


def _are_readings(mine: Sequence[str], theirs: Sequence[str]) -> bool:
    differ = [(a, b) for a, b in zip(mine, theirs, strict=True) if a != b]
    shared = sum(len(a) for a, b in zip(mine, theirs, strict=True) if a == b)
    if not 0 < 2 * len(differ) <= len(mine) or shared < _LEAST_SHARED:
        return False
    return all(len(a) > 2 and fuzz.ratio(a, b) >= _CELL and not _is_series(a, b) for a, b in differ)


def _is_series(one: str, other: str) -> bool:
    """Whether two texts differ in their numbers only: `chapter 3` and `chapter 4`."""
    bare = without_digits(one)
    return bare == without_digits(other) and any(map(str.isalpha, bare))


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
    if len(letters_of(case.math)) < _LEAST_FORMULA:
        return False
    others = [other for other in map(symbols, known) if other != wanted]
    readings = set()
    for formula in page.formulas(dollars=not case.ignore_dollar_delimited):
        mine = symbols(_DECORATION.sub(lambda m: m[0] if m[0] in case.math else " ", formula))
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
