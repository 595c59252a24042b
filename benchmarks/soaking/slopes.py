"""How fast a series grows: Theil-Sen slope, with an interval by the moving-block bootstrap."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Series: TypeAlias = NDArray[np.float64]

_POINTS = 240
"""Longer series are thinned to so many, evenly."""
_ROUNDS = 400


@dataclass(frozen=True)
class Slope:
    """Growth of a series, in its unit per hour (or per 1,000 steps)."""

    value: float
    low: float
    high: float
    """Ends of the 95 % interval."""

    @property
    def is_flat(self) -> bool:
        """Whether the interval holds zero, or nothing grows."""
        return self.low <= 0.0


def theil_sen(x: Series, y: Series) -> float:
    """Median of the slopes between all pairs of points (Theil 1950, Sen 1968)."""
    first, second = np.triu_indices(len(x), k=1)
    run = x[second] - x[first]
    apart = run > 0
    return float(np.median((y[second] - y[first])[apart] / run[apart]))


def slope(x: Series, y: Series, seed: int = 0) -> Slope:
    """The slope of a series and its interval.

    Neighbours depend on each other, so blocks of residuals are drawn and not single ones
    (Kuensch 1989); a block is the cube root of the number of points, and at least 4, long.

    Args:
        x: [N] times or steps, in order.
        y: [N] values.
        seed: of the bootstrap.

    Raises:
        ValueError: fewer than 12 points.
    """
    if len(x) < 12:
        raise ValueError(f"{len(x)} samples say nothing of a slope; at least 12 are needed")
    chosen = np.unique(np.linspace(0, len(x) - 1, min(len(x), _POINTS)).round().astype(int))
    x, y = x[chosen], y[chosen]
    value = theil_sen(x, y)
    level = float(np.median(y - value * x))
    residuals = y - (level + value * x)
    rng = np.random.default_rng(seed)
    length = max(4, round(len(x) ** (1 / 3)))
    blocks = -(-len(x) // length)
    drawn = []
    for _ in range(_ROUNDS):
        starts = rng.integers(0, len(x) - length + 1, size=blocks)
        places = (starts[:, None] + np.arange(length)).ravel()[: len(x)]
        drawn.append(theil_sen(x, level + value * x + residuals[places]))
    low, high = np.quantile(drawn, [0.025, 0.975])
    return Slope(value, float(low), float(high))
