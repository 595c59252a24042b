"""Training objectives on per-token log-probabilities: pure functions of tensors.

A micro-batch's share of the loss is its sum divided by a normaliser of the whole step (all
micro-batches, all ranks), so shares and their gradients add up exactly however the step is cut.
Shape letters: N predicted tokens of a micro-batch, S its sequences.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import NamedTuple, TypeVar, cast

import torch
from torch import Tensor

from olmrl.config.registered import LOSSES
from olmrl.config.registry import construct
from olmrl.config.schema import AlgorithmConfig, CorrectionConfig
from olmrl.learner.distillation import taught
from olmrl.metrics import EffectiveShare, Max, Mean, Measurements, Reduction
from olmrl.types import PackedBatch

ESS = "mismatch/effective_share"


@dataclass(frozen=True, slots=True)
class StepCounts:
    """What one optimizer step is averaged over, on all ranks together."""

    tokens: float
    """Sum of target weights."""
    sequences: float
    """Sequences with any weight."""


class LossOutput(NamedTuple):
    """A share of the loss, and what was measured with it."""

    loss: Tensor
    """Scalar: this micro-batch's share of the step's loss."""
    totals: dict[str, Tensor]
    """Scalars, detached: numerators of means (or maxima) by metric name."""
    weights: dict[str, Tensor | float]
    """Denominators of the means; a name without one is a maximum."""
    squares: Mapping[str, Tensor] = MappingProxyType({})
    """Sums of squares of those totals that are shares of effective samples."""


@dataclass(frozen=True, slots=True)
class LossInputs:
    """Columns of a `PackedBatch` on the device."""

    sequence_N: Tensor
    """int64, 0..S-1."""
    sequences: int
    """S."""
    weight_N: Tensor
    advantage_N: Tensor | None
    behaviour_N: Tensor | None
    old_N: Tensor | None
    reference_N: Tensor | None
    teacher_N: Tensor | None = None
    teacher_kl_N: Tensor | None = None
    """KL(policy || teacher) at each position, with gradients."""

    @classmethod
    def of(cls, batch: PackedBatch, device: torch.device | str) -> LossInputs:
        """Move the loss columns of a batch."""

        def column(array: object) -> Tensor | None:
            return None if array is None else torch.tensor(array, device=device)

        sequence_N = torch.tensor(batch.sequence_ids, dtype=torch.long, device=device)
        return cls(
            sequence_N=sequence_N,
            sequences=int(batch.sequence_ids.max()) + 1 if len(batch.sequence_ids) else 0,
            weight_N=torch.tensor(batch.weights, device=device),
            advantage_N=column(batch.advantages),
            behaviour_N=column(batch.behaviour_logprobs),
            old_N=column(batch.old_logprobs),
            reference_N=column(batch.reference_logprobs),
            teacher_N=column(batch.teacher_logprobs),
        )

    def kl_to_teacher(self, old_N: Tensor) -> Tensor:
        """[N] nats: exact with gradients, or estimated from the sampled tokens alone."""
        if self.teacher_kl_N is not None:
            return self.teacher_kl_N
        assert self.teacher_N is not None
        return old_N.detach() - self.teacher_N

    def per_sequence(self, value_N: Tensor) -> Tensor:
        """[S] sum of a value over the tokens of each sequence."""
        zeros = value_N.new_zeros(self.sequences)
        return zeros.index_add(0, self.sequence_N, value_N)


LossFn = Callable[[Tensor, Tensor, LossInputs], LossOutput]
"""(logprobs_N, entropy_N, inputs) -> LossOutput."""


def sft_loss(counts: StepCounts) -> LossFn:
    """Cross-entropy averaged over the weighted tokens of the whole step."""

    def loss(logprobs_N: Tensor, entropy_N: Tensor, inputs: LossInputs) -> LossOutput:
        weight_N = inputs.weight_N
        total = -(weight_N * logprobs_N).sum()
        return LossOutput(
            total / counts.tokens,
            {
                "loss/sft": total.detach(),
                "policy/entropy": (weight_N * entropy_N).sum().detach(),
            },
            {"loss/sft": weight_N.sum(), "policy/entropy": weight_N.sum()},
        )

    return loss


def grpo_loss(
    config: AlgorithmConfig, counts: StepCounts, *, max_tokens: int, outlier_gap: float
) -> LossFn:
    """The policy loss of GRPO and its variants.

    Args:
        config: loss, ratio, clipping, KL, correction and entropy settings.
        counts: tokens and sequences of the optimizer step.
        max_tokens: constant length that dr_grpo divides by (`max_length_for_dr_grpo` overrides).
        outlier_gap: |log-prob gap| between engine and learner beyond which a token is an outlier.
    """
    length = config.max_length_for_dr_grpo or max_tokens
    policy = policy_loss(config)

    def loss(logprobs_N: Tensor, entropy_N: Tensor, inputs: LossInputs) -> LossOutput:
        assert inputs.advantage_N is not None and inputs.behaviour_N is not None
        weight_N = inputs.weight_N
        old_N = logprobs_N.detach() if inputs.old_N is None else inputs.old_N
        if config.teacher is not None:
            advantage_N = taught(inputs.advantage_N, inputs.teacher_N, old_N, config.teacher)
            inputs = replace(inputs, advantage_N=advantage_N)
        ratio_N = importance_ratio(logprobs_N, old_N, inputs, config.importance_level)
        surrogate = policy.surrogate(ratio_N, logprobs_N, inputs, config)
        correction_N, outside = correction_ratio(old_N, inputs, config.correction)
        policy_N = surrogate.loss_N * correction_N
        objective_N = policy_N
        totals: dict[str, Tensor] = {}
        if config.kl_beta:
            assert inputs.reference_N is not None
            kl_N = kl_estimate(logprobs_N, inputs.reference_N, config.kl_estimator)
            objective_N = objective_N + config.kl_beta * kl_N
            totals["loss/kl"] = (weight_N * kl_N).sum().detach()
        if config.entropy_bonus:
            objective_N = objective_N - config.entropy_bonus * entropy_N
        if config.teacher is not None:
            kl_N = inputs.kl_to_teacher(old_N)
            totals["teacher/kl"] = (weight_N * kl_N).sum().detach()
            if inputs.teacher_kl_N is not None:
                objective_N = objective_N + config.teacher.weight * kl_N
        total = policy.total(objective_N, inputs)
        with torch.no_grad():
            kept_N = (weight_N > 0).float()
            totals |= {
                "loss/policy": policy.total(policy_N, inputs),
                "policy/clip_fraction": (kept_N * surrogate.clipped_N).sum(),
                "policy/entropy": (weight_N * entropy_N).sum(),
                "policy/kl": (kept_N * kl_estimate(logprobs_N, old_N, "k3")).sum(),
                "policy/correction": (kept_N * correction_N).sum(),
                **{name: (kept_N * is_outside_N).sum() for name, is_outside_N in outside.items()},
            }
            tokens = kept_N.sum()
            weights: dict[str, Tensor | float] = dict.fromkeys(totals, tokens)
            sequences = (inputs.per_sequence(weight_N) > 0).sum()
            weights |= {"loss/policy": policy.size(weight_N.sum(), sequences, length)}
            weights |= dict.fromkeys(("policy/entropy", "loss/kl", "teacher/kl"), weight_N.sum())
            gap, gap_weights = mismatch(old_N, inputs, outlier_gap)
            effective, squares, count = effective_share(correction_N, inputs, config.correction)
        return LossOutput(
            total / policy.size(counts.tokens, counts.sequences, length),
            {k: v.detach() for k, v in (totals | gap).items()} | {ESS: effective},
            {k: v for k, v in weights.items() if k in totals} | gap_weights | {ESS: count},
            {ESS: squares},
        )

    return loss


class Surrogate(NamedTuple):
    """Per-token policy loss before correction and averaging."""

    loss_N: Tensor
    clipped_N: Tensor
    """1 where clipping took the gradient away."""


Number = TypeVar("Number", float, Tensor)


@dataclass(frozen=True)
class PolicyLoss:
    """PPO's clipped loss (arXiv 2402.03300), averaged over the tokens of the step.

    Serves as both `bnpo` and `dapo`, which differ only in the batch that they average over: here it
    is the step for both. The other losses, and your own, are subclasses, whose dataclass fields are
    set by `algorithm.loss_options`; all share KL term, entropy bonus, correction and measurements.
    """

    def surrogate(
        self, ratio_N: Tensor, logprobs_N: Tensor, inputs: LossInputs, config: AlgorithmConfig
    ) -> Surrogate:
        """Policy loss of each token.

        Args:
            ratio_N: new over old probability, per token or of its sequence (`importance_level`);
                gradients flow through it.
            logprobs_N: log-probabilities under the policy, with gradients.
            inputs: advantages, weights (0 for tokens that do not count) and sequences.
            config: `clip_low`, `clip_high` and all else of `algorithm`.
        """
        assert inputs.advantage_N is not None
        advantage_N = inputs.advantage_N
        low, high = 1.0 - config.clip_low, 1.0 + config.clip_high
        plain_N = ratio_N * advantage_N
        bounded_N = ratio_N.clamp(low, high) * advantage_N
        clipped_N = (
            ((ratio_N < low) & (advantage_N < 0)) | ((ratio_N > high) & (advantage_N > 0))
        ).float()
        objective_N = torch.minimum(plain_N, bounded_N)
        if config.clip_dual is not None:
            floor_N = config.clip_dual * advantage_N
            too_far_N = (advantage_N < 0) & (objective_N < floor_N)
            objective_N = torch.where(too_far_N, floor_N, objective_N)
            clipped_N = torch.maximum(clipped_N, too_far_N.float())
        return Surrogate(-objective_N, clipped_N)

    def total(self, value_N: Tensor, inputs: LossInputs) -> Tensor:
        """Sum of per-token values over one micro-batch."""
        return (value_N * inputs.weight_N).sum()

    def size(self, tokens: Number, sequences: Number, length: int) -> Number:
        """What the totals of a step are divided by.

        Args:
            tokens: sum of the weights of all tokens.
            sequences: sequences with any weight.
            length: `max_length_for_dr_grpo`, or the limit of completions.
        """
        return tokens


class Grpo(PolicyLoss):
    """Averaged within each sequence, then over the sequences of the step."""

    def total(self, value_N: Tensor, inputs: LossInputs) -> Tensor:
        """Sum of the sequences' means."""
        sum_S = inputs.per_sequence(value_N * inputs.weight_N)
        return (sum_S / inputs.per_sequence(inputs.weight_N).clamp(min=1e-9)).sum()

    def size(self, tokens: Number, sequences: Number, length: int) -> Number:
        """The number of sequences."""
        return sequences


class DrGrpo(PolicyLoss):
    """Tokens over a constant length (arXiv 2503.20783)."""

    def size(self, tokens: Number, sequences: Number, length: int) -> Number:
        """Sequences times the length."""
        return sequences * length


class Cispo(PolicyLoss):
    """The gradient of log p weighted by the ratio capped at 1 + clip_high (arXiv 2506.13585).

    No gradient flows through the ratio, and there is no lower cap, as in the authors' runs.
    """

    def surrogate(
        self, ratio_N: Tensor, logprobs_N: Tensor, inputs: LossInputs, config: AlgorithmConfig
    ) -> Surrogate:
        """Log-probabilities times capped ratio and advantage."""
        assert inputs.advantage_N is not None
        high = 1.0 + config.clip_high
        capped_N = ratio_N.clamp(max=high).detach()
        clipped_N = ((ratio_N > high) & (inputs.advantage_N > 0)).float()
        return Surrogate(-capped_N * inputs.advantage_N * logprobs_N, clipped_N)


def policy_loss(config: AlgorithmConfig) -> PolicyLoss:
    """The loss that a configuration names.

    Raises:
        ValueError: the import path leads to no `PolicyLoss`, or the loss lacks an option.
    """
    loss = LOSSES.load_class(config.loss, PolicyLoss)
    return cast("PolicyLoss", construct(f"loss {config.loss!r}", loss, config.loss_options))


def importance_ratio(logprobs_N: Tensor, old_N: Tensor, inputs: LossInputs, level: str) -> Tensor:
    """[N] new over old probability of each token, or exp of its sequence's mean log-ratio (GSPO,
    arXiv 2507.18071)."""
    log_ratio_N = logprobs_N - old_N
    if level == "sequence":
        kept_N = (inputs.weight_N > 0).float()
        length_S = inputs.per_sequence(kept_N).clamp(min=1.0)
        mean_S = inputs.per_sequence(log_ratio_N * kept_N) / length_S
        log_ratio_N = mean_S[inputs.sequence_N]
    return log_ratio_N.exp()


def correction_ratio(
    old_N: Tensor, inputs: LossInputs, config: CorrectionConfig
) -> tuple[Tensor, dict[str, Tensor]]:
    """Weights that correct for the engine, not the learner, having drawn the tokens.

    exp(old - behaviour) per token, or exp of its sum per sequence; outside floor and cap it is cut
    to them (truncate) or to zero (mask). No gradient flows through it.

    Returns:
        [N] weights, and by metric name [N] whether the ratio was above the cap or below the floor.
    """
    if config.level == "none":
        return torch.ones_like(old_N), {}
    ratio_N = _mismatch_log_ratio(old_N, inputs, config.level).exp()
    above_N, below_N = ratio_N > config.cap, ratio_N < config.least
    outside = {"mismatch/above_cap": above_N.float(), "mismatch/below_floor": below_N.float()}
    if config.mode == "truncate":
        return ratio_N.clamp(config.least, config.cap), outside
    return ratio_N.masked_fill(above_N | below_N, 0.0), outside


def _mismatch_log_ratio(old_N: Tensor, inputs: LossInputs, level: str) -> Tensor:
    assert inputs.behaviour_N is not None
    log_ratio_N = (old_N - inputs.behaviour_N).detach() * (inputs.weight_N > 0)
    return (
        inputs.per_sequence(log_ratio_N)[inputs.sequence_N] if level == "sequence" else log_ratio_N
    )


def effective_share(
    correction_N: Tensor, inputs: LossInputs, config: CorrectionConfig
) -> tuple[Tensor, Tensor, Tensor]:
    """Sum, sum of squares and number of the correction's weights, of sequences or of tokens."""
    kept_N = (inputs.weight_N > 0).float()
    if config.level != "sequence":
        return (kept_N * correction_N).sum(), (kept_N * correction_N**2).sum(), kept_N.sum()
    length_S = inputs.per_sequence(kept_N)
    weight_S = inputs.per_sequence(kept_N * correction_N) / length_S.clamp(min=1.0)
    return weight_S.sum(), weight_S.square().sum(), (length_S > 0).float().sum()


def kl_estimate(logprobs_N: Tensor, reference_N: Tensor, estimator: str) -> Tensor:
    """Per-token estimate of KL(policy || reference) from samples of the policy.

    With d = log reference - log policy: k1 = -d, k2 = d^2 / 2, k3 = exp(d) - d - 1 (Schulman 2020).
    """
    d_N = reference_N - logprobs_N
    if estimator == "k1":
        return -d_N
    if estimator == "k2":
        return d_N.square() / 2
    return d_N.exp() - d_N - 1


def mismatch(
    learner_N: Tensor, inputs: LossInputs, outlier_gap: float
) -> tuple[dict[str, Tensor], dict[str, Tensor | float]]:
    """How far the engine's log-probs are from the learner's."""
    assert inputs.behaviour_N is not None
    kept_N = (inputs.weight_N > 0).float()
    gap_N = (learner_N - inputs.behaviour_N) * kept_N
    totals = {
        "mismatch/logprob_mean_abs": gap_N.abs().sum(),
        "mismatch/outlier_fraction": (gap_N.abs() > outlier_gap).float().sum(),
        "mismatch/kl": (gap_N.exp() - gap_N - 1).sum(),
        "mismatch/logprob_max_abs": gap_N.abs().max() if len(gap_N) else gap_N.sum(),
    }
    tokens = kept_N.sum()
    weights: dict[str, Tensor | float] = {
        name: tokens for name in totals if name != "mismatch/logprob_max_abs"
    }
    sequence_S = inputs.per_sequence(gap_N)
    totals["mismatch/sequence_gap_square"] = sequence_S.square().sum()
    weights["mismatch/sequence_gap_square"] = (inputs.per_sequence(kept_N) > 0).sum()
    return totals, weights


def to_measurements(output: LossOutput) -> Measurements:
    """The measured numbers, fetched from the device in one transfer."""
    names = list(output.totals)
    flat = [output.totals[n].float() for n in names]
    flat += [torch.as_tensor(output.weights.get(n, 0.0), dtype=torch.float32) for n in names]
    flat += [torch.as_tensor(output.squares.get(n, 0.0), dtype=torch.float32) for n in names]
    values = torch.stack([v.to(flat[0].device) for v in flat]).tolist()
    found: dict[str, Reduction] = {}
    for index, name in enumerate(names):
        total, weight, square = values[index :: len(names)]
        if name in output.squares:
            found[name] = EffectiveShare(total, square, weight)
        else:
            found[name] = Mean(total, weight) if name in output.weights else Max(total)
    return found
