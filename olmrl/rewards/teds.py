"""Tables against the reference's tables: structure and content, by tree edit distance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from olmrl.markup.html_tree import MarkupError
from olmrl.markup.text import WorkLimitError
from olmrl.rewards.assignment import best_assignment
from olmrl.rewards.body import AgainstBody, body_of
from olmrl.rewards.table_tree import (
    PUBLISHED,
    STRICT,
    Costs,
    TableTree,
    content_costs,
    is_too_large,
    structure_costs,
    tree_distance,
)
from olmrl.types import Float64Array, RewardResult

_MOST_NODES = 6
"""Times the reference's nodes; beyond it the strict costs leave nothing of the value."""


@dataclass(frozen=True)
class Teds(AgainstBody):
    """1 - edit distance / nodes (the tables, rows and cells of the reference), at least 0.

    HTML and markdown tables alike. Each table of the completion stands for at most one of the
    reference's, so that the total distance is least; the others are invented or missing. The part
    `structure` leaves out the texts of cells (TEDS-S) and takes the published costs and nodes.
    Definition and sources: docs/formats.md#teds.
    """

    compat: bool = False
    """The published costs and nodes (those of the larger side), under which an invented row or a
    second reading can pay; score 0 on a page without a reference, instead of leaving the reward
    out."""

    def lacking(self, reference: str) -> str:
        """Needs a reference with a table."""
        return "" if _trees(reference) else "the reference has no table"

    def judge(self, text: str, reference: str) -> RewardResult:
        """Score one text."""
        try:
            mine = _trees(text)
        except (WorkLimitError, MarkupError):  # markup that no reader can parse
            return RewardResult(0.0, {"unreadable": 1.0})
        true = _trees(reference)
        value = similarity(mine, true, PUBLISHED if self.compat else STRICT)
        structure = value if value == 1.0 else similarity(mine, true, PUBLISHED, texts=False)
        return RewardResult(value, {"structure": structure, "tables": float(len(mine))})


def _trees(text: str) -> tuple[TableTree, ...]:
    body = body_of(text)
    return tuple(TableTree(t) for t in (*body.markdown_tables, *body.html_tables))


def similarity(
    mine: Sequence[TableTree], true: Sequence[TableTree], costs: Costs, *, texts: bool = True
) -> float:
    """How well tables agree, 0..1; see `Teds`.

    Args:
        mine: the completion's tables.
        true: the reference's tables, at least one.
        costs: of edits.
        texts: False: the texts of cells do not matter.
    """
    nodes, true_nodes = sum(t.size for t in mine), sum(t.size for t in true)
    if nodes > _MOST_NODES * true_nodes:
        return 0.0
    saved_MN = np.asarray([[_saved(a, b, costs, texts) for b in true] for a in mine])
    saved = sum(saved_MN[pair] for pair in best_assignment(saved_MN))
    distance = true_nodes + sum(t.cost_if_invented(costs) for t in mine) - float(saved)
    # a larger whole would make each error smaller: a second reading of a table would pay
    whole = max(true_nodes, nodes) if costs.published else true_nodes
    return max(0.0, 1.0 - distance / whole)


def _saved(mine: TableTree, true: TableTree, costs: Costs, texts: bool) -> float:
    """By how much the total falls if one table stands for the other; tables too large: by 0."""
    if texts and (mine.texts, mine.spans, mine.row_lengths) == (
        true.texts,
        true.spans,
        true.row_lengths,
    ):
        return mine.cost_if_invented(costs) + true.size
    if is_too_large(mine, true):
        return 0.0
    cost_MN: Float64Array = (
        content_costs(mine, true, costs) if texts else structure_costs(mine, true)
    )
    distance = tree_distance(mine, true, cost_MN, costs)
    return max(0.0, mine.cost_if_invented(costs) + true.size - distance)
