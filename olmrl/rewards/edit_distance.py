"""Closeness of the whole transcription, front matter included, to the reference (spec D3)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from rapidfuzz import fuzz

from olmrl.rewards.reward import without_reference
from olmrl.types import Completion, Page, RewardResult


@dataclass(frozen=True)
class EditDistance:
    """1 - (insertions + deletions) / (characters of both texts); two empty texts score 1."""

    needs_group: ClassVar[bool] = False

    compat: bool = False
    """Score 0 on a page without reference, instead of leaving the reward out there."""

    def missing(self, page: Page) -> str:
        """A reference is needed."""
        return "" if self.compat else without_reference(page)

    def score_group(self, page: Page, completions: Sequence[Completion]) -> list[RewardResult]:
        """Compare each text with the page's reference."""
        if page.reference is None:
            return [RewardResult(0.0) for _ in completions]
        return [RewardResult(fuzz.ratio(c.text, page.reference) / 100.0) for c in completions]
