"""Configuration to resource plan (pure)."""

from __future__ import annotations

from dataclasses import dataclass, field

from olmrl.cluster.memory import engine_memory, learner_memory
from olmrl.cluster.resources import PlanError, Resources
from olmrl.cluster.shape import ModelShape, model_shape
from olmrl.config.schema import GrpoConfig, SftConfig


@dataclass(frozen=True, slots=True)
class Role:
    """Processes of one kind."""

    name: str
    count: int
    cpus: float
    """Logical CPUs each."""
    gpus: float
    """GPUs each."""
    memory: dict[str, float] = field(default_factory=dict)
    """GiB per GPU (or per process without GPUs), by component."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run starts."""

    roles: tuple[Role, ...]
    shape: ModelShape | None

    @property
    def cpus(self) -> float:
        """Logical CPUs of all processes."""
        return sum(r.count * r.cpus for r in self.roles)

    @property
    def gpus(self) -> float:
        """GPUs of all processes (colocated roles count once)."""
        return sum(r.count * r.gpus for r in self.roles)


def plan_grpo(config: GrpoConfig, with_gpu: bool = True) -> Plan:
    """Processes of a GRPO run."""
    shape = model_shape(config.model.path)
    use_gpu = config.learner.use_gpu and with_gpu
    reference = config.algorithm.kl_beta > 0
    engine_gpus = float(config.rollout.tensor_parallel_size) if use_gpu else 0.0
    if config.rollout.colocate:
        engine_gpus = 0.0
    roles = (
        Role(
            "RolloutWorker",
            config.rollout.min_workers,
            config.rollout.cpus_per_worker,
            engine_gpus,
            engine_memory(shape, config.rollout) if shape else {},
        ),
        Role(
            "LearnerWorker",
            config.learner.workers,
            config.learner.cpus_per_worker,
            1.0 if use_gpu else 0.0,
            learner_memory(shape, config.model, config.learner, reference) if shape else {},
        ),
        Role("Scorer", config.scorer.workers, config.scorer.cpus_per_worker, 0.0),
        Role("Ray Data task", 1, config.data.render_cpus, 0.0),
    )
    return Plan(roles, shape)


def plan_sft(config: SftConfig) -> Plan:
    """Processes of an SFT run."""
    shape = model_shape(config.model.path)
    learner = config.learner
    roles = (
        Role(
            "LearnerWorker",
            learner.workers,
            learner.cpus_per_worker,
            1.0 if learner.use_gpu else 0.0,
            learner_memory(shape, config.model, learner, False) if shape else {},
        ),
        Role("Ray Data task", 1, 1.0, 0.0),
    )
    return Plan(roles, shape)


def check(plan: Plan, resources: Resources) -> None:
    """Compare a plan with a cluster.

    Raises:
        PlanError: too few CPUs, GPUs or too little GPU memory; names the role and the remedy.
    """
    if plan.gpus > resources.gpus:
        raise PlanError(
            f"the run needs {plan.gpus:g} GPUs ({_shares(plan, 'gpus')}), the cluster has "
            f"{resources.gpus:g}; lower learner.workers or rollout.workers, or set "
            "learner.use_gpu=false"
        )
    if plan.cpus > resources.cpus:
        raise PlanError(
            f"the run needs {plan.cpus:g} logical CPUs ({_shares(plan, 'cpus')}), the cluster has "
            f"{resources.cpus:g}; lower the workers, or start Ray with more (--num-cpus)"
        )
    if resources.gpu_memory_gb is None:
        return
    for role in plan.roles:
        need = sum(v for k, v in role.memory.items() if k != "KV cache (full)")
        if role.gpus and need > resources.gpu_memory_gb:
            largest = max(role.memory, key=lambda k: role.memory[k])
            raise PlanError(
                f"{role.name} needs {need:.0f} GiB per GPU (most of it {largest}), a GPU has "
                f"{resources.gpu_memory_gb:g}; use more learner.workers, a smaller "
                "learner.token_budget, learner.cpu_offload=true, or a larger "
                "rollout.tensor_parallel_size"
            )


def _shares(plan: Plan, kind: str) -> str:
    return ", ".join(
        f"{r.count} {r.name} x {getattr(r, kind):g}" for r in plan.roles if getattr(r, kind)
    )


def describe(plan: Plan, resources: Resources | None = None) -> str:
    """The plan as text for `--dry-run`."""
    lines = ["role             count  CPUs  GPUs  memory each (GiB)"]
    for r in plan.roles:
        memory = ", ".join(f"{name} {size:.2f}" for name, size in r.memory.items())
        lines.append(f"{r.name:<16} {r.count:>5} {r.cpus:>5g} {r.gpus:>5g}  {memory}")
    lines.append(f"{'total':<16} {'':>5} {plan.cpus:>5g} {plan.gpus:>5g}")
    if plan.shape:
        lines.append(f"model: {plan.shape.parameters / 1e6:,.1f} M parameters")
    else:
        lines.append("model: shape unknown offline, so memory is not planned")
    if resources:
        lines.append(f"cluster: {resources.cpus:g} CPUs, {resources.gpus:g} GPUs")
    return "\n".join(lines)
