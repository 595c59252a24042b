"""Proof of whole tables: the grid that the truth tells is the grid that the page shows.

Rewards that compare whole tables (TEDS) take their truth from the page's reference, so every cell
of it must stand where its row and column say, not only those that a test is about.
"""

from __future__ import annotations

from collections.abc import Iterator

from olmrl.markup.tables import Cell, Table, parse_html_tables
from olmrl.markup.text import WorkLimitError
from olmrl.synth.proof.layer import Box, TextLayer
from olmrl.synth.proof.letters import key

_SLACK = 1.0
"""Points by which neighbours may overlap."""


def table_objection(layer: TextLayer, body: str) -> str:
    """Why a table of the truth is not the one on the page; empty if all are.

    Args:
        layer: Of the page.
        body: Its truth, without front matter.
    """
    try:
        tables = parse_html_tables(body)
    except WorkLimitError as error:
        return str(error)
    for table in tables:
        if table.cells and not table.is_rectangular:
            return "a table of the truth is ragged"
        if reason := _objection(layer, table):
            return reason
    return ""


def _objection(layer: TextLayer, table: Table) -> str:
    boxes = _boxes(layer, table)
    if boxes is None:
        return "the cells of a table do not stand together on the page"
    mirrored = layer.right_to_left
    for cell, box in boxes.items():
        for other in table.neighbors(cell, "down"):
            if other in boxes and boxes[other].top > box.bottom + _SLACK:
                return f"table: {other.text[:30]!r} does not stand below {cell.text[:30]!r}"
        for other in table.neighbors(cell, "right"):
            if other not in boxes:
                continue
            left, right = (boxes[other], box) if mirrored else (box, boxes[other])
            if right.left < left.right - _SLACK:
                return f"table: {other.text[:30]!r} does not stand beside {cell.text[:30]!r}"
    return ""


def _boxes(layer: TextLayer, table: Table) -> dict[Cell, Box] | None:
    """The box of each cell with letters, or None if they are not found in order.

    The layer tells a table cell by cell, so its cells are one run of letters; formulas, which the
    layer tells in its own way, break the run, and then the table is not looked at.
    """
    cells = [cell for cell in table.cells if key(cell.text)]
    if any(mark in cell.text for cell in cells for mark in ("\\(", "\\[", "$", "![")):
        return {}
    whole = "".join(key(cell.text) for cell in cells)
    start = layer.letters.find(whole)
    if start < 0:
        return None
    found = {}
    for cell, place in zip(cells, _places(start, cells), strict=True):
        found[cell] = layer.box(place)
    return found


def _places(start: int, cells: list[Cell]) -> Iterator[range]:
    for cell in cells:
        end = start + len(key(cell.text))
        yield range(start, end)
        start = end
