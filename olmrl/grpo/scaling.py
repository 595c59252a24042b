"""What advantages are taken from if rewards count one by one (`reward_scaling: per_reward`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from olmrl.learner.advantage import standardised_sum
from olmrl.types import PromptGroup, Rollout


def standardise(group: PromptGroup, weights: Mapping[str, float]) -> PromptGroup:
    """Give each rollout the sum of its standardised rewards as its signal; totals stay.

    So a group is without signal only if no reward tells its rollouts apart, or if what one gives
    the others take; equal totals are no reason to drop it.

    Args:
        group: a scored group.
        weights: of the configured rewards; any other (the length penalty) has weight 1.
    """
    names = group.rollouts[0].rewards
    factors = {name: weights.get(name, 1.0) for name in names}
    values = {
        name: np.asarray([_value(r, name, factor) for r in group.rollouts])
        for name, factor in factors.items()
        if factor
    }
    if not values:
        return group
    signals = standardised_sum(values, factors)
    rollouts = zip(group.rollouts, signals, strict=True)
    return replace(group, rollouts=tuple(replace(r, signal=float(s)) for r, s in rollouts))


def _value(rollout: Rollout, name: str, weight: float) -> float:
    """The reward as it entered the total (by a curriculum, say), without its weight."""
    if name in rollout.shares:
        return rollout.shares[name] / weight
    return rollout.rewards[name].value
