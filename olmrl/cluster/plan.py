"""Configuration to resource plan (pure): roles, what each process reserves and holds, and whether
a cluster can provide it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from olmrl.cluster.memory import (
    BYTES,
    RUNTIME_BYTES,
    Memory,
    Row,
    Teacher,
    at_rest,
    engine_memory,
    kv_bytes_per_token,
    learner_memory,
    loading_bytes,
    on_device,
    state_bytes,
    total,
    transcription_memory,
)
from olmrl.cluster.placement import Bundle, Seat, bundle, place
from olmrl.cluster.resources import PlanError, Resources
from olmrl.cluster.shape import model_shape, quantised_parameters
from olmrl.cluster.workload import Workload, grpo_workload, sft_workload
from olmrl.config.schema import (
    CheckpointConfig,
    GrpoConfig,
    LearnerConfig,
    ModelConfig,
    SftConfig,
    TeacherConfig,
)
from olmrl.hardware import GIB
from olmrl.models.shape import ModelShape

ENGINE, LEARNER, SCORER, DATA = "RolloutWorker", "LearnerWorker", "Scorer", "data worker"
_PROCESS_BYTES = {LEARNER: 0.65 * GIB, SCORER: 0.15 * GIB, DATA: 0.3 * GIB}
"""Measured: peak resident size of a process without GPU, with its libraries and almost no data."""
_ENGINE_BYTES = {"vllm": 1.3 * GIB, "hf": 0.6 * GIB}
"""Measured likewise, by `rollout.engine`."""
_GPU_PROCESS_BYTES = {ENGINE: 4 * GIB, LEARNER: 3 * GIB}
"""Assumed: likewise with GPU libraries."""


@dataclass(frozen=True, slots=True)
class Role:
    """Processes of one kind."""

    name: str
    count: int
    cpus: float
    """Logical CPUs each."""
    gpus: float
    """GPUs each."""
    memory: Memory = field(default_factory=dict)
    """Peak bytes per GPU by component; without GPUs, of the process."""
    host: Memory = field(default_factory=dict)
    """Peak bytes of further host memory of one process, by component."""
    loading: float = 0.0
    """Bytes on a GPU while the model is loaded, before it is sharded."""
    reading: Memory = field(default_factory=dict)
    """Like `memory`, while evaluation pages are transcribed; empty if none are."""
    extra: Mapping[str, float] = field(default_factory=dict)
    """Custom Ray resources each."""

    @property
    def bundle(self) -> Bundle:
        """What one process requests from Ray."""
        return bundle(self.cpus, self.gpus, self.extra)

    @property
    def peak(self) -> float:
        """Bytes of `memory`, `loading` or `reading`, whichever is largest."""
        return max(total(self.memory), self.loading, total(self.reading))

    @property
    def host_bytes(self) -> float:
        """Host memory of one process."""
        held = max(total(self.memory), total(self.reading))
        return total(self.host) + (0.0 if self.gpus else held)


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run starts."""

    roles: tuple[Role, ...]
    shape: ModelShape | None
    config: GrpoConfig | SftConfig | None = None
    """What it was made from; None for commands that have no configuration."""

    @property
    def cpus(self) -> float:
        """Logical CPUs of all processes."""
        return sum(r.count * r.cpus for r in self.roles)

    @property
    def gpus(self) -> float:
        """GPUs of all processes (colocated roles share them)."""
        return sum(r.count * r.gpus for r in self.roles)

    def seats(self, resources: Resources) -> tuple[Seat, ...]:
        """Where each process goes.

        Raises:
            PlanError: one has no room.
        """
        wanted = [(role.name, role.bundle) for role in self.roles for _ in range(role.count)]
        return place(wanted, resources)


def make_plan(config: GrpoConfig | SftConfig, resources: Resources | None = None) -> Plan:
    """The plan of either kind of run; `resources`, if given, determine the KV cache."""
    if isinstance(config, SftConfig):
        return plan_sft(config)
    return plan_grpo(config, resources)


def plan_grpo(config: GrpoConfig, resources: Resources | None = None) -> Plan:
    """Processes of a GRPO run."""
    shape = model_shape(config.model.path)
    if shape:
        _check_adapter(config, shape)
    work = grpo_workload(config, shape) if shape else None
    with_reference = config.algorithm.kl_beta > 0
    teacher = _teacher(config.algorithm.teacher)
    completions = config.rollout.group_size if config.learner.page_once else 1
    learner = _learner(
        shape,
        work,
        config.model,
        config.learner,
        config.checkpoint,
        completions,
        with_reference,
        config.rollout.learner_gpu_share,
        teacher,
    )
    scorer = config.scorer
    scorers = Role(
        SCORER,
        scorer.workers + 1,  # one for held-out pages
        scorer.cpus_per_worker,
        0.0,
        {},
        # scorer.max_memory_gb is where a runaway call is stopped, not what scoring needs.
        {"process": _PROCESS_BYTES[SCORER]},
        extra=scorer.resources,
    )
    pages = config.data.prefetch_pages * work.image_bytes if work else 0.0
    data = _data(pages, config.data.render_cpus, config.data.resources)
    engine = _engine(config, shape, work, resources)
    return Plan((engine, learner, scorers, data), shape, config)


def _check_adapter(config: GrpoConfig, shape: ModelShape) -> None:
    """See that vLLM can apply the adapters that it is sent alone.

    Raises:
        PlanError: some sit in the vision tower or the projector.
    """
    if config.synced_adapter is None or config.rollout.engine != "vllm":
        return
    elsewhere = shape.vision.matrices | shape.merger.matrices
    targets = config.synced_adapter.target_modules
    found = [name for name in targets if name.rpartition(".")[2] in elsewhere]
    if found:
        raise PlanError(
            f"weight_sync.lora: adapter needs adapters in the language model alone, and this "
            f"model's vision tower or projector has layers named {', '.join(found)} too; leave "
            "them out of model.lora.target_modules, or set merged"
        )


def plan_sft(config: SftConfig) -> Plan:
    """Processes of an SFT run."""
    shape = model_shape(config.model.path)
    work = sft_workload(config, shape) if shape else None
    learner = _learner(shape, work, config.model, config.learner, config.checkpoint)
    generate = config.evaluation.generate
    if generate is not None and shape and work:
        reading = transcription_memory(shape, config.model, config.learner, work, generate)
        learner = replace(learner, reading=reading)
    ahead = config.data.prefetch_pages * config.learner.workers
    pages = float(ahead * work.image_bytes) if work else 0.0
    data = _data(pages, 1.0, config.data.resources)
    if generate is None:
        return Plan((learner, data), shape, config)
    scorer = Role(SCORER, 1, 1.0, 0.0, {}, {"process": _PROCESS_BYTES[SCORER]})
    return Plan((learner, data, scorer), shape, config)


def _teacher(config: TeacherConfig | None) -> Teacher | None:
    """A teacher of known shape."""
    shape = model_shape(config.path, "algorithm.teacher.path") if config else None
    return Teacher(shape, config.use == "loss") if config and shape else None


def _data(pages: float, cpus: float, resources: Mapping[str, float]) -> Role:
    """One Ray Data task, and the pages waiting next to it."""
    process = {"process": _PROCESS_BYTES[DATA]}
    return Role(DATA, 1, cpus, 0.0, {"pages": pages}, process, extra=resources)


def _engine(
    config: GrpoConfig,
    shape: ModelShape | None,
    work: Workload | None,
    resources: Resources | None,
) -> Role:
    rollout = config.rollout
    on_gpu = config.learner.use_gpu
    process = _GPU_PROCESS_BYTES[ENGINE] if on_gpu else _ENGINE_BYTES[rollout.engine]
    gpu_memory = resources.gpu_memory if resources and on_gpu else None
    gpus = rollout.tensor_parallel_size * rollout.gpu_share if on_gpu else 0.0
    memory: Memory = {}
    if shape and work:
        rounded = quantised_parameters(config.model.path) if rollout.quantization else 0
        adapter = config.synced_adapter
        memory = engine_memory(shape, rollout, work, gpu_memory, rounded=rounded, adapter=adapter)
    return Role(
        ENGINE,
        rollout.min_workers,
        rollout.cpus_per_worker,
        gpus,
        memory,
        {"process": process},
        extra=rollout.resources,
    )


def _learner(
    shape: ModelShape | None,
    work: Workload | None,
    model: ModelConfig,
    learner: LearnerConfig,
    checkpoint: CheckpointConfig,
    completions: int = 1,
    with_reference: bool = False,
    share: float = 1.0,
    teacher: Teacher | None = None,
) -> Role:
    """The ranks; `share` is the fraction of a GPU that Ray counts for each."""
    memory: Memory = {}
    process = _GPU_PROCESS_BYTES if learner.use_gpu else _PROCESS_BYTES
    host: Memory = {"process": process[LEARNER]}
    loading = 0.0
    if shape and work:
        row = Row.of(work, learner.token_budget, completions)
        memory = learner_memory(
            shape, model, learner, row, with_reference=with_reference, teacher=teacher
        )
        loading = loading_bytes(shape, model, learner, with_reference, teacher)
        state = at_rest(shape, model, learner, with_reference, teacher)
        if learner.use_gpu:
            wholes = [shape.parameters * BYTES[model.master_dtype]]
            if teacher is not None:
                wholes.append(teacher.shape.parameters * BYTES[learner.frozen_dtype(model)])
            host["model while loading"] = max(wholes)
            off = total(state) - total(on_device(state, learner))
            if off:
                host["off-loaded"] = off
        if checkpoint.asynchronous:
            host["checkpoint being written"] = (
                state["weights"] + state["optimizer"] + state.get("lower bits", 0.0)
            )
    gpus = share if learner.use_gpu else 0.0
    cpus, extra = learner.cpus_per_worker, learner.resources
    return Role(LEARNER, learner.workers, cpus, gpus, memory, host, loading, extra)


def check(plan: Plan, resources: Resources) -> None:
    """Compare a plan with a cluster.

    Raises:
        PlanError: too few CPUs, GPUs, or too little memory; names the role and the remedy.
    """
    if plan.gpus > resources.gpus:
        trains = any(role.name == LEARNER for role in plan.roles)
        keys = "learner.workers or rollout.workers, or set learner.use_gpu=false"
        raise PlanError(
            f"the run needs {plan.gpus:g} GPUs ({_shares(plan, 'gpus')}), the cluster has "
            f"{resources.gpus:g}; lower {keys if trains else '--workers or --gpus'}"
        )
    if plan.cpus > resources.cpus:
        raise PlanError(
            f"the run needs {plan.cpus:g} logical CPUs ({_shares(plan, 'cpus')}), the cluster has "
            f"{resources.cpus:g}; lower the workers, or start Ray with more (--num-cpus)"
        )
    seats = plan.seats(resources)
    for role in plan.roles:
        if role.gpus and resources.gpu_memory is not None:
            _check_gpu(plan, role, resources.gpu_memory)
    if resources.gpu_memory is not None:
        _check_colocation(plan, resources.gpu_memory)
    for number, node in enumerate(resources.nodes):
        here = [
            role for s in seats if s.node == number for role in plan.roles if role.name == s.role
        ]
        need = sum(role.host_bytes for role in here)
        if node.memory is not None and need > node.memory:
            raise PlanError(
                f"node {number} needs {need / GIB:.0f} GiB of host memory for its "
                f"{len(here)} processes, but has {node.memory / GIB:.0f}; spread learner.workers "
                "over more nodes, or set checkpoint.asynchronous=false"
            )


def _check_gpu(plan: Plan, role: Role, gpu_memory: float) -> None:
    """Whether a role's peak fits on one GPU."""
    need = role.peak + RUNTIME_BYTES
    if role.name == ENGINE and isinstance(plan.config, GrpoConfig) and plan.shape:
        rollout = plan.config.rollout
        longest = 1.0 * rollout.max_model_len * kv_bytes_per_token(plan.shape, rollout.dtype)
        longest += state_bytes(plan.shape)
        longest /= rollout.tensor_parallel_size
        fixed = total(role.memory) - role.memory["KV cache"]
        need = (fixed + longest) / rollout.gpu_memory_utilization
    if need <= gpu_memory:
        return
    held = max(role.memory, role.reading, key=total)
    largest = max(held, key=lambda k: held[k])
    if role.loading > total(held):
        largest = "the whole model while it is loaded"
    raise PlanError(
        f"{role.name} needs {need / GIB:.0f} GiB per GPU (mainly {largest}), a GPU has "
        f"{gpu_memory / GIB:.0f}"
    )


def _check_colocation(plan: Plan, gpu_memory: float) -> None:
    """Whether an engine fits next to what a sleeping learner keeps on its GPU."""
    config = plan.config
    if not isinstance(config, GrpoConfig) or not config.rollout.colocate or not plan.shape:
        return
    model, learner = config.model, config.learner
    with_reference = config.algorithm.kl_beta > 0
    teacher = _teacher(config.algorithm.teacher)
    state = at_rest(plan.shape, model, learner, with_reference, teacher)
    del state["gradients"]  # freed between steps
    kept = total(on_device(state, learner))
    room = (gpu_memory - kept - RUNTIME_BYTES) / gpu_memory
    if config.rollout.gpu_memory_utilization > room:
        least = max(0.0, room)
        raise PlanError(
            f"a colocated engine has {least:.0%} of a GPU left next to the learner's "
            f"{kept / GIB:.0f} GiB; lower rollout.gpu_memory_utilization to {least:.2f} or less, "
            "or set learner.cpu_offload=true"
        )


def _shares(plan: Plan, kind: str) -> str:
    return ", ".join(
        f"{r.count} {r.name} x {getattr(r, kind):g}" for r in plan.roles if getattr(r, kind)
    )
