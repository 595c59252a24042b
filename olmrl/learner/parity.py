"""The parity guard: engine and learner must give the same tokens the same log-probability.

Compares what the engine reported when it sampled with what the learner computes under the same
weights (docs/design.md#4-fail-closed-on-mismatch); where rollouts run ahead and no token was
sampled under these weights, an engine scores a completion anew. A larger gap means that the two
differ in prompt, image, mask, temperature or weights; training on would optimise noise, so the run
stops.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from olmrl.config.schema import CorrectionConfig, Dtype, GuardConfig
from olmrl.data.pack import GroupItem
from olmrl.errors import GuardFailure
from olmrl.learner.strategy import Strategy, pad_to_largest
from olmrl.metrics import Max, Mean, Measurements
from olmrl.types import (
    Completion,
    Float32Array,
    Int32Array,
    PackedBatch,
    PolicyVersion,
    PromptGroup,
)

DEFAULT_MEAN_GAP: dict[str, float] = {"float32": 1e-3, "bfloat16": 0.05}
"""Largest accepted mean |gap| by the coarser of the two precisions."""
DEFAULT_SPREAD = 2.0
"""Largest accepted root mean square of a completion's summed gap, where completions are weighed as
a whole: about 40 % of them are then within a factor of 3 (docs/algorithm.md)."""
_LEAST_COMPLETIONS = 8
"""Completions below which their spread is measured and not judged: it is mostly luck."""
_WORST = 5


class ParityError(GuardFailure):
    """Engine and learner disagree; the message holds the figures and the worst tokens."""


Score = Callable[[PromptGroup, Completion], Float32Array | None]
"""Asks an engine that holds the present weights for a completion's log-probs [R]; None where no
engine answers."""


class ParityGuard:
    """Decides when a comparison is due, and makes it on this rank's groups.

    Args:
        strategy: the policy.
        guards: when, on how many pages, and the bounds.
        bound: largest accepted mean |gap|.
        spread_bound: largest accepted root mean square of a completion's summed gap.
        pack: groups to rows.
        decode: token ids to text, for the message.
        score: asks an engine.
        keeps_kv: at an update, engines keep the key/value cache that the old weights made.
    """

    def __init__(
        self,
        strategy: Strategy,
        guards: GuardConfig,
        bound: float,
        *,
        pack: Callable[[list[GroupItem]], list[PackedBatch]],
        decode: Callable[[Sequence[int]], str],
        score: Score,
        keeps_kv: bool,
        spread_bound: float = math.inf,
    ) -> None:
        self._spread_bound = spread_bound
        self._strategy = strategy
        self._guards = guards
        self._bound = bound
        self._pack = pack
        self._decode = decode
        self._score = score
        self._keeps_kv = keeps_kv
        self._started = False
        self._due_since: int | None = None

    def is_due(self, step: int) -> bool:
        """Whether weights of this step are to be compared: every k steps, and at a start.

        Raises:
            ParityError: nothing could be compared since the last time it was due.
        """
        every = self._guards.parity_every
        if not every:
            return False
        if step % every == 0 or not self._started:
            if self._due_since is not None:
                raise ParityError(
                    f"no token could be compared between engine and learner since step "
                    f"{self._due_since}; is an engine alive?"
                )
            self._due_since = step
        self._started = True
        return self._due_since is not None

    def check(
        self, version: PolicyVersion, groups: Sequence[PromptGroup], items: Sequence[GroupItem]
    ) -> Measurements:
        """Compare engine and learner; collective.

        Args:
            version: the present weights.
            groups: this rank's groups; may be none.
            items: the same, encoded.

        Raises:
            ParityError: mean gap or outlier share over its bound, on every rank.
        """
        chosen = list(zip(groups, items, strict=True))[: self._guards.parity_pages]
        compared = [self._sampled(version, *pair) for pair in chosen]
        if not any(c.weights.any() for item in compared for c in item.completions):
            compared = [scored for pair in chosen if (scored := self._rescored(*pair))]
        measured, count = self._compare(self._pack(compared))
        if count:
            self._due_since = None
        return measured

    def _compare(self, batches: Sequence[PackedBatch]) -> tuple[Measurements, float]:
        """Compare the tokens of positive weight; collective.

        Returns:
            Measurements, and the number of tokens compared on all ranks.
        """
        strategy, guards = self._strategy, self._guards
        gaps, tokens, places, sums = [], [], [], []
        for row in pad_to_largest(strategy, batches):
            learner = strategy.logprobs(row)
            chosen = row.weights > 0
            if row.behaviour_logprobs is None or not chosen.any():
                continue
            gaps.append((learner - row.behaviour_logprobs)[chosen])
            sums.append(_per_sequence(gaps[-1], row.sequence_ids[chosen]))
            tokens.append(row.targets[chosen])
            places += [", ".join(row.page_ids)] * int(chosen.sum())
        strategy.forget_features()
        gap: Float32Array = np.concatenate(gaps) if gaps else np.zeros(0, np.float32)
        size = np.abs(gap)
        whole = np.concatenate(sums) if sums else np.zeros(0)
        total, outliers, count, squares, sequences = strategy.sum_over_ranks(
            [
                float(size.sum()),
                float((size > guards.outlier_gap).sum()),
                float(len(size)),
                float(np.square(whole).sum()),
                float(len(whole)),
            ]
        )
        if count == 0:
            return {}, 0.0
        mean, share = total / count, outliers / count
        if not (mean <= self._bound and share <= guards.max_outlier_fraction):
            flat = np.concatenate(tokens) if tokens else np.zeros(0, np.int64)
            worst = "; ".join(
                f"{self._decode([int(flat[i])])!r} {gap[i]:+.3f} on {places[i]}"
                for i in np.argsort(-size)[:_WORST]
            )
            raise ParityError(
                f"engine and learner log-probs differ by {mean:.2e} on average over {count:.0f} "
                f"tokens (allowed {self._bound:.0e}) and {share:.1%} by more than "
                f"{guards.outlier_gap} (allowed {guards.max_outlier_fraction:.1%}); "
                f"worst here: {worst or 'on another rank'}"
            )
        spread = math.sqrt(squares / sequences)
        if sequences >= _LEAST_COMPLETIONS and not spread <= self._spread_bound:
            raise ParityError(
                f"engine and learner log-probs, summed over a completion, differ by {spread:.2g} "
                f"(root mean square over {sequences:.0f} completions; allowed "
                f"{self._spread_bound:.2g}), so a completion's importance weight is off by a "
                f"factor of {math.exp(min(spread, 50.0)):.3g}, although the mean gap of a token is "
                f"{mean:.2e}; correct single tokens (algorithm.correction.level=token), take a "
                "finer rollout.dtype, or raise guards.max_sequence_spread"
            )
        return {
            "parity/sequence_spread": Max(spread),
            "parity/mean_gap": Mean(float(size.sum()), float(len(size))),
            "parity/max_gap": Max(float(size.max()) if len(size) else 0.0),
            "parity/tokens": Max(count),
        }, count

    def _sampled(self, version: PolicyVersion, group: PromptGroup, item: GroupItem) -> GroupItem:
        fresh = [
            c._replace(weights=fresh_tokens(r.completion, version, self._keeps_kv))
            for c, r in zip(item.completions, group.rollouts, strict=True)
        ]
        return item._replace(completions=fresh)

    def _rescored(self, group: PromptGroup, item: GroupItem) -> GroupItem | None:
        """One completion of a group with the log-probs that an engine gives it now."""
        scored = item.completions[0]
        logprobs = self._score(group, group.rollouts[0].completion)
        if logprobs is None:
            return None
        ones = np.ones(len(scored.token_ids), np.float32)
        return item._replace(completions=[scored._replace(logprobs=logprobs, weights=ones)])


def _per_sequence(gap_N: Float32Array, sequence_N: Int32Array) -> np.ndarray:
    """Sum of the gaps of each sequence that has any."""
    _, places = np.unique(sequence_N, return_inverse=True)
    return np.bincount(places, weights=gap_N)


def fresh_tokens(completion: Completion, version: PolicyVersion, keeps_kv: bool) -> Float32Array:
    """[R] 1 where a token was made by exactly these weights.

    If engines keep key/value caches over an update, the later tokens of a completion depend on both
    versions.
    """
    weights = np.zeros(len(completion.token_ids), np.float32)
    if keeps_kv and len(completion.versions) > 1:
        return weights
    for span in completion.versions:
        if span.version == version:
            weights[span.start : span.end] = 1.0
    return weights


def mean_gap_bound(guards: GuardConfig, engine: Dtype, learner: Dtype) -> float:
    """The configured bound on the mean |gap|, or the default of the coarser precision."""
    if guards.max_mean_gap is not None:
        return guards.max_mean_gap
    coarser = "float32" if engine == learner == "float32" else "bfloat16"
    return DEFAULT_MEAN_GAP[coarser]


def spread_bound(guards: GuardConfig, correction: CorrectionConfig) -> float:
    """The configured bound on the spread of summed gaps, or its default."""
    if guards.max_sequence_spread is not None:
        return guards.max_sequence_spread
    return DEFAULT_SPREAD if correction.level == "sequence" else math.inf
