"""Invents the content of one page and draws it as a PDF.

A sheet is divided into rows of 28 points, the height of one merged patch of the model family at one
pixel per point. At the lowest difficulty words are also aligned to a 28-point grid, so that a tiny
model can learn to read within minutes. Higher difficulties remove these simplifications one by one.
"""

from __future__ import annotations

import io
import random
from dataclasses import dataclass

from reportlab.pdfbase.pdfmetrics import stringWidth
from reportlab.pdfgen.canvas import Canvas

CELL = 28
"""Points (and pixels) of one merged patch: 14-pixel patches, merged 2 x 2."""

_SHORT = """
moon blue bird fish lake wind rain snow fire gold road hill corn milk salt lamp book coin star
king ship sail rope wood iron bell drum song east west open late cold warm dark calm deep tree
sand coal mint pear plum goat wolf bear frog nest leaf seed root park town farm barn gate door
roof wall desk sofa coat shoe ring
"""
_LONG = """
island valley winter summer spring autumn bottle candle garden window letter bridge castle
forest market river stone green silver field bread sugar house paper clock night south
"""
SHORT_WORDS = tuple(_SHORT.split())
LONG_WORDS = tuple(_LONG.split())
RUNNING_HEADS = ("harbour gazette", "annals of trade")
"""One journal's heads of left and right pages. Few, so that a policy that keeps a head spells it
correctly and the absent test detects it."""


@dataclass(frozen=True)
class Style:
    """What pages of one difficulty look like. Probabilities are per page."""

    columns: int
    """Grid cells per row."""
    rows: int
    """Number of rows, including those of the running head and the footer."""
    words: tuple[str, ...]
    """Vocabulary of the pages."""
    grid: bool
    """Each word starts at a cell of its own; otherwise words are separated by a space."""
    heading: float
    running_head: float
    footer: float
    table: float
    two_columns: float
    bold: float
    footnote: float
    numbers: float
    """Probability that a table cell is a number."""
    table_rows: int
    jitter: float
    """Maximum shift of the whole text, in points."""

    @property
    def width(self) -> int:
        """Page width in points."""
        return self.columns * CELL

    @property
    def height(self) -> int:
        """Page height in points."""
        return self.rows * CELL


STYLES = {
    1: Style(5, 6, SHORT_WORDS[:48], True, 0.8, 0.7, 0.7, 0.45, 0.25, 0, 0, 0, 2, 0),
    2: Style(6, 8, SHORT_WORDS, True, 0.9, 0.7, 0.7, 0.4, 0.3, 0.4, 0.3, 0.3, 3, 0),
    3: Style(8, 10, SHORT_WORDS + LONG_WORDS, False, 0.9, 0.7, 0.7, 0.4, 0.3, 0.4, 0.3, 0.5, 4, 3),
}


@dataclass(frozen=True)
class Sheet:
    """The content of one page. Lines are tuples of words."""

    running_head: str | None
    footer: str | None
    """Page number line."""
    heading: tuple[str, ...]
    """Words of the heading; empty: none."""
    lines: tuple[tuple[str, ...], ...]
    """Lines of running text, across the whole width."""
    left: tuple[tuple[str, ...], ...]
    """Lines of the left column, if the page has two."""
    right: tuple[tuple[str, ...], ...]
    """Lines of the right column."""
    table: tuple[tuple[str, ...], ...]
    """Rows of cells; the first row is the heading. Empty: no table."""
    bold: str | None
    """The one word of the running text that is set in bold."""
    footnote: tuple[str, ...]
    """Words of footnote 1, whose mark follows the last word of `lines`; empty: none."""

    @property
    def words(self) -> list[str]:
        """All words of the body in reading order, without page furniture."""
        parts = [self.heading, *self.lines, *self.left, *self.right, *self.table, self.footnote]
        return [word for part in parts for word in part]


def invent(rng: random.Random, style: Style) -> Sheet:
    """Invent the content of a page. The words of a page are distinct, so order is well defined."""
    pool = list(style.words)
    rng.shuffle(pool)
    text_rows = style.rows - 2

    def take(count: int) -> tuple[str, ...]:
        return tuple(pool.pop() for _ in range(count))

    def take_cell() -> str:
        number = rng.random() < style.numbers
        return str(rng.randint(11, 99)) if number else pool.pop()

    heading = take(rng.randint(1, 2)) if rng.random() < style.heading else ()
    text_rows -= bool(heading)
    footnote = take(2) if rng.random() < style.footnote else ()
    text_rows -= bool(footnote)
    kind = rng.random()
    table: tuple[tuple[str, ...], ...] = ()
    left: tuple[tuple[str, ...], ...] = ()
    right: tuple[tuple[str, ...], ...] = ()
    if kind < style.table:
        height = rng.randint(2, min(style.table_rows, text_rows - 1))
        table = tuple((take_cell(), take_cell()) for _ in range(height))
        text_rows -= height
    elif kind < style.table + style.two_columns:
        height = rng.randint(2, min(4, text_rows - 1))
        side = (style.columns - 1) // 2
        left = tuple(take(side) for _ in range(height))
        right = tuple(take(side) for _ in range(height))
        text_rows -= height
    # with few rows, full lines and columns are not both needed, but a mark needs a line
    count = rng.randint(1, min(2, text_rows)) if not left or footnote else 0
    lines = tuple(take(rng.randint(2, style.columns - 1)) for _ in range(count))
    marked = [word for line in lines for word in line]
    return Sheet(
        running_head=rng.choice(RUNNING_HEADS) if rng.random() < style.running_head else None,
        footer=f"page {rng.randint(1, 40)} of 40" if rng.random() < style.footer else None,
        heading=heading,
        lines=lines,
        left=left,
        right=right,
        table=table,
        bold=rng.choice(marked) if marked and rng.random() < style.bold else None,
        footnote=footnote,
    )


class _Pen:
    """Writes words into rows of a canvas, from the top down."""

    def __init__(self, canvas: Canvas, style: Style, shift: tuple[float, float]) -> None:
        self.canvas = canvas
        self.style = style
        self.shift = shift
        self.row = 0

    def baseline(self) -> float:
        return self.style.height - self.row * CELL - 18 + self.shift[1]

    def write(
        self, words: tuple[str, ...], font: str, size: float, cell: int = 0, bold: str | None = None
    ) -> float:
        """Write words into the current row, starting at a cell; returns where the text ends."""
        x = end = cell * CELL + 2 + self.shift[0]
        for index, word in enumerate(words):
            face = "Courier-Bold" if word == bold else font
            at = x + index * CELL if self.style.grid else end
            self.canvas.setFont(face, size)
            self.canvas.drawString(at, self.baseline(), word)
            end = at + stringWidth(word, face, size) + (0 if self.style.grid else size * 0.5)
        return end


def draw(sheet: Sheet, style: Style, rng: random.Random) -> bytes:
    """Typeset a sheet as a one-page PDF of `style.width` x `style.height` points."""
    buffer = io.BytesIO()
    canvas = Canvas(buffer, pagesize=(style.width, style.height), invariant=1, pageCompression=0)
    shift = (rng.uniform(0, style.jitter), -rng.uniform(0, style.jitter))
    pen = _Pen(canvas, style, shift)
    body = "Courier-Bold" if style.bold == 0 else "Courier"
    size = CELL / 3 if style.grid else 8.0
    canvas.setLineWidth(0.7)
    if sheet.running_head:
        canvas.setFont("Times-Italic", 10)
        canvas.drawString(2, pen.baseline(), sheet.running_head)
        canvas.line(2, style.height - CELL + 5, style.width - 2, style.height - CELL + 5)
    pen.row = 1
    if sheet.heading:
        end = pen.write(sheet.heading, "Courier-Bold", size)
        canvas.rect(1, pen.baseline() - 5, max(end, CELL) - 1, 2, stroke=0, fill=1)
        pen.row += 1
    for line in sheet.lines:
        end = pen.write(line, body, size, bold=sheet.bold)
        if sheet.footnote and line is sheet.lines[-1]:
            canvas.setFont("Courier-Bold", size * 0.7)
            canvas.drawString(end + 1, pen.baseline() + size * 0.4, "1")
        pen.row += 1
    for left, right in zip(sheet.left, sheet.right, strict=True):
        pen.write(left, body, size)
        pen.write(right, body, size, cell=style.columns - len(right))
        pen.row += 1
    if sheet.table:
        _draw_table(sheet, pen, body, size)
    if sheet.footnote:
        pen.row = style.rows - 2
        canvas.line(2, pen.baseline() + 14, CELL * 2, pen.baseline() + 14)
        pen.write(("1", *sheet.footnote), body, size)
    if sheet.footer:
        canvas.setFont("Times-Italic", 10)
        pen.row = style.rows - 1
        canvas.drawCentredString(style.width / 2, pen.baseline() - 3, sheet.footer)
    canvas.showPage()
    canvas.save()
    return buffer.getvalue()


def _draw_table(sheet: Sheet, pen: _Pen, font: str, size: float) -> None:
    """Draw cells two grid cells wide, with rules around all of them."""
    canvas, top, height = pen.canvas, pen.baseline() + 16, len(sheet.table)
    width = len(sheet.table[0])
    left = pen.shift[0]
    for index in range(height + 1):
        y = top - index * CELL
        canvas.line(left, y, left + width * 2 * CELL, y)
    for index in range(width + 1):
        x = left + index * 2 * CELL
        canvas.line(x, top, x, top - height * CELL)
    for row in sheet.table:
        for index, word in enumerate(row):
            pen.write((word,), font, size, cell=2 * index)
        pen.row += 1
