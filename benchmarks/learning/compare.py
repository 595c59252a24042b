"""Numbers from scored pages: means, and intervals over pages and over seeds. Pure functions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

Pages = Mapping[str, Sequence[Mapping[str, Any]]]
"""Figures of each text of each page (`read.figures`)."""

# Student's t, two-sided 95 %, by degrees of freedom.
_T95 = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 6: 2.447, 7: 2.365, 8: 2.306, 9: 2.262}


class Estimate(NamedTuple):
    """A mean with its 95 % interval."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.mean:+.3f} [{self.low:+.3f}, {self.high:+.3f}]"


def tests(texts: Sequence[Mapping[str, Any]]) -> float:
    """Share of a page's tests that its texts pass."""
    passed = [p for text in texts for results in text["types"].values() for p in results]
    return float(np.mean(passed)) if passed else float("nan")


def of_type(texts: Sequence[Mapping[str, Any]], kind: str) -> float:
    """Likewise of one test type; NaN where the page has none."""
    passed = [p for text in texts for p in text["types"].get(kind, [])]
    return float(np.mean(passed)) if passed else float("nan")


def plain(texts: Sequence[Mapping[str, Any]], name: str) -> float:
    """Mean of a figure over a page's texts."""
    return float(np.mean([text[name] for text in texts]))


def best(texts: Sequence[Mapping[str, Any]]) -> float:
    """Tests that the best of a page's texts passes."""
    return max(tests([text]) for text in texts)


def summary(pages: Pages) -> dict[str, float]:
    """Means over pages."""
    kinds = sorted({kind for texts in pages.values() for text in texts for kind in text["types"]})
    values = {"tests": [tests(texts) for texts in pages.values()]}
    values |= {f"type/{k}": [of_type(texts, k) for texts in pages.values()] for k in kinds}
    for name in ("reading", "exact", "tokens"):
        values[name] = [plain(texts, name) for texts in pages.values()]
    values["best"] = [best(texts) for texts in pages.values()]
    return {name: float(np.nanmean(found)) for name, found in values.items()}


def over_pages(after: Pages, before: Pages, *, draws: int = 2000, seed: int = 0) -> Estimate:
    """Difference of the tests passed between two models on the same pages; pages are redrawn."""
    gaps = np.array([tests(after[page]) - tests(before[page]) for page in sorted(after)])
    picks = np.random.default_rng(seed).integers(0, len(gaps), (draws, len(gaps)))
    low, high = np.quantile(gaps[picks].mean(axis=1), [0.025, 0.975])
    return Estimate(float(gaps.mean()), float(low), float(high))


def over_seeds(gaps: Sequence[float]) -> Estimate:
    """Mean of paired differences, one per seed, with Student's interval."""
    mean = float(np.mean(gaps))
    if len(gaps) < 2:
        return Estimate(mean, float("-inf"), float("inf"))
    half = _T95.get(len(gaps) - 1, 1.96) * float(np.std(gaps, ddof=1)) / len(gaps) ** 0.5
    return Estimate(mean, mean - half, mean + half)
