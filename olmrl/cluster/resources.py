"""What a cluster has, node by node."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from olmrl.hardware import GIB, GPUS, Gpu

_CPUS_PER_GPU = 16
"""Assumed for a GPU node for which only GPUs are given."""
_GB = r"(\d+)gi?b?"
_GPU_NODES = re.compile(rf"(?:(\d+)x)?(\d+)x([a-z0-9_]+)(?:-{_GB})?(?:/{_GB})?", re.I)
_CPU_NODES = re.compile(rf"(?:(\d+)x)?(\d+)cpus?(?:/{_GB})?", re.I)
_BRANDS = ("NVIDIA", "GEFORCE", "RTX")
_EXAMPLE = (
    "2x8xH100-80G (nodes x GPUs x type-memory), 8xH100, 1x8xH100-80G/512G (with its host memory) "
    "or 1x8xH100-80G+2x64cpu (plus 2 CPU nodes)"
)


class PlanError(ValueError):
    """A run that does not fit on the cluster."""


@dataclass(frozen=True, slots=True)
class Node:
    """One machine."""

    cpus: float
    gpus: float = 0.0
    gpu_type: str | None = None
    """A key of `hardware.GPUS`, if known."""
    gpu_memory: float | None = None
    """Memory of one GPU in bytes, if known."""
    memory: float | None = None
    """Host memory in bytes, if known."""
    cores: float | None = None
    """Cores that compute on a node without GPUs, if known. `cpus` may be more: a Ray that a run
    starts counts as many as the run asks for."""
    extra: Mapping[str, float] = field(default_factory=dict)
    """Custom Ray resources."""


@dataclass(frozen=True, slots=True)
class Resources:
    """All nodes."""

    nodes: tuple[Node, ...]

    @property
    def cpus(self) -> float:
        """Logical CPUs."""
        return sum(node.cpus for node in self.nodes)

    @property
    def gpus(self) -> float:
        """GPUs."""
        return sum(node.gpus for node in self.nodes)

    @property
    def cores(self) -> float | None:
        """Cores, if those of every node are known."""
        known = [node.cores for node in self.nodes if node.cores is not None]
        return sum(known) if len(known) == len(self.nodes) else None

    @property
    def gpu_memory(self) -> float | None:
        """Memory of the smallest GPU in bytes; None if unknown."""
        known = [node.gpu_memory for node in self.nodes if node.gpus and node.gpu_memory]
        return min(known, default=None)

    @property
    def gpu(self) -> Gpu | None:
        """Data sheet of the slowest kind of GPU; None if unknown."""
        known = [GPUS[node.gpu_type] for node in self.nodes if node.gpu_type]
        return min(known, key=lambda gpu: gpu.flops, default=None)

    def __str__(self) -> str:
        counts: dict[str, int] = {}
        for node in self.nodes:
            memory = f"-{node.gpu_memory / GIB:.0f}G" if node.gpu_memory else ""
            kind = f"{node.gpus:g} x {node.gpu_type or 'GPU'}{memory}, " if node.gpus else ""
            text = f"{kind}{node.cpus:g} CPUs"
            counts[text] = counts.get(text, 0) + 1
        return "; ".join(f"{count} node(s) of {text}" for text, count in counts.items())


def parse_cluster(text: str, option: str = "--cluster", words: str = "") -> Resources:
    """Parse a description such as `2x8xH100-80G`, `8xh100` or `1x8xH100-80G/512G+2x64cpu`.

    A GPU node is assumed to have 16 CPUs per GPU, a GPU the memory of its usual version; host
    memory behind a slash is compared with the plan where it is given.

    Args:
        text: the description.
        option: where it was given, for the sentence that refuses it.
        words: what else that option takes, for the same sentence.

    Raises:
        PlanError: not of that form, without any resources, or with an unknown GPU.
    """
    nodes: list[Node] = []
    for part in text.replace(" ", "").split("+"):
        gpu_nodes, cpu_nodes = _GPU_NODES.fullmatch(part), _CPU_NODES.fullmatch(part)
        if cpu_nodes:
            count, cpus, host = cpu_nodes.groups()
            node = Node(float(cpus), memory=_bytes(host), cores=float(cpus))
        elif gpu_nodes:
            count, gpus, name, memory, host = gpu_nodes.groups()
            kind = _kind(name)
            if kind is None:
                known = ", ".join(sorted(k for k in GPUS if " " not in k))
                raise PlanError(f"{option} {text}: GPU {name} is unknown; allowed: {known}")
            size = _bytes(memory or str(GPUS[kind].memory))
            node = Node(float(_CPUS_PER_GPU * int(gpus)), int(gpus), kind, size, _bytes(host))
        else:
            raise PlanError(f"{option} {text}: {part!r} is not valid; write {words}{_EXAMPLE}")
        if int(count or 1) < 1 or node.cpus < 1 or 0 in (node.gpu_memory, node.memory):
            raise PlanError(f"{option} {text}: {part!r} has no nodes or nothing in them")
        nodes += [node] * int(count or 1)
    return Resources(tuple(nodes))


def _bytes(gibibytes: str | None) -> float | None:
    return None if gibibytes is None else int(gibibytes) * GIB


def _kind(name: str) -> str | None:
    """Key of `GPUS` for a name as people write it: h100, RTX_4090."""
    short = name.upper().replace("_", "")
    for brand in _BRANDS:
        short = short.removeprefix(brand)
    return next((key for key in GPUS if key.upper().replace(" ", "") == short), None)


def from_ray(rows: Iterable[Mapping[str, Any]]) -> Resources:
    """The living nodes of `ray.nodes()`."""
    return Resources(tuple(_ray_node(row["Resources"]) for row in rows if row["Alive"]))


def _ray_node(resources: Mapping[str, float]) -> Node:
    kind = next((key for key in GPUS if f"accelerator_type:{key}" in resources), None)
    own = {"CPU", "GPU", "memory", "object_store_memory"}
    extra = {k: v for k, v in resources.items() if k not in own and ":" not in k}
    return Node(
        cpus=resources.get("CPU", 0.0),
        gpus=resources.get("GPU", 0.0),
        gpu_type=kind,
        memory=resources.get("memory"),
        extra=extra,
    )
