"""Whether there are as many tables and formulas as in the reference."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from olmrl.rewards.reward import AgainstReference
from olmrl.types import RewardResult

_TABLE_OPEN = re.compile(r"<table\b[^<>]*>", re.IGNORECASE)
_TABLE_CLOSE = re.compile(r"</table>", re.IGNORECASE)
_MATH = ((r"$$", r"$$"), (r"\(", r"\)"), (r"\[", r"\]"))


@dataclass(frozen=True)
class ElementCount(AgainstReference):
    """0.5 for the reference's number of HTML tables, 0.5 for its number of formulas."""

    def compare(self, text: str, reference: str) -> RewardResult:
        """Score one text."""
        tables, formulas = count_elements(text)
        true_tables, true_formulas = count_elements(reference)
        parts = {
            "tables": float(tables == true_tables),
            "formulas": float(formulas == true_formulas),
        }
        return RewardResult(sum(parts.values()) / 2, parts)


@lru_cache(maxsize=256)
def count_elements(text: str) -> tuple[int, int]:
    """Count `<table>...</table>` pairs and `$$ $$`, `\\( \\)`, `\\[ \\]` spans in linear time."""
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
        end = text.find(closing, start + len(opening) + 1)  # an empty span is not a formula
        if end < 0:
            break
        count += 1
        start = text.find(opening, end + len(closing))
    return count
