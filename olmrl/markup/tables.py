"""Tables of a transcription as grids, from HTML and from markdown (docs/formats.md#tables).

`parse_html_tables` and `parse_markdown_tables` return `Table` objects: cells with their spans,
their neighbours and their headings. `compat=True` keeps every quirk of the public bench; the
default reads tables as a browser (HTML) or GitHub (markdown) would.

Input is untrusted: the grid slots, cells and cell text of one document are bounded, and reaching a
bound raises `WorkLimitError`.
"""

import re
from bisect import bisect_left
from collections import defaultdict
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import groupby, product
from typing import Literal, NamedTuple

from olmrl.markup.html_tree import SECTIONS, Document, Element, parse_tree
from olmrl.markup.text import WorkLimitError, normalize

_SUP_TAG = re.compile(r"<sup", re.IGNORECASE)
_TABLE_TAG = re.compile(r"<table", re.IGNORECASE)
_SPAN_COMPAT = re.compile(r"\s*[+-]?\d{1,9}\s*", re.ASCII)
_SPAN = re.compile(r"[ \t\n\f\r]*\+?0*(\d+)", re.ASCII)
_FORMATTING = re.compile(r"[-:|\s]*")
_PIPE = re.compile(r"(?<!\\)\|")

MAX_SPAN = {"rowspan": 65_534, "colspan": 1_000}
"""HTML's own bounds; a larger number means the bound."""

Direction = Literal["up", "down", "left", "right"]

MAX_SLOTS = 500_000
"""Maximum grid slots (a spanned cell fills several) of all tables in one document."""

MAX_CELL_CHARS = 5_000_000
"""Maximum characters of cell text in one document; text of nested tables counts repeatedly."""

MAX_VISITS = 2_000_000
"""Maximum HTML nodes visited for tables in one document; nested ones count repeatedly."""


@dataclass(eq=False)
class Cell:
    """One cell, positioned by its top left slot."""

    row: int
    col: int
    text: str
    is_heading: bool = False
    row_span: int = 1
    col_span: int = 1
    compat: bool = False

    @cached_property
    def normal_text(self) -> str:
        """The text as the bench compares it."""
        return _normal(self.text, self.compat)


@lru_cache(maxsize=16_384)
def _normal(text: str, compat: bool) -> str:
    return normalize(text, compat=compat)


class Table:
    """A grid of cells.

    Example: `[table.cells[0].text, [c.text for c in table.neighbors(table.cells[0], "right")]]`.
    """

    def __init__(self, cells: list[Cell], n_rows: int) -> None:
        slots = {
            (row, col): cell
            for cell in cells
            for row in range(cell.row, cell.row + cell.row_span)
            for col in range(cell.col, cell.col + cell.col_span)
        }
        self.cells = tuple(cells)
        """All cells, in reading order."""
        self.n_rows = n_rows
        self.n_cols = 1 + max((col for _, col in slots), default=-1)
        self._slots = slots
        self._neighbors: dict[tuple[Cell, Direction], tuple[Cell, ...]] = {}
        self._headings: dict[tuple[Cell, Direction], tuple[Cell, ...]] = {}

    @property
    def is_rectangular(self) -> bool:
        """True if no slot of the grid is empty."""
        return len(self._slots) == self.n_rows * self.n_cols

    @cached_property
    def normal_texts(self) -> list[str]:
        """The `normal_text` of each of `cells`."""
        return [cell.normal_text for cell in self.cells]

    def neighbors(self, cell: Cell, direction: Direction) -> tuple[Cell, ...]:
        """The nearest cell in a direction for each row (column) the cell spans, skipping holes."""
        key = (cell, direction)
        if key not in self._neighbors:
            self._neighbors[key] = tuple(dict.fromkeys(self._find_neighbors(cell, direction)))
        return self._neighbors[key]

    def _find_neighbors(self, cell: Cell, direction: Direction) -> list[Cell]:
        if direction in ("up", "down"):
            lines, position = self._rows_of_col, cell.row
            spanned, stop = range(cell.col, cell.col + cell.col_span), cell.row + cell.row_span
        else:
            lines, position = self._cols_of_row, cell.col
            spanned, stop = range(cell.row, cell.row + cell.row_span), cell.col + cell.col_span
        found = []
        for line in spanned:
            filled = lines[line]
            if direction in ("up", "left"):
                at = bisect_left(filled, position) - 1
            else:
                at = bisect_left(filled, stop)
            if 0 <= at < len(filled):
                slot = (filled[at], line) if lines is self._rows_of_col else (line, filled[at])
                found.append(self._slots[slot])
        return found

    @cached_property
    def _rows_of_col(self) -> dict[int, list[int]]:
        """The filled rows of each column, ascending."""
        filled: dict[int, list[int]] = defaultdict(list)
        for row, col in sorted(self._slots):
            filled[col].append(row)
        return filled

    @cached_property
    def _cols_of_row(self) -> dict[int, list[int]]:
        """The filled columns of each row, ascending."""
        filled: dict[int, list[int]] = defaultdict(list)
        for row, col in sorted(self._slots):
            filled[row].append(col)
        return filled

    def headings(self, cell: Cell, direction: Literal["up", "left"]) -> tuple[Cell, ...]:
        """The headings of a cell above it or to its left.

        All heading cells reached by walking in the direction; if there are none, the cells where
        the walk ends. The cell itself never counts.
        """
        key = (cell, direction)
        if key not in self._headings:
            self._headings[key] = self._find_headings(cell, direction)
        return self._headings[key]

    def _find_headings(self, cell: Cell, direction: Literal["up", "left"]) -> tuple[Cell, ...]:
        seen = {cell}
        queue = [cell]
        headings: list[Cell] = []
        ends: list[Cell] = []
        for current in queue:
            following = self.neighbors(current, direction)
            if current is not cell and current.is_heading:
                headings.append(current)
            if current is not cell and not following:
                ends.append(current)
            for step in following:
                if step not in seen:
                    seen.add(step)
                    queue.append(step)
        return tuple(headings or ends)


class _Entry(NamedTuple):
    """A cell before it is placed; a row span of 0 reaches to the last row."""

    text: str
    is_heading: bool
    row_span: int = 1
    col_span: int = 1


@dataclass
class _Budget:
    """What the tables of one document have used so far."""

    slots: int = 0
    chars: int = 0
    visits: int = 0

    def spend(self, *, slots: int = 0, chars: int = 0, visits: int = 0) -> None:
        self.slots += slots
        self.chars += chars
        self.visits += visits
        if self.slots > MAX_SLOTS or self.chars > MAX_CELL_CHARS or self.visits > MAX_VISITS:
            raise WorkLimitError("the tables of one page are too large or nested too deeply")


def parse_html_tables(text: str, *, compat: bool = False) -> list[Table]:
    """Finds the HTML tables of a document, nested ones included, in document order.

    Args:
        text: Any markup.
        compat: Missing tags are not implied (``<td>a<td>b`` is one cell), the rows of a nested
            table also count as rows of the outer one, spans are what Python reads as a number and
            reach as far as they say, and raised text is like any other.

    Raises:
        WorkLimitError: More than `MAX_SLOTS`, `MAX_CELL_CHARS`, `MAX_VISITS` or the parser allow.
        MarkupError: In compat, a malformed declaration.
    """
    if not _TABLE_TAG.search(text):
        return []
    document = parse_tree(text, implied_ends=not compat)
    raise_sup = not compat and _SUP_TAG.search(text) is not None
    budget = _Budget()
    tables = (
        _build_html_table(document, node, budget, compat, raise_sup)
        for node in document.nodes
        if isinstance(node, Element) and node.name == "table"
    )
    return [table for table in tables if table is not None]


def _build_html_table(
    document: Document, table: Element, budget: _Budget, compat: bool, raise_sup: bool
) -> Table | None:
    budget.spend(visits=table.end - table.index)
    rows: list[list[_Entry]] = []
    sections: list[int] = []
    inner_end = head_end = section = section_end = 0
    for element in document.descendants(table):
        if element.name == "table" and not compat:
            inner_end = max(inner_end, element.end)
        if element.index < inner_end:
            continue
        if element.name in SECTIONS:
            section, section_end = element.index, element.end
            head_end = element.end if element.name == "thead" else head_end
        if element.name == "tr":
            sections.append(section if element.index < section_end else 0)
            is_head = element.index < head_end
            budget.spend(visits=element.end - element.index)
            rows.append(_entries(document, element, is_head, compat, raise_sup))
    if not any(rows):
        return None
    if not compat:
        rows = _within_sections(rows, sections)
    return _fill_grid(rows, budget, compat)


def _entries(
    document: Document, row: Element, is_head: bool, compat: bool, raise_sup: bool
) -> list[_Entry]:
    entries = []
    for child in document.children(row):
        if child.name in ("td", "th"):
            text = document.text(child, raise_sup=raise_sup).strip()
            spans = (1, 1)
            if child.attributes:
                spans = (_span(child, "rowspan", 0, compat), _span(child, "colspan", 1, compat))
            entries.append(_Entry(text, child.name == "th" or is_head, *spans))
    return entries


def _span(cell: Element, name: str, least: int, compat: bool) -> int:
    """A span attribute; anything invalid or smaller than `least` means 1."""
    value = cell.attributes.get(name)
    if value is None:
        return 1
    if compat:
        span = int(value) if _SPAN_COMPAT.fullmatch(value) else 1
    else:
        found = _SPAN.match(value)  # "2px" and "2.0" are 2
        span = min(int(found[1][:6]), MAX_SPAN[name]) if found else 1
    return span if span >= least else 1


def _within_sections(rows: list[list[_Entry]], sections: list[int]) -> list[list[_Entry]]:
    """Rows whose cells reach no further than the section (thead, tbody, tfoot) of their row."""
    last = {section: row for row, section in enumerate(sections)}
    return [
        [
            entry
            if entry.row_span == 1
            else entry._replace(
                row_span=min(entry.row_span or MAX_SLOTS, last[sections[row]] - row + 1)
            )
            for entry in entries
        ]
        for row, entries in enumerate(rows)
    ]


def _fill_grid(rows: list[list[_Entry]], budget: _Budget, compat: bool) -> Table:
    """Places cells as HTML does: each takes the next slot of its row that no span covers."""
    cells: list[Cell] = []
    taken: set[tuple[int, int]] = set()
    n_rows = len(rows)
    for row, entries in enumerate(rows):
        col = 0
        for text, is_heading, row_span, col_span in entries:
            while (row, col) in taken:
                col += 1
            row_span = row_span or len(rows) - row
            budget.spend(slots=row_span * col_span, chars=len(text))
            cells.append(Cell(row, col, text, is_heading, row_span, col_span, compat))
            if row_span > 1 or col_span > 1:
                taken.update(product(range(row, row + row_span), range(col, col + col_span)))
            n_rows = max(n_rows, row + row_span)
            col += col_span
    return Table(cells, n_rows)


def parse_markdown_tables(text: str, *, compat: bool = False) -> list[Table]:
    """Finds pipe tables: runs of at least two lines with ``|``.

    The first row and the first column are the headings. Lines that only have dashes and colons
    are formatting and have no cells.

    Args:
        text: Any markdown.
        compat: Every ``|`` divides cells, even ``\\|``, and one empty cell is dropped at each end
            of a line whether or not there is a pipe (genuinely empty cells vanish).

    Raises:
        WorkLimitError: More than `MAX_SLOTS` cells or `MAX_CELL_CHARS`.
    """
    if "|" not in text:
        return []
    budget = _Budget()
    split = _split_rows_compat if compat else _split_rows
    tables = []
    for has_pipe, run in groupby(text.split("\n"), key=lambda line: "|" in line):
        lines = list(run)
        if has_pipe and len(lines) >= 2:
            rows = split([line for line in lines if not _FORMATTING.fullmatch(line)])
            if any(rows):
                tables.append(_fill_grid(_with_headings(rows), budget, compat))
    return tables


def _with_headings(rows: list[list[str]]) -> list[list[_Entry]]:
    return [
        [_Entry(text, row == 0 or col == 0) for col, text in enumerate(texts)]
        for row, texts in enumerate(rows)
    ]


def _split_rows_compat(lines: list[str]) -> list[list[str]]:
    rows = []
    for line in lines:
        cells = [cell.strip() for cell in line.split("|")]
        cells = cells[1:] if not cells[0] else cells
        rows.append(cells[:-1] if cells and not cells[-1] else cells)
    return rows


def _split_rows(lines: list[str]) -> list[list[str]]:
    """Cells between unescaped pipes, without the outer pair of pipes.

    A row may omit the outer pipes. An empty cell at an end is then an outer pipe only if the first
    row has that pipe too, or if more cells remain than the first row has.
    """
    rows: list[list[str]] = []
    has_outer = (True, True)
    for line in lines:
        cells = [cell.replace("\\|", "|").strip() for cell in _PIPE.split(line)]
        n_cols = len(rows[0]) if rows else 0
        is_empty = (not cells[0], not cells[-1])
        if is_empty[0] and (has_outer[0] or len(cells) > n_cols):
            cells = cells[1:]
        if cells and is_empty[1] and (has_outer[1] or len(cells) > n_cols):
            cells = cells[:-1]
        has_outer = has_outer if rows else is_empty
        rows.append(cells)
    return rows
