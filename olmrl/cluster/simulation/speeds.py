"""How fast a machine does each part and where each figure comes from; seconds per operation.

There are two kinds of figures, and each says which it is: *measured* ones, fitted to the metrics of
a real run (`calibrate`), and *assumed* ones for GPUs, data-sheet peaks times the shares below.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from olmrl.cluster.memory import BYTES, is_sharded, kv_bytes_per_token, sent_bytes, state_bytes
from olmrl.cluster.shape import model_shape, quantised_parameters
from olmrl.cluster.simulation.batching import Costs, Lengths
from olmrl.cluster.simulation.loop import Setup
from olmrl.cluster.workload import Workload, grpo_workload, sft_workload
from olmrl.config.schema import GrpoConfig, LearnerConfig, ModelConfig, SftConfig
from olmrl.hardware import Gpu
from olmrl.models.cost import CostModel
from olmrl.models.shape import ModelShape

LENGTH_SPREAD = 0.6
"""Assumed: standard deviation of log completion length (the tail is a few times the mean)."""
SCORE_S = 1 / 396
"""Measured on one CPU core: benchmarks/results/rewards.json (completions_per_cpu_second, ours)."""
PACK_S = 0.0012
"""Measured: the patches of a 1288 px page into a row, on one CPU core."""

PREFILL_SHARE = 0.5
"""Assumed: share of a GPU's peak in a vLLM prefill."""
DECODE_SHARE = 0.7
"""Assumed: share of a GPU's memory bandwidth in a decode step."""
DECODE_STEP_S = 0.004
"""Assumed: vLLM's own work per step, outputs and sampling included."""
LEARNER_SHARE = 0.35
"""Assumed: MFU of the learner, without recomputation (best published for this task: 0.19, with
repeated prompts; text-only RL: 0.36). Measured on an H200 since: 0.30 to 0.34 (benchmarks/gpu)."""
LINK_SHARE = 0.5
"""Assumed: share of a link's bandwidth in collectives and weight transfer."""
NODE_BANDWIDTH = 50e9
"""Assumed: bytes per second of a GPU to another node (400 Gb/s)."""
SYNC_S = 0.3
"""Assumed: fixed part of a weight update (pause, calls per engine, resume)."""
STORE_BANDWIDTH = 2.5e8
"""Measured: object store to one engine, 60 MB, benchmarks/results/weight_sync.json."""
CPU_MEMORY_BANDWIDTH = 1e10
"""Measured: memcpy on one core, benchmarks/results/weight_sync.json."""
CORE_FLOPS = 2e10
"""Assumed: operations per second of a CPU core in a model of published size; the learner of the
quick start's tiny one reached 1.9e10 (`MEASURED_CPU`, 2 cores)."""
HANDOVER_S = 0.05
"""Assumed: one hand-over through the Driver."""


@dataclass(frozen=True, slots=True)
class Speeds:
    """What one engine GPU, one learner rank and one scorer do per second."""

    source: str
    """Where the figures come from, for display."""
    prefill_flops: float
    """Operations per second of a prefill."""
    decode_flops: float
    """Operations per second of a decode step's arithmetic."""
    memory_bandwidth: float
    """Bytes per second at which a decode step reads weights, keys and values."""
    decode_step_s: float
    """Fixed seconds of a decode step."""
    learner_flops: float
    """Model operations per second of a training pass, without recomputation."""
    learner_step_s: float
    """Fixed seconds of an optimizer step."""
    link_bandwidth: float
    """Bytes per second between learner ranks, and from them to the engines."""
    sync_s: float
    """Fixed seconds of a weight update."""
    score_s: float
    """Seconds for one completion on one scorer."""
    pack_s: float
    """Seconds to put one encoded page into a row, in the learner."""
    handover_s: float
    """Seconds for one hand-over through the Driver."""


def assumed(gpu: Gpu, name: str, one_node: bool) -> Speeds:
    """Speeds of a GPU that has not been measured."""
    link = gpu.link_bandwidth if one_node else min(gpu.link_bandwidth, NODE_BANDWIDTH)
    return Speeds(
        source=(
            f"{name}: data sheet times assumed shares (prefill {PREFILL_SHARE:.0%} and learner "
            f"{LEARNER_SHARE:.0%} of peak, decode {DECODE_SHARE:.0%} of memory bandwidth); scoring "
            "and encoding measured on a CPU core"
        ),
        prefill_flops=gpu.flops * PREFILL_SHARE,
        decode_flops=gpu.flops * PREFILL_SHARE,
        memory_bandwidth=gpu.memory_bandwidth * DECODE_SHARE,
        decode_step_s=DECODE_STEP_S,
        learner_flops=gpu.flops * LEARNER_SHARE,
        learner_step_s=0.1,
        link_bandwidth=link * LINK_SHARE,
        sync_s=SYNC_S,
        score_s=SCORE_S,
        pack_s=PACK_S,
        handover_s=HANDOVER_S,
    )


def setup_of(config: GrpoConfig, work: Workload, sequences: int) -> Setup:
    """The layout of a configured run.

    Args:
        config: the run.
        work: an average page.
        sequences: maximum that the KV cache of one engine can hold.
    """
    rollout, algorithm = config.rollout, config.algorithm
    return Setup(
        engines=rollout.max_workers,
        slots=max(1, min(rollout.max_num_seqs, sequences)),
        learners=config.learner.workers,
        scorers=config.scorer.workers,
        pages_per_step=algorithm.pages_per_step,
        group_size=rollout.group_size,
        lengths=Lengths(work.completion, LENGTH_SPREAD, work.limit),
        prompt=work.prompt,
        oversample=rollout.oversample,
        max_staleness=algorithm.max_staleness,
    )


def costs_of(config: GrpoConfig, shape: ModelShape, speeds: Speeds) -> Costs:
    """Seconds of every part of a configured run."""
    work = grpo_workload(config, shape)
    cost = CostModel.of(shape)
    engine, split = config.rollout, config.rollout.tensor_parallel_size
    prompt = page_operations(cost, work, work.prompt, 0.0)
    token = token_operations(cost, work)
    page, learn_token = _learning(config, work, cost, speeds)
    size = BYTES[engine.dtype]
    rounded = quantised_parameters(config.model.path) if engine.quantization else 0
    bandwidth = speeds.memory_bandwidth * split
    return Costs(
        prefill=prompt / (speeds.prefill_flops * split),
        refill_token=token / (speeds.prefill_flops * split),
        decode_step=speeds.decode_step_s,
        decode_weights=(shape.language_parameters * size - rounded * (size - 1)) / bandwidth,
        decode_context=kv_bytes_per_token(shape, engine.dtype) / bandwidth,
        decode_state=2 * state_bytes(shape) / bandwidth,
        decode_sequence=cost.predicted / (speeds.decode_flops * split),
        score=speeds.score_s,
        learn_page=page + speeds.pack_s,
        learn_token=learn_token,
        learn_step=speeds.learner_step_s + _gathering(config.model, config.learner, shape, speeds),
        sync=speeds.sync_s + sent_bytes(config, shape) / speeds.link_bandwidth,
        handover=speeds.handover_s,
    )


def sft_step_seconds(config: SftConfig, shape: ModelShape, speeds: Speeds) -> float:
    """Seconds of one SFT step: three passes over its pages. Ranks on CPUs share the cores."""
    work, learner = sft_workload(config, shape), config.learner
    tokens = work.prompt + work.completion
    page = 3 * page_operations(CostModel.of(shape), work, tokens, work.completion)
    ranks = learner.workers if learner.use_gpu else 1
    pages = math.ceil(config.training.pages_per_step / ranks)
    each = page / speeds.learner_flops + speeds.pack_s
    gathering = _gathering(config.model, learner, shape, speeds)
    return pages * each + speeds.learner_step_s + gathering


def page_operations(cost: CostModel, work: Workload, tokens: float, predictions: float) -> float:
    """Operations of one page's prompt, image included."""
    side = work.patches**0.5
    pairs = tokens * (tokens + 1) / 2
    return cost.parts(int(tokens), pairs, int(predictions), np.asarray([[1, side, side]]))


def token_operations(cost: CostModel, work: Workload) -> float:
    """Operations of a completion token, with the attention of one in the middle."""
    return cost.predicted + cost.pair * (work.prompt + work.completion / 2)


def _learning(
    config: GrpoConfig, work: Workload, cost: CostModel, speeds: Speeds
) -> tuple[float, float]:
    """Seconds per page and per completion token on one rank, over all passes."""
    algorithm, learner = config.algorithm, config.learner
    updates = algorithm.updates_per_step
    observed = (updates > 1) + (algorithm.kl_beta > 0)
    passes = 3 * algorithm.epochs_per_batch + observed
    tokens = config.rollout.group_size * work.completion
    room = max(work.completion, learner.token_budget - work.prompt)
    prompts = max(1.0, tokens / room) if learner.page_once else config.rollout.group_size
    page = passes * page_operations(cost, work, work.prompt, 0.0)
    token = passes * token_operations(cost, work)
    teacher = algorithm.teacher
    if teacher and (shape := model_shape(teacher.path, "algorithm.teacher.path")):
        other = CostModel.of(shape)
        page += algorithm.teacher_passes * page_operations(other, work, work.prompt, 0.0)
        token += algorithm.teacher_passes * token_operations(other, work)
    return prompts * page / speeds.learner_flops, token / speeds.learner_flops


def _gathering(
    model: ModelConfig, learner: LearnerConfig, shape: ModelShape, speeds: Speeds
) -> float:
    """Seconds of an optimizer step's collectives that do not overlap with anything.

    A micro-batch's collectives overlap with its arithmetic; only the first gathering and the last
    reduction are exposed.
    """
    if not is_sharded(model, learner) or learner.workers == 1:
        return 0.0
    return shape.parameters * (BYTES[model.dtype] + 4) / speeds.link_bandwidth


MEASURED_CPU = Speeds(
    source="measured on 2 x86 cores with the quick start's 0.7 M model (benchmarks/simulate.py)",
    prefill_flops=3.6e9,
    decode_flops=3.6e9,
    memory_bandwidth=CPU_MEMORY_BANDWIDTH,
    decode_step_s=0.0008,
    learner_flops=3.8e10,
    learner_step_s=0.0085,
    link_bandwidth=STORE_BANDWIDTH,
    sync_s=0.066,
    score_s=0.001,
    pack_s=0.0015,
    handover_s=0.16,
)
"""Fitted by `calibrate` to the run that benchmarks/results/simulate.json names."""


def assumed_cpu(cores: float) -> Speeds:
    """Speeds of CPU cores with a model of published size, whose arithmetic outweighs all else."""
    return replace(
        MEASURED_CPU,
        source=f"assumed {CORE_FLOPS / 1e9:.0f} GFLOP/s of each of {cores:g} CPU cores",
        prefill_flops=CORE_FLOPS * cores,
        decode_flops=CORE_FLOPS * cores,
        memory_bandwidth=CPU_MEMORY_BANDWIDTH * cores,
        learner_flops=CORE_FLOPS * cores,
    )
