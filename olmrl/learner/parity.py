"""The parity guard: engine and learner must give the same tokens the same log-probability.

Compares what the engine reported when it sampled with what the learner computes under the same
weights (design.md principle 4). A larger gap means that one of them sees another prompt, image,
mask, temperature or set of weights; training on would optimise noise, so the run stops.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from olmrl.config.schema import Dtype, GuardConfig
from olmrl.learner.packed import blank_batch
from olmrl.learner.strategy import Strategy
from olmrl.metrics import Max, Mean, Measurements
from olmrl.types import Float32Array, PackedBatch

DEFAULT_MEAN_GAP: dict[str, float] = {"float32": 1e-3, "bfloat16": 0.05}
"""Largest accepted mean |gap| by the coarser of the two precisions."""
_WORST = 5


class ParityError(ValueError):
    """Engine and learner disagree; the message holds the figures and the worst tokens."""


def mean_gap_bound(guards: GuardConfig, engine: Dtype, learner: Dtype) -> float:
    """The configured bound on the mean |gap|, or the default of the coarser precision."""
    if guards.max_mean_gap is not None:
        return guards.max_mean_gap
    coarser = "float32" if engine == learner == "float32" else "bfloat16"
    return DEFAULT_MEAN_GAP[coarser]


def check_parity(
    strategy: Strategy,
    batches: Sequence[PackedBatch],
    guards: GuardConfig,
    bound: float,
    decode: Callable[[Sequence[int]], str],
) -> tuple[Measurements, float]:
    """Compare the tokens of positive weight over all ranks; collective.

    Args:
        strategy: the policy.
        batches: this rank's rows; weight marks tokens sampled under the present weights.
        guards: outlier threshold and its share.
        bound: largest accepted mean |gap|.
        decode: token ids to text, for the message.

    Returns:
        Measurements, and the number of tokens compared on all ranks (0: nothing to judge by).

    Raises:
        ParityError: mean gap or outlier share over its bound, on every rank.
    """
    (passes,) = strategy.max_over_ranks([len(batches)])
    rows = [
        *batches,
        *(blank_batch(strategy.model_config) for _ in range(int(passes) - len(batches))),
    ]
    gaps, tokens, places = [], [], []
    for row in rows:
        learner = strategy.logprobs(row)
        chosen = row.weights > 0
        if row.behaviour_logprobs is None or not chosen.any():
            continue
        gaps.append((learner - row.behaviour_logprobs)[chosen])
        tokens.append(row.targets[chosen])
        places += [", ".join(row.page_ids)] * int(chosen.sum())
    strategy.forget_features()
    gap: Float32Array = np.concatenate(gaps) if gaps else np.zeros(0, np.float32)
    size = np.abs(gap)
    total, outliers, count = strategy.sum_over_ranks(
        [float(size.sum()), float((size > guards.outlier_gap).sum()), float(len(size))]
    )
    if count == 0:
        return {}, 0.0
    mean, share = total / count, outliers / count
    if not (mean <= bound and share <= guards.max_outlier_fraction):
        flat = np.concatenate(tokens) if tokens else np.zeros(0, np.int64)
        worst = "; ".join(
            f"{decode([int(flat[i])])!r} {gap[i]:+.3f} on {places[i]}"
            for i in np.argsort(-size)[:_WORST]
        )
        raise ParityError(
            f"engine and learner log-probs differ by {mean:.2e} on average over {count:.0f} tokens "
            f"(allowed {bound:.0e}) and {share:.1%} by more than {guards.outlier_gap} (allowed "
            f"{guards.max_outlier_fraction:.1%}); worst here: {worst or 'on another rank'}"
        )
    return {
        "parity/mean_gap": Mean(float(size.sum()), float(len(size))),
        "parity/max_gap": Max(float(size.max()) if len(size) else 0.0),
        "parity/tokens": Max(count),
    }, count
