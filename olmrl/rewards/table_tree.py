"""Edit distance between two tables as trees: table -> rows -> cells.

The distance is that of Zhang and Shasha (SIAM J. Comput. 18(6), 1989), which TEDS takes (Zhong et
al., "Image-based table recognition", arXiv 1911.10683). All trees have three levels, so it needs
two tables of numpy vectors instead of one for each pair of subtrees: `_between_rows` has the
distances of all pairs of rows, `tree_distance` that of the whole.

Shape letters: M and N nodes or cells of the two tables, I and J their rows, P and Q cells of their
longest rows.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from rapidfuzz.distance import Levenshtein
from rapidfuzz.process import cdist

from olmrl.markup.tables import Table
from olmrl.types import Float64Array, Int64Array

MAX_WIDTH = 200
"""Most cells in a row (geometric mean of the longest rows of two tables that are compared)."""
MAX_WORK = 4_000_000
"""Most pairs of nodes of two tables, rows padded to the longest."""


@dataclass(frozen=True)
class Costs:
    """What each edit costs, for a completion's table against the reference's."""

    invented_cell: float
    """A cell of the completion that stands for none of the reference's, or for one that says
    something else. A missing cell, row or table costs 1, and so does an invented row or table."""
    most_different: float
    """Normalised Levenshtein distance from which two cells say something else."""
    published: bool
    """As in PubTabNet: a row may stand for a cell, at a cost of 1; the larger side is the whole."""


PUBLISHED = Costs(invented_cell=1.0, most_different=1.0, published=True)
"""Those of PubTabNet."""
STRICT = Costs(invented_cell=3.0, most_different=1 / 3, published=False)
"""A wrong cell costs as much as a missing table, row and cell together, so that nothing invented
pays where something is missing; and no more than an invented one, so that the right one beside it
does not pay either."""


class TableTree:
    """A table's rows and cells; empty rows are left out."""

    def __init__(self, table: Table) -> None:
        rows = defaultdict(list)
        for cell in table.cells:
            rows[cell.row].append(cell)
        cells = [cell for row in sorted(rows) for cell in rows[row]]
        self.texts = tuple(cell.normal_text.strip() for cell in cells)
        """What each cell says."""
        self.spans = tuple((cell.row_span, cell.col_span) for cell in cells)
        """How many rows and columns each cell fills."""
        self.row_lengths = tuple(len(rows[row]) for row in sorted(rows))
        """Cells of each row."""

    @property
    def size(self) -> int:
        """Nodes: the table, its rows, its cells."""
        return 1 + len(self.row_lengths) + len(self.texts)

    def cost_if_invented(self, costs: Costs) -> float:
        """Cost of the whole table in a completion whose page does not have it."""
        return 1 + len(self.row_lengths) + costs.invented_cell * len(self.texts)

    @cached_property
    def grid_IP(self) -> Int64Array:
        """Number of each cell by row and place in the row; the last number + 1 where none is."""
        places = np.full((len(self.row_lengths), max(self.row_lengths)), len(self.texts))
        first = 0
        for row, length in enumerate(self.row_lengths):
            places[row, :length] = range(first, first + length)
            first += length
        return places

    @cached_property
    def nodes(self) -> list[tuple[int, int]]:
        """Rows and cells in postorder: (row, -1) or (row, number of the cell)."""
        listed = []
        cell = 0
        for row, length in enumerate(self.row_lengths):
            listed += [(row, cell + k) for k in range(length)]
            listed.append((row, -1))
            cell += length
        return listed


def is_too_large(mine: TableTree, true: TableTree) -> bool:
    """Whether a distance takes too long: rows over `MAX_WIDTH`, or more than `MAX_WORK` pairs."""
    widths = max(mine.row_lengths) * max(true.row_lengths)
    rows = len(mine.row_lengths) * len(true.row_lengths)
    return widths > MAX_WIDTH**2 or max(widths * rows, mine.size * true.size) > MAX_WORK


def content_costs(mine: TableTree, true: TableTree, costs: Costs) -> Float64Array:
    """[M, N] cost of each cell of one table standing for each of the other, by text and spans."""
    mine_at, mine_texts = _unique(mine.texts)
    true_at, true_texts = _unique(true.texts)
    distances = cdist(
        mine_texts, true_texts, scorer=Levenshtein.normalized_distance, dtype=np.float64
    )
    distance_MN = distances[np.ix_(mine_at, true_at)]
    cost_MN = np.where(_same_spans(mine, true), distance_MN, 1.0)
    return np.where(distance_MN > costs.most_different, costs.invented_cell, cost_MN)


def structure_costs(mine: TableTree, true: TableTree) -> Float64Array:
    """[M, N] cost of each cell standing for each of the other, by spans alone."""
    return np.where(_same_spans(mine, true), 0.0, 1.0)


def _same_spans(mine: TableTree, true: TableTree) -> np.ndarray:
    mine_M2, true_N2 = np.asarray(mine.spans), np.asarray(true.spans)
    same: np.ndarray = (mine_M2[:, None] == true_N2[None]).all(axis=2)
    return same


def _unique(texts: Sequence[str]) -> tuple[list[int], list[str]]:
    numbers = {text: number for number, text in enumerate(dict.fromkeys(texts))}
    return [numbers[text] for text in texts], list(numbers)


def tree_distance(mine: TableTree, true: TableTree, cost_MN: Float64Array, costs: Costs) -> float:
    """Least cost of the edits that turn one table into the other.

    Args:
        mine: the completion's table.
        true: the reference's table.
        cost_MN: of each cell standing for each of the other's, from `content_costs`.
        costs: of all other edits.
    """
    between = _between_rows(mine, true, cost_MN, costs)
    nodes = true.nodes
    cells = np.asarray([cell for _, cell in nodes])
    is_row = cells < 0
    row_ends = np.flatnonzero(is_row)
    row_starts = np.concatenate([[0], row_ends[:-1] + 1])
    lengths = np.asarray(true.row_lengths)
    added = np.arange(len(nodes) + 1, dtype=np.float64)
    before = added  # distances of what precedes the node to all prefixes of `true`
    row_start = before
    for row, cell in mine.nodes:
        deleted = costs.invented_cell if cell >= 0 else 1.0
        now = before + deleted
        reached = now[1:]
        if cell >= 0:
            placed = before[:-1] + np.where(is_row, np.inf, cost_MN[cell, cells])
            if costs.published:
                placed[row_ends] = before[row_starts] + 1 + lengths
            np.minimum(reached, placed, out=reached)
        else:
            reached[row_ends] = np.minimum(reached[row_ends], row_start[row_starts] + between[row])
            if costs.published:
                whole = row_start[:-1] + 1 + mine.row_lengths[row] * costs.invented_cell
                np.minimum(reached, np.where(is_row, np.inf, whole), out=reached)
        before = np.minimum.accumulate(now - added) + added
        row_start = before if cell < 0 else row_start
    return float(before[-1])


def _between_rows(
    mine: TableTree, true: TableTree, cost_MN: Float64Array, costs: Costs
) -> Float64Array:
    """[I, J] edit distance between the cells of each row and of each row of the other table."""
    padded = np.pad(cost_MN, ((0, 1), (0, 1)))
    mine_IP, true_JQ = mine.grid_IP, true.grid_IP
    n_rows = len(mine.row_lengths), len(true.row_lengths)
    table = np.empty((mine_IP.shape[1] + 1, true_JQ.shape[1] + 1, *n_rows))
    table[0] = np.arange(true_JQ.shape[1] + 1)[:, None, None]
    for p in range(mine_IP.shape[1]):
        table[p + 1, 0] = costs.invented_cell * (p + 1)
        for q in range(true_JQ.shape[1]):
            placed = table[p, q] + padded[mine_IP[:, p, None], true_JQ[None, :, q]]
            skipped = np.minimum(table[p, q + 1] + costs.invented_cell, table[p + 1, q] + 1.0)
            np.minimum(placed, skipped, out=table[p + 1, q + 1])
    rows = np.ix_(range(n_rows[0]), range(n_rows[1]))
    ends = np.asarray(mine.row_lengths)[:, None], np.asarray(true.row_lengths)[None]
    distances: Float64Array = table[ends[0], ends[1], rows[0], rows[1]]
    return distances
