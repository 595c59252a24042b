"""Hardware in words to what a plan is checked against."""

from __future__ import annotations

from typing import NamedTuple

from olmrl.cluster import Node, Resources, parse_cluster
from olmrl.doctor.checks import bfloat16_by
from olmrl.doctor.facts import Facts
from olmrl.hardware import GPUS, find_gpu

_LOGICAL_CPUS = 16
"""Of a Ray started on one machine, where roles share the cores."""


class Machine(NamedTuple):
    """Where a run will be."""

    resources: Resources
    on_gpu: bool
    bfloat16: bool
    """Whether it multiplies bfloat16 in hardware."""
    cluster: str
    """For `--cluster`; empty: this machine, which has no such name."""
    title: str


def machine_of(text: str, facts: Facts) -> Machine:
    """The machine that a word names.

    Args:
        text: `auto` (this machine), `cpu` (this machine without its GPUs), or a cluster such as
            `1x8xH100-80G`.
        facts: of this machine.

    Raises:
        PlanError: not of that form.
    """
    if text not in ("auto", "cpu"):
        resources = parse_cluster(text, "--hardware", "auto, cpu or ")
        return Machine(resources, resources.gpus > 0, True, text, text)
    gpus = facts.gpus if text == "auto" else ()
    cpus = max(float(_LOGICAL_CPUS), facts.usable_cores)
    if not gpus:
        node = Node(cpus, memory=float(facts.memory), cores=facts.usable_cores)
        title = f"this machine's CPU, {facts.usable_cores:g} cores"
        return Machine(Resources((node,)), False, bool(bfloat16_by(facts)), "", title)
    known = find_gpu(gpus[0].name)
    kind = next((name for name, gpu in GPUS.items() if gpu is known), None)
    memory = min(gpu.memory_mib for gpu in gpus) * 2.0**20
    node = Node(cpus, float(len(gpus)), kind, memory, float(facts.memory))
    title = f"this machine, {len(gpus)} x {gpus[0].name}"
    cluster = f"1x{len(gpus)}x{kind}-{memory / 2**30:.0f}G" if kind and " " not in kind else ""
    return Machine(Resources((node,)), True, True, cluster, title)
