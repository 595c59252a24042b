"""How engines draw tokens: reproducible by (seed, position), whatever else is in the batch.

One number in [0, 1) per token is a hash of the completion's seed and the token's position, so that
engines keep no generators, and a completion that is preempted, moved or computed again goes on as
before. The number inverts the cumulative distribution. Shape letters: R rows, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from olmrl.types import Float64Array

_ROWS = 32
"""Rows drawn at a time: each holds some float64 copies of the vocabulary."""


def uniforms(seeds: Sequence[int], positions: Sequence[int]) -> Float64Array:
    """[R] numbers in [0, 1): SplitMix64 (Steele, Lea, Flood 2014) of each seed at a position.

    Args:
        seeds: of the completions, taken modulo 2**64.
        positions: of the tokens to draw, 0 for a completion's first.
    """
    start = _mix(np.asarray([seed & 0xFFFFFFFFFFFFFFFF for seed in seeds], np.uint64))
    step = (np.asarray(positions, np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    drawn: Float64Array = (_mix(start + step) >> np.uint64(11)).astype(np.float64) * 2.0**-53
    return drawn


def _mix(words: NDArray[np.uint64]) -> NDArray[np.uint64]:
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: NDArray[np.uint64] = words ^ (words >> np.uint64(31))
    return mixed


def draw(
    logprobs_RV: torch.Tensor, uniforms_R: torch.Tensor, top_p_R: torch.Tensor | None = None
) -> torch.Tensor:
    """[R] ids; a row's draw depends on the row, and on whether any row has a top_p below 1.

    Args:
        logprobs_RV: tempered log-probs, banned ids at minus infinity.
        uniforms_R: a number in [0, 1) per row, float64.
        top_p_R: share of the distribution to draw from, the likeliest ids first; None: all of it.
    """
    parts = zip(
        logprobs_RV.split(_ROWS),
        uniforms_R.split(_ROWS),
        [None] * len(uniforms_R) if top_p_R is None else top_p_R.split(_ROWS),
        strict=False,
    )
    return torch.cat([_draw(*part) for part in parts])


def _draw(
    logprobs_RV: torch.Tensor, uniforms_R: torch.Tensor, top_p_R: torch.Tensor | None
) -> torch.Tensor:
    probabilities = logprobs_RV.double().exp()
    order = None
    if top_p_R is not None:
        probabilities, order = probabilities.sort(dim=-1, descending=True, stable=True)
        # the nucleus is the smallest set of likeliest ids that reaches top_p
        before = probabilities.cumsum(-1) - probabilities
        probabilities = probabilities.masked_fill(before >= top_p_R.double()[:, None], 0.0)
    cumulative = probabilities.cumsum(-1)
    targets = uniforms_R[:, None] * cumulative[:, -1:]
    places = torch.searchsorted(cumulative, targets, right=True)
    # rounding may point behind the last id that has any probability
    last = torch.searchsorted(cumulative, cumulative[:, -1:].contiguous())
    places = torch.minimum(places, last)
    return (places if order is None else order.gather(-1, places))[:, 0]
