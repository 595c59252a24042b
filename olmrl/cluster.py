"""Configuration to resource plan (pure), and the connection to Ray.

`plan_grpo` and `plan_sft` say which processes a run starts, what each reserves, and what a GPU must
hold, before anything is started. `check` compares a plan with what a cluster has and ends in one
sentence of the form "needs X, has Y, do Z".

Memory model (bytes; N parameters, M learner ranks, T token budget, h hidden, L layers): sharded
master weights, gradients and two Adam moments cost N (m + 4 + 2m) / M with m the bytes of a master
weight; FSDP2 holds two unsharded blocks in the compute precision; with activation checkpointing a
block keeps its input, T h per layer, and one block's inner activations live at a time; the chunked
LM head holds chunk x vocabulary logits in float32, twice.
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import ray

from olmrl.config.schema import GrpoConfig, LearnerConfig, ModelConfig, RolloutConfig, SftConfig

GIB = 2.0**30
_BYTES = {"bfloat16": 2, "float32": 4}


class PlanError(ValueError):
    """A run that the cluster cannot hold."""


@dataclass(frozen=True, slots=True)
class ModelShape:
    """The sizes that memory depends on."""

    hidden: int
    layers: int
    intermediate: int
    heads: int
    kv_heads: int
    vocabulary: int
    vision_hidden: int
    vision_layers: int
    vision_intermediate: int
    patch_width: int
    """Numbers in one patch (channels x frames x height x width)."""
    merge: int
    """Patches per merged vision token along one side."""
    tied: bool

    @property
    def block_parameters(self) -> int:
        """Parameters of one language block."""
        kv = self.hidden // self.heads * self.kv_heads
        attention = self.hidden * (2 * self.hidden + 2 * kv) + self.hidden + 2 * kv
        return attention + 3 * self.hidden * self.intermediate + 2 * self.hidden

    @property
    def vision_parameters(self) -> int:
        """Parameters of vision tower and merger."""
        v, inner = self.vision_hidden, self.vision_intermediate
        block = 4 * v * v + 4 * v + 3 * v * inner + 2 * inner + v + 2 * v
        merged = v * self.merge**2
        merger = v + merged * merged + merged + merged * self.hidden + self.hidden
        return self.patch_width * v + self.vision_layers * block + merger

    @property
    def parameters(self) -> int:
        """All parameters."""
        heads = 1 if self.tied else 2
        language = heads * self.vocabulary * self.hidden + self.layers * self.block_parameters
        return language + self.hidden + self.vision_parameters

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> ModelShape:
        """Read the shape out of a Qwen2.5-VL config.json."""
        text = config.get("text_config") or config
        vision = config["vision_config"]
        return cls(
            hidden=text["hidden_size"],
            layers=text["num_hidden_layers"],
            intermediate=text["intermediate_size"],
            heads=text["num_attention_heads"],
            kv_heads=text["num_key_value_heads"],
            vocabulary=text["vocab_size"],
            vision_hidden=vision["hidden_size"],
            vision_layers=vision["depth"],
            vision_intermediate=vision["intermediate_size"],
            patch_width=3 * vision.get("temporal_patch_size", 2) * vision["patch_size"] ** 2,
            merge=vision.get("spatial_merge_size", 2),
            tied=bool(config.get("tie_word_embeddings", text.get("tie_word_embeddings", False))),
        )


def _published(hidden: int, layers: int, inner: int, heads: int, kv: int, v_inner: int, tied: bool):  # type: ignore[no-untyped-def]
    return ModelShape(
        hidden,
        layers,
        inner,
        heads,
        kv,
        151936 if tied else 152064,
        1280,
        32,
        v_inner,
        1176,
        2,
        tied,
    )


PUBLISHED_SHAPES = {
    "Qwen/Qwen2.5-VL-3B-Instruct": _published(2048, 36, 11008, 16, 2, 3420, True),
    "Qwen/Qwen2.5-VL-7B-Instruct": _published(3584, 28, 18944, 28, 4, 3420, False),
    "Qwen/Qwen2.5-VL-32B-Instruct": _published(5120, 64, 27648, 40, 8, 3456, False),
    "Qwen/Qwen2.5-VL-72B-Instruct": _published(8192, 80, 29568, 64, 8, 3456, False),
}
"""Shapes from the published config.json files, so that a plan needs no download."""


def model_shape(path: str) -> ModelShape | None:
    """Shape of a local folder or a published model; None where it cannot be known offline."""
    config = Path(path) / "config.json"
    if config.is_file():
        return ModelShape.from_config(json.loads(config.read_text("utf-8")))
    if "olmOCR-2-7B" in path:
        return PUBLISHED_SHAPES["Qwen/Qwen2.5-VL-7B-Instruct"]
    return PUBLISHED_SHAPES.get(path)


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


@dataclass(frozen=True, slots=True)
class Resources:
    """What a cluster has."""

    cpus: float
    gpus: float
    gpu_memory_gb: float | None = None
    """Memory of one GPU where known."""
    nodes: int = 1


def parse_cluster(text: str) -> Resources:
    """Read `2x8xH100-80G`: nodes x GPUs per node x type-memory (32 CPUs per GPU node slot assumed).

    Raises:
        PlanError: not of that form.
    """
    match = re.fullmatch(r"(\d+)x(\d+)x[A-Za-z0-9]+-(\d+)G", text)
    if match is None:
        raise PlanError(f"--cluster {text}: write nodes x GPUs x type-memory, e.g. 2x8xH100-80G")
    nodes, gpus, memory = (int(group) for group in match.groups())
    return Resources(cpus=16.0 * nodes * gpus, gpus=nodes * gpus, gpu_memory_gb=memory, nodes=nodes)


def learner_memory(
    shape: ModelShape, model: ModelConfig, learner: LearnerConfig, with_reference: bool
) -> dict[str, float]:
    """GiB per learner rank by component (formula in the module docstring)."""
    count, ranks = shape.parameters, learner.workers
    compute, master = _BYTES[model.dtype], _BYTES[model.master_dtype]
    tokens = learner.token_budget
    per_layer = tokens * shape.hidden * compute
    inner = tokens * (4 * shape.hidden + 3 * shape.intermediate) * compute
    activations = per_layer * shape.layers + inner
    if not learner.activation_checkpointing:
        activations = inner * shape.layers
    host = learner.cpu_offload
    memory = {
        "weights": 0.0 if host else count * master / ranks,
        "gradients": 0.0 if host else count * 4 / ranks,
        "optimizer": 0.0 if host else count * 2 * master / ranks,
        "unsharded blocks": 2 * shape.block_parameters * compute if ranks > 1 else 0.0,
        "activations": float(activations),
        "logits": 2.0 * learner.logprob_chunk * shape.vocabulary * 4,
        "vision": 4.0 * tokens * shape.vision_hidden * shape.vision_layers * compute,
    }
    if with_reference:
        memory["reference"] = count * compute / ranks
    return {name: size / GIB for name, size in memory.items() if size}


def engine_memory(shape: ModelShape, rollout: RolloutConfig) -> dict[str, float]:
    """GiB per engine GPU: weights, and the KV cache of `max_num_seqs` full-length sequences."""
    size = _BYTES[rollout.dtype]
    per_token = 2 * shape.layers * (shape.hidden // shape.heads) * shape.kv_heads * size
    prompt_and_completion = min(rollout.max_model_len, 2500 + rollout.sampling.max_tokens)
    wanted = per_token * prompt_and_completion * rollout.max_num_seqs
    split = rollout.tensor_parallel_size
    return {
        "weights": shape.parameters * size / split / GIB,
        "KV cache (full)": wanted / split / GIB,
    }


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


def connect(address: str | None, local_cpus: int | None, plan: Plan, dashboard: bool) -> Resources:
    """Join the job's Ray cluster, or start one on this machine with the CPUs the plan needs.

    A local cluster counts CPUs logically: small machines run all roles side by side. Everything it
    opens listens on loopback.

    Raises:
        PlanError: the cluster is too small.
    """
    joins = address or os.environ.get("RAY_ADDRESS")
    os.environ.setdefault("RAY_AUTH_MODE", "disabled")
    # Ray runs workers at the lowest priority by default; ours are the work, not the background.
    os.environ.setdefault("RAY_worker_niceness", "0")
    settings: dict[str, Any] = {
        "runtime_env": {"env_vars": worker_environment()},
        "logging_level": "ERROR",
        "log_to_driver": False,
        "configure_logging": False,
    }
    if joins:
        ray.init(address=joins, **settings)
    else:
        count = local_cpus or max(round(plan.cpus + 1), os.cpu_count() or 1)
        check(
            replace(plan, roles=tuple(replace(r, gpus=0.0) for r in plan.roles)),
            Resources(count, 0),
        )
        _start_local(num_cpus=count, include_dashboard=dashboard, **settings)
    available = ray.cluster_resources()
    resources = Resources(available.get("CPU", 0.0), available.get("GPU", 0.0))
    check(plan, resources)
    return resources


def _start_local(**settings: Any) -> None:
    """Start Ray on loopback; a busy machine may need more than Ray's fixed 30 s, so try again."""
    for attempt in range(_START_ATTEMPTS):
        try:
            ray.init(dashboard_host="127.0.0.1", _node_ip_address="127.0.0.1", **settings)
            return
        except Exception as error:  # Ray raises the bare class for this
            if "timed out during startup" not in str(error) or attempt + 1 == _START_ATTEMPTS:
                raise
            ray.shutdown()


def start_ray(engines: int, gpus_per_engine: int | None) -> int:
    """Start or join Ray for a command that only needs engines.

    Returns:
        GPUs per engine: as asked, or 1 where the cluster has any.

    Raises:
        PlanError: fewer GPUs than asked for.
    """
    role = Role("RolloutWorker", engines, 1.0, float(gpus_per_engine or 0))
    resources = connect(None, None, Plan((role,), None), dashboard=False)
    if gpus_per_engine is not None:
        return gpus_per_engine
    return 1 if resources.gpus >= engines else 0


_START_ATTEMPTS = 3

_PASSED_ON = ("HF_HUB_OFFLINE", "HF_HOME", "OLMRL_CACHE", "OLMRL_EQUATIONS_RENDERER")
"""Variables that workers must share with the Driver."""


def worker_environment() -> dict[str, str]:
    """Environment of every worker: quiet libraries, one thread unless the user says more."""
    defaults = {
        "OMP_NUM_THREADS": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "PYTHONWARNINGS": "ignore",
        "TRANSFORMERS_VERBOSITY": "error",
    }
    passed = {k: v for k, v in os.environ.items() if k in _PASSED_ON}
    return {**{k: os.environ.get(k, v) for k, v in defaults.items()}, **passed}
