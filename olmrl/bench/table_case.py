"""The table test: a cell and what surrounds it (docs/formats.md#tables)."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from olmrl.bench.case import Case, Verdict
from olmrl.bench.document import ParsedPage
from olmrl.markup.tables import Cell, Direction, Table
from olmrl.markup.text import MAX_TEXT_CHARS, find_similar, normalize

_NEIGHBORS: dict[str, Direction] = {"up": "up", "down": "down", "left": "left", "right": "right"}
_HEADINGS: dict[str, Literal["up", "left"]] = {"top_heading": "up", "left_heading": "left"}


@dataclass(frozen=True, kw_only=True)
class TableCase(Case):
    """Passes if some table has the cell with all given neighbours and headings."""

    type = "table"

    cell: str
    """Text of the cell."""
    up: str = ""
    """Text of the nearest cell above; empty: not tested (as for the fields below)."""
    down: str = ""
    """Text of the nearest cell below."""
    left: str = ""
    """Text of the nearest cell to the left."""
    right: str = ""
    """Text of the nearest cell to the right."""
    top_heading: str = ""
    """Text of a heading above."""
    left_heading: str = ""
    """Text of a heading to the left."""
    ignore_markdown_tables: bool = False
    """Look at HTML tables only."""

    @cached_property
    def _target(self) -> tuple[str, float]:
        return self._with_threshold(self.cell)

    @cached_property
    def _relations(self) -> dict[str, tuple[str, float]]:
        names = (*_NEIGHBORS, *_HEADINGS)
        wanted = {name: self._with_threshold(getattr(self, name)) for name in names}
        return {name: relation for name, relation in wanted.items() if relation[0]}

    def _with_threshold(self, text: str) -> tuple[str, float]:
        text = normalize(text, compat=self.compat)
        return text, max(0.5, 1.0 - min(self.max_diffs, MAX_TEXT_CHARS) / max(len(text), 1))

    def _judge(self, page: ParsedPage) -> Verdict:
        tables = self._tables(page)
        if not tables:
            return Verdict(False, "no table on the page")
        unmet = ""
        for table in tables:
            for index in find_similar(self._target[0], table.normal_texts, self._target[1]):
                cell = table.cells[index]
                unmet = self._unmet(table, cell)
                if not unmet:
                    return Verdict(True, "")
        if unmet:
            return Verdict(False, f"the cell {self.cell[:80]!r} is present, but not with {unmet}")
        return Verdict(False, f"no cell is {self.cell[:80]!r}")

    def _tables(self, page: ParsedPage) -> list[Table]:
        markdown = [] if self.ignore_markdown_tables else page.markdown_tables
        return [*markdown, *page.html_tables]

    def candidates(self, page: ParsedPage) -> Iterator[tuple[Table, Cell]]:
        """Every cell that has the text, whatever surrounds it."""
        for table in self._tables(page):
            for index in find_similar(self._target[0], table.normal_texts, self._target[1]):
                yield table, table.cells[index]

    def has_all(self, table: Table, cell: Cell) -> bool:
        """Whether a candidate has all given neighbours and headings."""
        return not self._unmet(table, cell)

    def breadths(self, page: ParsedPage) -> Iterator[tuple[int, ...]]:
        """For each cell that passes: how many cells each relation could choose from."""
        for table, cell in self.candidates(page):
            if self.has_all(table, cell):
                yield tuple(len(self._related(table, cell, name)) for name in self._relations)

    def _related(self, table: Table, cell: Cell, name: str) -> tuple[Cell, ...]:
        if name in _HEADINGS:
            return table.headings(cell, _HEADINGS[name])
        return table.neighbors(cell, _NEIGHBORS[name])

    def _unmet(self, table: Table, cell: Cell) -> str:
        """The first relation that a cell lacks, in words; empty if it has all."""
        for name, wanted in self._relations.items():
            related = self._related(table, cell, name)
            texts = [cell.normal_text for cell in related]
            if (
                wanted[0] not in texts
                and next(find_similar(wanted[0], texts, wanted[1]), None) is None
            ):
                return f"{name} {wanted[0][:80]!r}"
        return ""
