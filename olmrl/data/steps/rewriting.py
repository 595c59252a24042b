r"""Steps that rewrite the text: brackets, bold and italic, tables (docs/formats.md#data-steps)."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import ClassVar, Literal

from pydantic.dataclasses import dataclass

from olmrl.data.steps.sample import STRICT, Dropped, Sample, Step, StepContext, dropped
from olmrl.markup.enclosed import Enclosed, Pair
from olmrl.markup.formulas import formula_spans
from olmrl.markup.html_tree import MarkupError
from olmrl.markup.tables import Table, parse_html_tables
from olmrl.markup.text import WorkLimitError

_BRACKETS = {"$$": ("\\[", "\\]"), "$": ("\\(", "\\)")}

MATH = Enclosed(
    Pair(r"\$\$", ".*?", r"\$\$"),
    Pair(r"\\\(", ".*?", r"\\\)"),
    Pair(r"\\\[", ".*?", r"\\\]"),
    flags=re.DOTALL,
)
r"""Formulas in the delimiters that training text uses: `$$`, `\( \)`, `\[ \]`."""

TABLE = Enclosed(Pair(r"<table\b", "[^>]*>.*?", r"</table\s*>"), flags=re.DOTALL | re.IGNORECASE)
"""HTML tables, up to their first end tag."""

_LONGEST_CELL = 50


def with_text(sample: Sample, text: str) -> Sample:
    """The sample with another body."""
    assert sample.truth is not None
    return replace(sample, truth=replace(sample.truth, natural_text=text))


def text_of(sample: Sample) -> str | None:
    """The body, or None if there is no truth or no text."""
    return sample.truth.natural_text if sample.truth else None


@dataclass(frozen=True, config=STRICT)
class LatexBracketNormalizer(Step):
    r"""Writes `$$x$$` as `\[x\]` and `$x$` as `\(x\)`.

    What is a formula is decided as the bench does (docs/formats.md#formulas): prices are none.
    """

    needs: ClassVar[tuple[str, ...]] = ("truth",)

    def __call__(self, sample: Sample, context: StepContext) -> Sample:
        """Change the text."""
        text = text_of(sample)
        if text is None:
            return sample
        kept: list[str] = []
        at = 0
        for span in formula_spans(text):
            brackets = _BRACKETS.get(text[span.start : span.inside_start])
            if brackets is not None:
                inside = text[span.inside_start : span.inside_end]
                kept += (text[at : span.start], brackets[0], inside, brackets[1])
                at = span.end
        return with_text(sample, "".join(kept) + text[at:])


@dataclass(frozen=True, config=STRICT)
class ReformatLatexBoldItalic(Step):
    r"""Writes `\textbf{x}` as `**x**` and `\textit{x}` as `*x*` outside formulas."""

    needs: ClassVar[tuple[str, ...]] = ("truth",)

    def __call__(self, sample: Sample, context: StepContext) -> Sample:
        """Change the text."""
        text = text_of(sample)
        if text is None:
            return sample
        bold = _unwrap(text, "\\textbf{", "**")
        return with_text(sample, _unwrap(bold, "\\textit{", "*"))


def _unwrap(text: str, command: str, mark: str) -> str:
    """Replace a command with marks around its argument; unbalanced ones are left alone."""
    formulas = MATH.finditer(text)
    formula = next(formulas, None)
    marks: list[tuple[int, int]] = []
    opened: list[tuple[int, int] | None] = []
    """Braces that are open: what to replace of a command, None for others."""
    for token in re.finditer(rf"{re.escape(command)}|\\.|[{{}}]", text, re.DOTALL):
        while formula is not None and formula.end() <= token.start():
            formula = next(formulas, None)
        outside = formula is None or token.start() < formula.start()
        if token[0] == command:
            opened.append(token.span() if outside else None)
        elif token[0] == "{":
            opened.append(None)
        elif token[0] == "}" and opened:
            command_span = opened.pop()
            if command_span is not None:
                marks += (command_span, token.span())
    pieces: list[str] = []
    at = 0
    for start, end in sorted(marks):
        pieces += (text[at:start], mark)
        at = end
    return "".join(pieces) + text[at:]


@dataclass(frozen=True, config=STRICT)
class TableTransformation(Step):
    """Notes the size of each HTML table, or a sample row, inside its markup."""

    needs: ClassVar[tuple[str, ...]] = ("truth",)

    transformation: Literal["annotate_dims", "firstrowpreview"]
    """Attributes data-totalrows and data-totalcols, or a comment with one full row."""

    def __call__(self, sample: Sample, context: StepContext) -> Sample | Dropped:
        """Change the text."""
        text = text_of(sample)
        if text is None:
            return sample
        try:
            return with_text(sample, TABLE.sub(self._annotate, text))
        except (WorkLimitError, MarkupError):
            return dropped(sample, self, "unreadable HTML table")

    def _annotate(self, match: re.Match[str]) -> str:
        markup = match[0]
        tables = parse_html_tables(markup)
        end = markup.index(">")
        opening, rest = markup[:end], markup[end:]
        if not tables or not tables[0].cells:
            return markup
        if self.transformation == "firstrowpreview":
            return f"{opening}>{_row_preview(tables[0])}{rest[1:]}"
        if "data-totalrows" in opening or "data-totalcols" in opening:
            return markup
        rows, columns = tables[0].n_rows, tables[0].n_cols
        return f'{opening} data-totalrows="{rows}" data-totalcols="{columns}"{rest}'


def _row_preview(table: Table) -> str:
    """A comment with the first row that has a cell of its own in every column."""
    for row in range(table.n_rows):
        cells = [cell for cell in table.cells if cell.row == row]
        if len(cells) == table.n_cols:
            texts = (f"Column {k}: {_short(cell.text)}" for k, cell in enumerate(cells, start=1))
            return f"<!-- Sample row ({row + 1}): {', '.join(texts)} -->"
    return ""


def _short(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= _LONGEST_CELL else text[: _LONGEST_CELL - 3] + "..."
