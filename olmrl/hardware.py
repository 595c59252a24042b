"""The only table of accelerators' data-sheet figures; drivers, and backends for a device.

Figures are peaks, which nothing reaches: a plan that uses one states the share it expects, and
measurements are compared with it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

GIB = 2.0**30


@dataclass(frozen=True, slots=True)
class Gpu:
    """One accelerator."""

    flops: float
    """Operations per second of dense bfloat16 matrix products."""
    memory_bandwidth: float
    """Bytes per second between its memory and its cores."""
    link_bandwidth: float
    """Bytes per second to its neighbours on the node, one direction (NVLink, else PCIe)."""
    memory: int
    """GB as its name has them, of the version that most people have."""


GPUS = {
    "A100": Gpu(312e12, 2.0e12, 300e9, 80),
    "A10G": Gpu(70e12, 0.6e12, 32e9, 24),
    "H100 PCIe": Gpu(756e12, 2.0e12, 64e9, 80),
    "H100": Gpu(989e12, 3.35e12, 450e9, 80),
    "H200": Gpu(989e12, 4.8e12, 450e9, 141),
    "B200": Gpu(2250e12, 8.0e12, 900e9, 180),
    "L40S": Gpu(362e12, 0.86e12, 32e9, 48),
    "L4": Gpu(121e12, 0.3e12, 32e9, 24),
    "4090": Gpu(165e12, 1.0e12, 32e9, 24),
    "5090": Gpu(209e12, 1.79e12, 64e9, 32),
}


CUDA_DRIVERS = {11: 450, 12: 525, 13: 580}
"""Oldest branch of NVIDIA's driver for Linux that runs programs built for a CUDA major version
(release notes of the CUDA toolkit, minor version compatibility)."""


def collective_backend(on_gpu: bool) -> str:
    """The learner's torch.distributed backends.

    On GPUs there is one per memory, as off-loaded gradients are clipped in host memory.
    """
    return "cpu:gloo,cuda:nccl" if on_gpu else "gloo"


def find_gpu(name: str) -> Gpu | None:
    """The table's entry for a device name such as `NVIDIA H100 80GB HBM3`, or None."""
    matches = [key for key in GPUS if re.search(rf"\b{key}\b", name)]
    return GPUS[max(matches, key=len)] if matches else None
