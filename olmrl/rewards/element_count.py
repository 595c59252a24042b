"""As many tables and formulas as the reference has (spec D3)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

from olmrl.rewards.reward import without_reference
from olmrl.types import Completion, Page, RewardResult

_TABLE_OPEN = re.compile(r"<table\b[^<>]*>", re.IGNORECASE)
_TABLE_CLOSE = re.compile(r"</table>", re.IGNORECASE)
_MATH = ((r"$$", r"$$"), (r"\(", r"\)"), (r"\[", r"\]"))


@dataclass(frozen=True)
class ElementCount:
    """0.5 for the reference's number of HTML tables, 0.5 for its number of formulas."""

    needs_group: ClassVar[bool] = False

    compat: bool = False
    """Score 0 on a page without reference, instead of leaving the reward out there."""

    def missing(self, page: Page) -> str:
        """A reference is needed."""
        return "" if self.compat else without_reference(page)

    def score_group(self, page: Page, completions: Sequence[Completion]) -> list[RewardResult]:
        """Compare the counts of each text with the reference's."""
        if page.reference is None:
            return [RewardResult(0.0) for _ in completions]
        tables, formulas = count_elements(page.reference)
        results = []
        for completion in completions:
            mine = count_elements(completion.text)
            parts = {"tables": float(mine[0] == tables), "formulas": float(mine[1] == formulas)}
            results.append(RewardResult(sum(parts.values()) / 2, parts))
        return results


@lru_cache(maxsize=256)
def count_elements(text: str) -> tuple[int, int]:
    """Count `<table>...</table>` pairs and `$$ $$`, `\\( \\)`, `\\[ \\]` spans, in linear time."""
    return _count_tables(text), sum(_count_spans(text, *marks) for marks in _MATH)


def _count_tables(text: str) -> int:
    count = 0
    start = _TABLE_OPEN.search(text)
    while start:
        end = _TABLE_CLOSE.search(text, start.end())
        if end is None:
            break
        count += 1
        start = _TABLE_OPEN.search(text, end.end())
    return count


def _count_spans(text: str, opening: str, closing: str) -> int:
    count = 0
    start = text.find(opening)
    while start >= 0:
        end = text.find(closing, start + len(opening) + 1)  # an empty span is no formula
        if end < 0:
            break
        count += 1
        start = text.find(opening, end + len(closing))
    return count
