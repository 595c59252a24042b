"""Model FLOP/s utilisation, the vision tower counted.

The operations are those of the model as it is run (`data.cost`): what page-once saves is not
counted as if it had been done, nor is the recomputation of activation checkpointing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from olmrl.data.cost import CostModel
from olmrl.hardware import find_gpu
from olmrl.metrics import Mean, Measurements, Sum
from olmrl.types import PackedBatch


def peak_flops(device: torch.device) -> float | None:
    """Peak of a device, or None where none is known (CPUs among them)."""
    if device.type != "cuda":
        return None
    gpu = find_gpu(torch.cuda.get_device_name(device))
    return gpu.flops if gpu else None


def step_flops(
    batches: Sequence[PackedBatch],
    model_config: Any,
    *,
    trained_passes: int,
    observed_passes: int = 0,
) -> float:
    """Operations of a step: three forward passes' worth per trained pass, one per observed."""
    cost = CostModel.from_config(model_config)
    forward = sum(cost.batch(batch) for batch in batches)
    return forward * (3 * trained_passes + observed_passes)


def utilisation(flops: float, seconds: float, device: torch.device) -> Measurements:
    """`flops/step` of a rank, and `throughput/mfu` where the device's peak is known."""
    found: Measurements = {"flops/step": Sum(flops)}
    peak = peak_flops(device)
    if peak is not None:
        found["throughput/mfu"] = Mean(flops, peak * seconds)
    return found
