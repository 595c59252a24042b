"""How certain a bench score is, and whether candidates differ; seeded for repeatability."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

_CHUNK = 500
"""Permutations drawn at a time, to bound memory."""


class Interval(NamedTuple):
    """A confidence interval."""

    low: float
    high: float


def bootstrap(
    categories: Mapping[str, Sequence[bool]], *, samples: int, confidence: float, seed: int
) -> tuple[Interval, dict[str, Interval]]:
    """Percentile bootstrap of the mean category score and of each category's score.

    Tests are drawn with replacement within their category.

    Args:
        categories: For each category, whether each test passed; no category is empty.
        samples: Bootstrap samples.
        confidence: Level of the intervals, e.g. 0.95.
        seed: Of the random draws.
    """
    rng = np.random.default_rng(seed)
    # drawing n of n binary results with replacement is a binomial draw
    drawn = {
        name: rng.binomial(len(passed), sum(passed) / len(passed), samples) / len(passed)
        for name, passed in categories.items()
    }
    return _intervals(drawn, confidence)


def paired_bootstrap(
    differences: Mapping[str, Sequence[float]], *, samples: int, confidence: float, seed: int
) -> tuple[Interval, dict[str, Interval]]:
    """Percentile bootstrap of how far two candidates lie apart: of the mean, and per category.

    Tests are drawn with replacement within their category, each with what both make of it.

    Args:
        differences: 1, 0 or -1 for each test of each category: only the first passes it, both or
            neither do, only the second passes it. No category is empty.
        samples: Bootstrap samples.
        confidence: Level of the intervals, e.g. 0.95.
        seed: Of the random draws.
    """
    rng = np.random.default_rng(seed)
    drawn = {}
    for name, values in differences.items():
        given = np.asarray(values)
        shares = [np.mean(given == 1), np.mean(given == -1), np.mean(given == 0)]
        counts = rng.multinomial(len(given), shares, samples)
        drawn[name] = (counts[:, 0] - counts[:, 1]) / len(given)
    return _intervals(drawn, confidence)


def _intervals(
    drawn: Mapping[str, np.ndarray], confidence: float
) -> tuple[Interval, dict[str, Interval]]:
    """Of the mean over categories, and of each category; drawn: [samples] of each."""
    tail = (1 - confidence) / 2

    def interval(values: np.ndarray) -> Interval:
        low, high = np.quantile(values, [tail, 1 - tail])
        return Interval(float(low), float(high))

    overall = np.mean(list(drawn.values()), axis=0)
    return interval(overall), {name: interval(values) for name, values in drawn.items()}


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values of several tests at once, adjusted by Holm's step-down method."""
    adjusted = [0.0] * len(p_values)
    largest = 0.0
    for rank, at in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[at]))
        adjusted[at] = largest
    return adjusted


def permutation_p_value(
    differences: Mapping[str, Sequence[float]], *, permutations: int, seed: int
) -> float:
    """Two-sided p-value of the mean category difference of two candidates.

    A paired test: under the null hypothesis, each test's difference is equally likely to have
    either sign.

    Args:
        differences: Score of one candidate minus the other's, for each test of each category.
        permutations: Random sign assignments.
        seed: Of the random draws.
    """
    weights = np.concatenate(
        [np.asarray(d, float) / (len(d) * len(differences)) for d in differences.values()]
    )
    weights = weights[weights != 0]  # ties never change sign
    observed = abs(weights.sum())
    rng = np.random.default_rng(seed)
    as_extreme = 0
    for start in range(0, permutations, _CHUNK):
        count = min(_CHUNK, permutations - start)
        signs = rng.integers(0, 2, (count, weights.size), dtype=np.int8) * 2 - 1
        as_extreme += int(np.sum(np.abs(signs @ weights) >= observed - 1e-12))
    return (as_extreme + 1) / (permutations + 1)
