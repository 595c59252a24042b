"""Agreement within a group: the completion nearest to all others is most often right."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from rapidfuzz.distance import Levenshtein

from olmrl.types import Completion, Page, RewardResult

_SCORE_HINT = 64
"""Expected distance of siblings: rapidfuzz tries a narrow band first (2-7 x faster, exact)."""


@dataclass(frozen=True)
class Medoid:
    """1 for the medoid of the group, else 1 - d(text, medoid) / (largest distance in the group).

    Distances are Levenshtein, in characters. The medoid has the smallest total distance to all
    others (the first one if tied). A group of equal texts scores 1 throughout: no signal.
    """

    needs_group: ClassVar[bool] = True

    def missing(self, page: Page) -> str:
        """Nothing: the group is its own reference."""
        return ""

    def score_group(self, page: Page, completions: Sequence[Completion]) -> list[RewardResult]:
        """Score a whole group."""
        return [RewardResult(value) for value in agreement([c.text for c in completions])]


def agreement(texts: Sequence[str]) -> list[float]:
    """Score each text by its distance from the medoid; see `Medoid`."""
    if not texts:
        return []
    unique = list(dict.fromkeys(texts))
    place = {text: i for i, text in enumerate(unique)}
    copies = [0] * len(unique)
    for text in texts:
        copies[place[text]] += 1
    distances = _pairwise(unique)
    largest = max(max(row) for row in distances)
    if largest == 0:
        return [1.0] * len(texts)
    totals = [sum(n * d for n, d in zip(copies, row, strict=True)) for row in distances]
    medoid = totals.index(min(totals))
    return [
        1.0 if place[text] == medoid else 1.0 - distances[place[text]][medoid] / largest
        for text in texts
    ]


def _pairwise(texts: Sequence[str]) -> list[list[int]]:
    matrix = [[0] * len(texts) for _ in texts]
    for i, text in enumerate(texts):
        for j in range(i):
            matrix[i][j] = matrix[j][i] = Levenshtein.distance(
                text, texts[j], score_hint=_SCORE_HINT
            )
    return matrix
