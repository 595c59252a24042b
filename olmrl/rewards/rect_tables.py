"""Are the HTML tables rectangular, without holes in their grid?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from olmrl.markup.html_tree import MarkupError
from olmrl.markup.text import WorkLimitError
from olmrl.rewards.parsed import parsed
from olmrl.types import Completion, Page, RewardResult


@dataclass(frozen=True)
class RectTables:
    """Share of the HTML tables that are rectangular; 1 if there are none (markdown is ignored)."""

    needs_group: ClassVar[bool] = False

    compat: bool = False
    """Read tables as the public code does (no implied end tags, nested rows merged)."""

    def missing(self, page: Page) -> str:
        """Nothing."""
        return ""

    def score_group(self, page: Page, completions: Sequence[Completion]) -> list[RewardResult]:
        """Look at the tables of each completion."""
        return [self._score(c.text) for c in completions]

    def _score(self, text: str) -> RewardResult:
        try:
            tables = parsed(text, self.compat).page.html_tables
        except (WorkLimitError, MarkupError):  # markup that no reader can parse
            return RewardResult(0.0, {"unreadable": 1.0})
        good = sum(table.is_rectangular for table in tables)
        return RewardResult(good / len(tables) if tables else 1.0, {"tables": float(len(tables))})
