"""From configuration to a strategy: the one place where the learner's parts are put together."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch

from olmrl.config.schema import GrpoConfig, LearnerConfig, ModelConfig, TeacherConfig
from olmrl.learner.core import GrpoLearner
from olmrl.learner.logprobs import HeadSpec
from olmrl.learner.model import load_policy
from olmrl.learner.strategy import FrozenModel, Strategy
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


def build_grpo(
    config: GrpoConfig,
    banned_ids: tuple[int, ...],
    *,
    total_steps: int,
    device: torch.device | str,
    replay_dir: str | None = None,
) -> tuple[Strategy, GrpoLearner]:
    """The policy of a GRPO run and its learner.

    Args:
        config: the run.
        banned_ids: ids that the engines never sample.
        total_steps: steps of the whole run.
        device: this rank's device.
        replay_dir: folder for batches that stop a step, or that `guards` asks to save.
    """
    algorithm, sampling = config.algorithm, config.rollout.sampling
    strategy = build_strategy(
        config.model,
        config.learner,
        head_spec(config.learner, sampling.temperature, banned_ids),
        total_steps=total_steps * algorithm.updates_per_step,
        device=device,
        with_reference=algorithm.kl_beta > 0,
        teacher=algorithm.teacher,
    )
    learner = GrpoLearner(
        strategy,
        algorithm,
        max_tokens=sampling.max_tokens,
        outlier_gap=config.guards.outlier_gap,
        replay_dir=replay_dir,
        save_every=config.guards.save_batch_every,
    )
    return strategy, learner


def build_strategy(
    model: ModelConfig,
    learner: LearnerConfig,
    head: HeadSpec,
    *,
    total_steps: int,
    device: torch.device | str = "cpu",
    with_reference: bool = False,
    teacher: TeacherConfig | None = None,
) -> Strategy:
    """Load the policy, shard it, and build its optimizer, in that order.

    Call it on every rank; with several ranks, after the process group is made.

    Args:
        model: the policy.
        learner: strategy, sharding and optimizer.
        head: how log-probabilities are taken.
        total_steps: optimizer steps of the whole run, for the schedule.
        device: this rank's device.
        with_reference: also hold the initial weights, frozen, for the KL term; adapters need no
            second copy.
        teacher: frozen model to distil from.
    """
    policy = load_policy(
        model,
        device=device,
        activation_checkpointing=learner.activation_checkpointing,
        compile_blocks=learner.compile,
    )

    def frozen(path: str, key: str) -> Any:
        held = {"path": path, "master_dtype": learner.frozen_dtype(model), "lora": None}
        return load_policy(
            model.model_copy(update=held), device=device, compile_blocks=learner.compile, key=key
        )

    reference = None
    if with_reference and model.lora is None:
        reference = FrozenModel(
            partial(frozen, model.path, "model.path"), learner.reference_offload
        )
    other = None
    if teacher is not None:
        other = FrozenModel(
            partial(frozen, teacher.path, "algorithm.teacher.path"),
            learner.teacher_offload,
            teacher.use == "loss",
        )
    strategy = STRATEGIES[learner.strategy](
        policy, model, learner, head, total_steps=total_steps, reference=reference, teacher=other
    )
    strategy.release_cache()  # the whole models were loaded only to be sharded
    return strategy
