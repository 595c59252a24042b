"""What to expect of a plan, and what would be better: step time, GPU splits, changes to fit."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

from olmrl.cluster.memory import kv_bytes_per_token, state_bytes
from olmrl.cluster.plan import ENGINE, Plan, check, make_plan
from olmrl.cluster.resources import PlanError, Resources
from olmrl.cluster.shape import model_shape
from olmrl.cluster.simulation.loop import Forecast, simulate
from olmrl.cluster.simulation.speeds import (
    MEASURED_CPU,
    Speeds,
    assumed,
    assumed_cpu,
    costs_of,
    setup_of,
    sft_step_seconds,
)
from olmrl.cluster.workload import grpo_workload
from olmrl.config.schema import GrpoConfig, SftConfig

_STEPS = 30
_WORTH_SAYING = 1.10
"""Smallest speed-up for which a split is suggested."""
_MOST_CHANGES = 3
"""Most keys changed together to make a plan fit."""
TINY = 0.3e9
"""Parameters below which a model is like the quick start's."""
_LEAST_BUDGET = 2048
_SHORTER_CONTEXT = 8192


@dataclass(frozen=True, slots=True)
class Change:
    """One key of the configuration set to another value."""

    section: str
    key: str
    value: Any

    def __str__(self) -> str:
        value = str(self.value).lower() if isinstance(self.value, bool) else self.value
        return f"{self.section}.{self.key}={value}"


@dataclass(frozen=True, slots=True)
class Split:
    """Numbers of GPUs for engines and for learner ranks, and the outcome."""

    engines: int
    learners: int
    outcome: Forecast


def changed(config: Any, *changes: Change) -> Any:
    """The configuration with some keys set."""
    for change in changes:
        section = getattr(config, change.section).model_copy(update={change.key: change.value})
        config = config.model_copy(update={change.section: section})
    return config


def speeds_for(config: GrpoConfig | SftConfig, resources: Resources | None) -> Speeds | None:
    """Speeds to reckon with: of CPUs measured for tiny models, else assumed; None if unknown."""
    if not config.learner.use_gpu:
        shape = model_shape(config.model.path)
        cores = None if resources is None else resources.cores
        if shape is None or shape.parameters < TINY or cores is None:
            return MEASURED_CPU
        return assumed_cpu(cores)
    if resources is None or resources.gpu is None:
        return None
    names = {node.gpu_type for node in resources.nodes if node.gpu_type}
    gpu_nodes = sum(node.gpus > 0 for node in resources.nodes)
    return assumed(resources.gpu, " and ".join(sorted(names)), gpu_nodes == 1)


def predict(plan: Plan, speeds: Speeds, steps: int = _STEPS) -> Forecast | None:
    """Simulate a GRPO plan; None if the model's shape is unknown."""
    config, shape = plan.config, plan.shape
    if shape is None or not isinstance(config, GrpoConfig):
        return None
    setup = setup_of(config, grpo_workload(config, shape), engine_sequences(plan))
    return simulate(setup, costs_of(config, shape, speeds), steps=steps)


def step_seconds(plan: Plan, resources: Resources | None) -> float | None:
    """Seconds of an optimizer step, simulated (GRPO) or computed (SFT); None if unknown."""
    if plan.config is None or plan.shape is None:
        return None
    speeds = speeds_for(plan.config, resources)
    if speeds is None:
        return None
    if isinstance(plan.config, SftConfig):
        return sft_step_seconds(plan.config, plan.shape, speeds)
    outcome = predict(plan, speeds)
    return None if outcome is None else outcome.step_s


def engine_sequences(plan: Plan) -> int:
    """Number of mean-length sequences that fit in the KV cache of one engine."""
    config, shape = plan.config, plan.shape
    assert isinstance(config, GrpoConfig) and shape is not None
    rollout, work = config.rollout, grpo_workload(config, shape)
    engine = next(role for role in plan.roles if role.name == ENGINE)
    cache = engine.memory["KV cache"] * rollout.tensor_parallel_size
    # each sequence has a state of its own, and a share of the prompt's
    tokens = work.completion + work.prompt / rollout.group_size
    states = 1 + 1 / rollout.group_size
    each = tokens * kv_bytes_per_token(shape, rollout.dtype) + states * state_bytes(shape)
    return int(cache // each)


def splits(plan: Plan, resources: Resources, speeds: Speeds, steps: int = _STEPS) -> list[Split]:
    """Splits of the plan's GPUs between engines and learner that fit, fastest first."""
    config = plan.config
    if not isinstance(config, GrpoConfig) or config.rollout.colocate or not plan.gpus:
        return []
    each, total = config.rollout.tensor_parallel_size, round(plan.gpus)
    found = []
    for engines in _some(max(1, (total - 1) // each)):
        learners = total - engines * each
        other = make_plan(
            changed(
                config,
                Change("rollout", "workers", engines),
                Change("learner", "workers", learners),
            ),
            resources,
        )
        outcome = predict(other, speeds, steps) if fits(other, resources) else None
        if outcome is not None:
            found.append(Split(engines, learners, outcome))
    return sorted(found, key=lambda split: split.outcome.step_s)


def better_split(plan: Plan, resources: Resources, speeds: Speeds) -> tuple[Split, float] | None:
    """The fastest split and its speed-up, if it is more than a tenth."""
    now = predict(plan, speeds)
    candidates = splits(plan, resources, speeds)
    if now is None or not candidates:
        return None
    gain = now.step_s / candidates[0].outcome.step_s
    return (candidates[0], gain) if gain > _WORTH_SAYING else None


def staler(plan: Plan, speeds: Speeds) -> tuple[int, Forecast] | None:
    """The outcome with one more version of staleness, if that is a tenth faster."""
    now = predict(plan, speeds)
    if now is None or not isinstance(plan.config, GrpoConfig) or plan.config.rollout.colocate:
        return None
    more = plan.config.algorithm.max_staleness + 1
    config = changed(plan.config, Change("algorithm", "max_staleness", more))
    outcome = predict(replace(plan, config=config), speeds)
    if outcome is None or now.step_s < _WORTH_SAYING * outcome.step_s:
        return None
    return more, outcome


def _some(most: int) -> list[int]:
    """Up to about sixteen numbers from 1 to `most`, denser where they are small."""
    numbers = {1, most, *range(1, min(most, 8) + 1)}
    size = 8
    while size < most:
        numbers |= {size, min(most, size * 3 // 2)}
        size *= 2
    return sorted(numbers)


def fits(plan: Plan, resources: Resources) -> bool:
    """Whether `check` passes."""
    try:
        check(plan, resources)
    except PlanError:
        return False
    return True


def remedy(plan: Plan, resources: Resources) -> tuple[Change, ...] | None:
    """The mildest few changes that make a plan fit; None if none were found."""
    if plan.config is None:
        return None
    candidates = list(_candidates(plan.config, resources))
    for count in range(1, _MOST_CHANGES + 1):
        for changes in combinations(candidates, count):
            if len({(c.section, c.key) for c in changes}) < count:
                continue
            other = make_plan(changed(plan.config, *changes), resources)
            if fits(other, resources):
                return changes
    return None


def _candidates(config: GrpoConfig | SftConfig, resources: Resources) -> Iterator[Change]:
    """Changes to try, from harmless ones to those that change the training."""
    learner, engines, each = config.learner, [0], 0
    if isinstance(config, GrpoConfig):
        yield from _engine_candidates(config)
        each = config.rollout.tensor_parallel_size
        engines = [config.rollout.min_workers, *_fewer(config.rollout.min_workers)]
    for count in engines if learner.use_gpu else []:
        rest = int(resources.gpus) - count * each
        if rest > 0 and rest != learner.workers:
            yield Change("learner", "workers", rest)
    if not learner.activation_checkpointing:
        yield Change("learner", "activation_checkpointing", True)
    for divisor in (2, 4, 8):
        if learner.token_budget // divisor >= _LEAST_BUDGET:
            yield Change("learner", "token_budget", learner.token_budget // divisor)
    if learner.use_gpu and not learner.cpu_offload:
        yield Change("learner", "cpu_offload", True)
    if config.model.master_dtype == "float32" and learner.strategy == "fsdp":
        yield Change("model", "master_dtype", "bfloat16")


def _engine_candidates(config: GrpoConfig) -> Iterator[Change]:
    """Changes to engines and scorers."""
    rollout, scorers = config.rollout, config.scorer.workers
    if scorers > 1:
        yield Change("scorer", "workers", scorers // 2)
    for share in (0.8, 0.6, 0.4) if rollout.colocate else ():
        if share < rollout.gpu_memory_utilization:
            yield Change("rollout", "gpu_memory_utilization", share)
    for size in () if rollout.colocate else (2, 4, 8):
        if size > rollout.tensor_parallel_size and config.learner.use_gpu:
            yield Change("rollout", "tensor_parallel_size", size)
    if rollout.max_model_len > _SHORTER_CONTEXT:
        yield Change("rollout", "max_model_len", _SHORTER_CONTEXT)
    for count in _fewer(rollout.min_workers):
        yield Change("rollout", "workers", count)


def _fewer(count: int) -> list[int]:
    """Half, and one."""
    return sorted({number for number in (count // 2, 1) if 0 < number < count}, reverse=True)
