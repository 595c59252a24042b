"""Advantages of a prompt group's rollouts: pure functions on small arrays.

GRPO's advantage is a rollout's reward less its group's mean, divided by a standard deviation
(docs/formats.md#published-grpo-recipe).

Shape letters: B groups, G rollouts of a group, R completion tokens.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np

from olmrl.config.schema import RewardScaling
from olmrl.types import NO_SIGNAL_RANGE, Float32Array, Float64Array

STD_FLOOR = 1e-4
"""Added to the standard deviation, as in the published recipe."""


def has_signal(rewards_G: Float32Array) -> bool:
    """Whether rewards of a group differ enough to learn from.

    Judged by range: the float standard deviation of equal rewards need not be exactly zero.
    """
    return bool(np.ptp(rewards_G) > NO_SIGNAL_RANGE)


def group_advantages(rewards_BG: list[Float32Array], scaling: RewardScaling) -> list[Float32Array]:
    """Advantage of each rollout, group by group.

    Args:
        rewards_BG: total rewards, or what `standardised_sum` made of them; groups may differ in
            size, none may be empty.
        scaling: divide by the standard deviation (sample, n - 1) of the group's rewards, of all
            rewards of the batch (also for `per_reward`), or not at all.

    Raises:
        ValueError: a reward is not finite; a failed group must be dropped before.
    """
    if not rewards_BG:
        return []
    groups = [np.asarray(rewards, dtype=np.float64) for rewards in rewards_BG]
    if not all(np.isfinite(rewards).all() for rewards in groups):
        raise ValueError("advantages: a reward is NaN or infinite; drop its group before learning")
    if scaling in ("batch", "per_reward"):
        scales = [_deviation(np.concatenate(groups)) + STD_FLOOR] * len(groups)
    elif scaling == "group":
        scales = [_deviation(rewards) + STD_FLOOR for rewards in groups]
    else:
        scales = [1.0] * len(groups)
    return [
        ((rewards - rewards.mean()) / scale).astype(np.float32)
        if has_signal(rewards.astype(np.float32))
        else np.zeros(len(rewards), np.float32)
        for rewards, scale in zip(groups, scales, strict=True)
    ]


def standardised_sum(
    rewards: Mapping[str, Float64Array], weights: Mapping[str, float]
) -> Float64Array:
    """Weighted sum of a group's rewards, each standardised within the group.

    sum over k of w_k (r_k - mean(r_k)) / (std(r_k) + 1e-4), the first step of GDPO (Liu et al.,
    arXiv 2601.05242); `group_advantages` does the second, the division by the batch's deviation. A
    reward that is the same for all rollouts adds nothing, whatever the rounding of its values.

    Args:
        rewards: [G] values of each reward, unweighted; at least one reward.
        weights: of each reward.

    Returns:
        [G] sums, whose mean is 0.
    """
    parts = [
        weights[name] * (values - values.mean()) / (_deviation(values) + STD_FLOOR)
        if np.ptp(values) > NO_SIGNAL_RANGE
        else np.zeros(len(values))
        for name, values in rewards.items()
    ]
    total: Float64Array = np.sum(parts, axis=0)
    return total


def token_weights(
    length: int, finish_reason: str, overlong: Literal["keep", "mask", "shape"]
) -> Float32Array:
    """[R] weight of each completion token: 0 throughout where a cut completion is masked."""
    masked = overlong == "mask" and finish_reason == "length"
    return np.full(length, 0.0 if masked else 1.0, np.float32)


def _deviation(rewards: np.ndarray) -> float:
    return float(rewards.std(ddof=1)) if len(rewards) > 1 else 0.0
