"""Closeness of the whole transcription, front matter included, to the reference."""

from __future__ import annotations

from dataclasses import dataclass

from rapidfuzz import fuzz

from olmrl.rewards.reward import AgainstReference
from olmrl.types import RewardResult


@dataclass(frozen=True)
class EditDistance(AgainstReference):
    """1 - (insertions + deletions) / (characters of both texts); two empty texts score 1."""

    def compare(self, text: str, reference: str) -> RewardResult:
        """Score one text."""
        return RewardResult(fuzz.ratio(text, reference) / 100.0)
