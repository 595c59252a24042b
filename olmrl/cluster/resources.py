"""What a cluster has."""

from __future__ import annotations

import re
from dataclasses import dataclass


class PlanError(ValueError):
    """A run that the cluster cannot hold."""


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
