"""Speeds of a machine, fitted to the metrics of a run on that machine."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from olmrl.cluster.memory import sent_bytes
from olmrl.cluster.simulation.batching import Lengths
from olmrl.cluster.simulation.speeds import (
    CPU_MEMORY_BANDWIDTH,
    STORE_BANDWIDTH,
    Speeds,
    page_operations,
)
from olmrl.cluster.workload import grpo_workload
from olmrl.config.schema import GrpoConfig
from olmrl.models.cost import CostModel
from olmrl.models.shape import ModelShape

Rows = Sequence[Mapping[str, float]]
"""Rows of metrics.jsonl that have `time/step`."""
_INSTANT = 1e-18
"""Seconds per operation if the time is all per step."""


def lengths_of(rows: Rows, limit: int) -> Lengths:
    """The log-normal with a run's mean length and mean longest completion per step.

    With rollouts running ahead, a step may close no group; such steps are ignored.
    """
    rows = [row for row in rows if {"completion/mean_length", "rollout/completions"} <= row.keys()]
    mean = statistics.fmean(row["completion/mean_length"] for row in rows)
    largest = statistics.fmean(math.log(row["completion/max_length"]) for row in rows)
    count = statistics.fmean(row["rollout/completions"] for row in rows)
    # mean of the largest of n normal deviates (Blom, 1958)
    deviate = statistics.NormalDist().inv_cdf((count - 0.375) / (count + 0.25))
    over = max(0.0, largest - math.log(mean))
    spread = deviate - math.sqrt(max(0.0, deviate**2 - 2 * over))
    return Lengths(mean, spread, limit)


def calibrate(rows: Rows, config: GrpoConfig, shape: ModelShape, source: str) -> Speeds:
    """Fit the speeds of the machine that wrote these metrics.

    Engine time is fitted over the steps as a part per decode step (the longest completion) plus a
    part per operation; the unexplained rest of a step is split into three hand-overs.

    Args:
        rows: rows of a synchronous run's metrics.jsonl that have `time/step`.
        config: that run's configuration.
        shape: its model.
        source: what to call the result.

    Raises:
        ValueError: fewer than five rows.
    """
    if len(rows) < 5:
        raise ValueError(f"metrics: {len(rows)} steps are too few to fit speeds, 5 are needed")
    cost, work = CostModel.of(shape), grpo_workload(config, shape)
    sent = sent_bytes(config, shape)

    def median(name: str) -> float:
        return statistics.median(float(row[name]) for row in rows)

    page = page_operations(cost, work, work.prompt, 0.0) / config.rollout.group_size
    longest = np.asarray([row["completion/max_length"] for row in rows])
    work_done = np.asarray(
        [cost.predicted * row["rollout/tokens"] + page * row["rollout/completions"] for row in rows]
    )
    busy = np.asarray([row["time/engine_busy"] for row in rows])
    per_step, per_operation = _fit(longest, work_done, busy)
    scored = [r["reward/scorer_busy_seconds"] / r["rollout/completions"] for r in rows]
    fixed = median("time/learner") - median("time/forward_backward")
    speeds = Speeds(
        source=source,
        prefill_flops=1 / per_operation,
        decode_flops=1 / per_operation,
        memory_bandwidth=CPU_MEMORY_BANDWIDTH,
        decode_step_s=per_step,
        learner_flops=statistics.median(r["flops/step"] / r["time/forward_backward"] for r in rows),
        learner_step_s=fixed,
        link_bandwidth=STORE_BANDWIDTH,
        sync_s=max(0.0, median("time/weight_sync") - sent / STORE_BANDWIDTH),
        score_s=statistics.median(scored),
        pack_s=median("time/pack") / config.algorithm.pages_per_step,
        handover_s=0.0,
    )
    explained = (
        median("time/engine_busy")
        + median("time/learner")
        + median("time/pack")
        + median("time/weight_sync")
    )
    return replace(speeds, handover_s=max(0.0, median("time/step") - explained) / 3)


def _fit(longest: np.ndarray, work: np.ndarray, busy: np.ndarray) -> tuple[float, float]:
    """Least squares of busy = a longest + b work with a >= 0 and b > 0."""
    (a, b), *_ = np.linalg.lstsq(np.stack([longest, work / work.max()], axis=1), busy, rcond=None)
    if a < 0:
        return 0.0, float((busy * work).sum() / (work**2).sum())
    return float(a), max(float(b / work.max()), _INSTANT)
