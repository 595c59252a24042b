"""From configuration to a strategy: the one place where the learner's parts are put together."""

from __future__ import annotations

import torch

from olmrl.config.schema import LearnerConfig, ModelConfig
from olmrl.learner.logprobs import HeadSpec
from olmrl.learner.model import load_policy
from olmrl.learner.strategy import Strategy
from olmrl.learner.strategy_deepspeed import DeepspeedStrategy
from olmrl.learner.strategy_fsdp import FsdpStrategy

STRATEGIES: dict[str, type[FsdpStrategy] | type[DeepspeedStrategy]] = {
    "fsdp": FsdpStrategy,
    "deepspeed": DeepspeedStrategy,
}


def head_spec(
    learner: LearnerConfig, temperature: float = 1.0, banned_ids: tuple[int, ...] = ()
) -> HeadSpec:
    """How this learner turns hidden states into log-probabilities.

    Args:
        learner: chunk size and precision of the head.
        temperature: sampling temperature of the engines (GRPO); 1 for SFT.
        banned_ids: ids that the engines never sample (GRPO).
    """
    return HeadSpec(temperature, banned_ids, learner.logprob_chunk, learner.fp32_lm_head)


def build_strategy(
    model: ModelConfig,
    learner: LearnerConfig,
    head: HeadSpec,
    *,
    total_steps: int,
    device: torch.device | str = "cpu",
    with_reference: bool = False,
) -> Strategy:
    """Load the policy, shard it, and build its optimizer (in that order, spec C6).

    Call on every rank, after the process group exists where there is more than one.

    Args:
        model: the policy.
        learner: strategy, sharding and optimizer.
        head: how log-probabilities are taken.
        total_steps: optimizer steps of the whole run, for the schedule.
        device: this rank's device.
        with_reference: also hold the initial weights, frozen, for the KL term; adapters need no
            second copy.
    """

    def load(reference: bool):  # type: ignore[no-untyped-def]
        return load_policy(
            model,
            device=device,
            activation_checkpointing=learner.activation_checkpointing and not reference,
            compile_blocks=learner.compile,
        )

    policy = load(reference=False)
    second = load(reference=True) if with_reference and model.lora is None else None
    return STRATEGIES[learner.strategy](
        policy, model, learner, head, total_steps=total_steps, reference=second
    )
