"""Are the HTML tables rectangular, without holes in their grid?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from olmrl.bench import ParsedPage
from olmrl.markup.html_tree import MarkupError
from olmrl.markup.tables import Table
from olmrl.markup.text import WorkLimitError
from olmrl.rewards.element_count import recognised
from olmrl.rewards.parsed import parsed, truth_of
from olmrl.types import Completion, Page, RewardResult


@dataclass(frozen=True)
class RectTables:
    """Share of the HTML tables that are rectangular; 1 if there are none (markdown is ignored).

    In the default mode, where the page has a reference, tables with text of the page count, out of
    as many as there are or should be: neither an invented table nor leaving one out pays, parts of
    one are one, and each further table stands for one of the reference's.
    """

    needs_group: ClassVar[bool] = False

    compat: bool = False
    """Read tables as the public code does (no implied end tags, nested rows merged)."""

    def missing(self, page: Page) -> str:
        """Nothing."""
        return ""

    def score_group(self, page: Page, completions: Sequence[Completion]) -> list[RewardResult]:
        """Look at the tables of each completion."""
        if self.compat:
            return [_score(parsed(c.text, True).page, 0) for c in completions]
        truth = truth_of(page)
        if truth.reading is None:
            return [_score(truth.read(c.text).page, 0) for c in completions]
        wanted = len(truth.reading.page.html_tables)
        readings = [truth.read(c.text) for c in completions]
        return [_score(r.earned, wanted, recognised(r, truth.reading, "table")) for r in readings]


def _score(page: ParsedPage, wanted: int, most: int = 0) -> RewardResult:
    """Score a page of `wanted` tables, if there are any, of which at most so many are there."""
    try:
        tables = page.html_tables
    except (WorkLimitError, MarkupError):  # markup that no reader can parse
        return RewardResult(0.0, {"unreadable": 1.0})
    good = sum(table.is_rectangular and (not wanted or _has_text(table)) for table in tables)
    bad = len(tables) - good
    if wanted:
        good = min(good, most, max(0, wanted - bad))
    count = max(good + bad, wanted)
    return RewardResult(good / count if count else 1.0, {"tables": float(len(tables))})


def _has_text(table: Table) -> bool:
    return any(char.isalnum() for text in table.normal_texts for char in text)
