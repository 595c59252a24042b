"""The plan as text: what `--dry-run` prints.

Every figure says how it came about: computed (by formula), simulated, measured, or assumed.
"""

from __future__ import annotations

from collections import Counter

from olmrl.cluster.advise import (
    better_split,
    engine_sequences,
    predict,
    remedy,
    speeds_for,
    staler,
    step_seconds,
)
from olmrl.cluster.memory import RUNTIME_BYTES, Memory, state_bytes, total
from olmrl.cluster.plan import ENGINE, Plan, Role, check, make_plan
from olmrl.cluster.resources import PlanError, Resources
from olmrl.cluster.shape import model_shape
from olmrl.cluster.simulation.loop import Forecast
from olmrl.cluster.simulation.speeds import sft_step_seconds
from olmrl.cluster.workload import grpo_workload
from olmrl.config.schema import GrpoConfig
from olmrl.hardware import GIB
from olmrl.progress import in_words

_LONG_STEP_S = 600.0
"""Seconds of a step that are told in minutes or hours as well."""


def describe(plan: Plan, resources: Resources | None = None) -> str:
    """Roles, memory, placement and expected step time, as far as they are known.

    Args:
        plan: what a run starts.
        resources: the cluster; without it, nothing is placed or compared.
    """
    if plan.config is not None:
        plan = make_plan(plan.config, resources)
    lines = [*_roles(plan), *_model(plan), ""]
    for role in plan.roles:
        lines += _memory(plan, role, resources)
    if resources is not None:
        lines += ["", f"cluster: {resources}", *_seats(plan, resources)]
    return "\n".join([*lines, *_time(plan, resources)])


def refusal(plan: Plan, resources: Resources) -> PlanError | None:
    """Why a plan does not fit and which keys to change so that it does; None if it fits."""
    if plan.config is not None:
        plan = make_plan(plan.config, resources)
    try:
        check(plan, resources)
    except PlanError as error:
        changes = remedy(plan, resources)
        advice = "no small change makes it fit: use more or larger GPUs, or a smaller model"
        if changes:
            advice = "it fits with " + " ".join(str(change) for change in changes)
        return PlanError(f"{error}; {advice}")
    return None


def _roles(plan: Plan) -> list[str]:
    lines = ["role             count  CPUs  GPUs   each: GiB per GPU  GiB of host memory"]
    for role in plan.roles:
        gpu = f"{_gib(role.peak):.1f}" if role.gpus else "-"
        lines.append(
            f"{role.name:<16} {role.count:>5} {role.cpus:>5g} {role.gpus:>5g} {gpu:>19} "
            f"{_gib(role.host_bytes):>19.1f}"
        )
    lines.append(f"{'total':<16} {'':>5} {plan.cpus:>5g} {plan.gpus:>5g}")
    lines.append(
        "counts are the configuration's; GiB are computed from the model's sizes, a process's own "
        "is measured on CPUs and assumed for GPUs"
    )
    return lines


def _model(plan: Plan) -> list[str]:
    if plan.shape is None:
        return ["model: shape unknown offline, so memory and time are not planned"]
    trained = plan.shape.trained(plan.config.model) if plan.config else plan.shape.parameters
    text = f"model, computed: {plan.shape.parameters / 1e6:,.1f} M parameters"
    if trained < plan.shape.parameters:
        text += f", {trained / 1e6:,.1f} M of them trained"
    return [text, *_teacher(plan)]


def _teacher(plan: Plan) -> list[str]:
    config = plan.config
    if not isinstance(config, GrpoConfig) or config.algorithm.teacher is None:
        return []
    shape = model_shape(config.algorithm.teacher.path, "algorithm.teacher.path")
    if shape is None:
        return ["teacher: shape unknown offline, so its memory and time are not planned"]
    return [f"teacher, computed: {shape.parameters / 1e6:,.1f} M parameters, frozen"]


def _memory(plan: Plan, role: Role, resources: Resources | None) -> list[str]:
    """Lines on the GPU and host memory of this role."""
    where = "per GPU, GiB, computed" if role.gpus else "host, GiB, computed"
    lines = []
    if role.memory:
        lines.append(f"{role.name} {where}: {_parts(role.memory)}")
    if role.loading > total(role.memory):
        lines.append(
            f"{role.name} while loading, GiB, computed: {_gib(role.loading):.1f} "
            "(whole, then sharded)"
        )
    if role.reading:
        lines.append(f"{role.name} while transcribing, GiB, computed: {_parts(role.reading)}")
    if role.gpus:
        lines.append(f"{role.name} host, GiB, computed (process: assumed): {_parts(role.host)}")
    if role.name == ENGINE and role.memory and plan.shape and isinstance(plan.config, GrpoConfig):
        work = grpo_workload(plan.config, plan.shape)
        state = state_bytes(plan.shape) / 2**20
        lines.append(
            f"{role.name} KV cache, computed: {engine_sequences(plan):,} sequences of mean length "
            f"({work.prompt} prompt tokens shared by {plan.config.rollout.group_size}, "
            f"{work.completion:.0f} of completion assumed)"
            + (f", with {state:.1f} MiB of recurrent state each" if state else "")
        )
    if role.gpus and resources and resources.gpu_memory:
        left = resources.gpu_memory - role.peak - RUNTIME_BYTES
        lines.append(
            f"{role.name} GPU left, GiB, computed: {_gib(left):.1f} of "
            f"{_gib(resources.gpu_memory):.0f}, after {_gib(RUNTIME_BYTES):.0f} assumed for CUDA "
            "and NCCL"
        )
    return lines


def _parts(memory: Memory) -> str:
    return ", ".join(f"{name} {_gib(size):.2f}" for name, size in memory.items())


def _seats(plan: Plan, resources: Resources) -> list[str]:
    """One line per node."""
    try:
        seats = plan.seats(resources)
    except PlanError as error:
        return [f"placement: {error}"]
    lines = []
    for number in range(len(resources.nodes)):
        here = Counter(seat.role for seat in seats if seat.node == number)
        text = ", ".join(f"{count} {role}" for role, count in here.items()) or "nothing"
        lines.append(f"  node {number}: {text}")
    return lines


def _time(plan: Plan, resources: Resources | None) -> list[str]:
    """Expected step time."""
    if plan.config is None or plan.shape is None:
        return []
    speeds = speeds_for(plan.config, resources)
    if speeds is None:
        return ["step time: not planned without --cluster and a known GPU"]
    if isinstance(plan.config, GrpoConfig):
        outcome = predict(plan, speeds)
        assert outcome is not None
        lines = _outcome(outcome)
    else:
        seconds = sft_step_seconds(plan.config, plan.shape, speeds)
        lines = [f"step, computed: {_seconds(seconds)}"]
    return ["", *lines, f"  speeds: {speeds.source}"]


def _seconds(seconds: float) -> str:
    """With the same in words, where it is long."""
    words = f" ({in_words(seconds)})" if seconds >= _LONG_STEP_S else ""
    return f"{seconds:,.1f} s{words}"


def _outcome(outcome: Forecast) -> list[str]:
    shares = ", ".join(f"{name} {share:.0%}" for name, share in outcome.shares.items())
    return [
        f"step, simulated: {_seconds(outcome.step_s)}; the learner's time goes into {shares}",
        f"  idle, simulated: engines {outcome.engines_idle:.0%}, learner ranks "
        f"{outcome.learners_idle:.0%}, scorers {outcome.scorers_idle:.0%}",
    ]


def improvements(plan: Plan, resources: Resources) -> list[str]:
    """A faster split of the GPUs, and a higher staleness if that is faster."""
    plan = plan if plan.config is None else make_plan(plan.config, resources)
    if not isinstance(plan.config, GrpoConfig) or plan.shape is None:
        return []
    speeds = speeds_for(plan.config, resources)
    if speeds is None:
        return []
    lines = []
    found = better_split(plan, resources, speeds)
    if found is not None:
        split, gain = found
        lines.append(
            f"  {gain:.2f} x as fast, simulated: rollout.workers={split.engines} "
            f"learner.workers={split.learners} ({split.outcome.step_s:.1f} s per step)"
        )
    late = staler(plan, speeds)
    if late is not None:
        bound, outcome = late
        lines.append(
            f"  algorithm.max_staleness={bound}, simulated: {outcome.step_s:.1f} s per step"
        )
    return lines


def slow(plan: Plan, resources: Resources) -> list[str]:
    """A line on a run that fits on CPUs, and whose steps take too long there."""
    seconds = None if resources.gpus else step_seconds(plan, resources)
    if seconds is None or seconds < _LONG_STEP_S:
        return []
    return [
        f"  slow: a step takes about {in_words(seconds)} on CPUs "
        f"({'simulated' if isinstance(plan.config, GrpoConfig) else 'computed'}), so that this is "
        "a run for GPUs (`olmrl init` with --hardware 8xH100 or the like writes one)"
    ]


def unused(plan: Plan, resources: Resources) -> list[str]:
    """A line on GPUs that the run leaves idle."""
    left = int(resources.gpus - plan.gpus)
    if plan.config is None or not plan.gpus or left < 1:
        return []
    more = plan.config.learner.workers + left
    use = f"learner.workers={more} uses them all"
    if isinstance(plan.config, GrpoConfig) and not plan.config.rollout.colocate:
        use += ", or give some to rollout.workers"
    return [f"  {left} of {resources.gpus:g} GPUs stay unused: {use}"]


def _gib(size: float) -> float:
    return size / GIB
