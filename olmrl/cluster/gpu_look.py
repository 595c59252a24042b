"""A look at the GPUs that Ray would give to a run, from where its processes would stand."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import ray
from ray.util.placement_group import PlacementGroup, placement_group, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from olmrl.cluster.gpus import Card, GpuBusy, GpuFacts, check_facts, mixed_engines
from olmrl.cluster.plan import Plan, Role
from olmrl.cluster.resources import PlanError, from_ray
from olmrl.lost import why

_TIMEOUT_S = 60.0
"""Shortest wait for the GPUs of a plan, and longest for their memory, in seconds."""
_SILENT_S = 5.0
"""Wait for the GPUs of which nothing is said, in seconds."""
_AGAIN_S = 5.0
"""Between two looks, in seconds."""


def check_gpus(
    plan: Plan, say: Callable[[str], None] = lambda line: None, wait_s: float = 0.0
) -> None:
    """Look at every GPU of a plan before anything is loaded; nothing is done for a plan without.

    Each process's place is reserved for the time of the look, which starts CUDA there in a process
    of its own.

    Args:
        plan: what the run starts.
        say: prints a line on what is allowed, but slow.
        wait_s: longest wait for the GPUs, if longer than a minute, in seconds.

    Raises:
        PlanError: Ray cannot give the GPUs in time, or one cannot be used as planned.
    """
    wanted = [role for role in plan.roles if role.gpus for _ in range(role.count)]
    if not wanted:
        return
    group = placement_group([role.bundle for role in wanted], strategy="PACK")
    try:
        seconds = max(_TIMEOUT_S, wait_s)
        if not group.wait(_SILENT_S):
            say(f"waiting for {plan.gpus:g} GPUs, which other jobs may be using")
        if not group.wait(seconds):
            raise PlanError(
                f"the run needs {plan.gpus:g} GPUs, and Ray could not give them within "
                f"{seconds:.0f} s; the cluster has {from_ray(ray.nodes())}; other jobs may be "
                "using them"
            )
        found = _settled(plan, lambda: [_ask(group, at, role) for at, role in enumerate(wanted)])
    finally:
        remove_placement_group(group)
    if mixed := mixed_engines(found):
        say(mixed)


def _settled(plan: Plan, ask: Callable[[], list[Any]]) -> list[GpuFacts]:
    """What was found and is as planned; memory may come free while a run before this one ends."""
    deadline = time.monotonic() + _TIMEOUT_S
    while True:
        try:
            found: list[GpuFacts] = ray.get(ask())
        except ray.exceptions.RayError as error:
            raise PlanError(f"a GPU of the cluster could not be looked at: {why(error)}") from error
        try:
            check_facts(plan, found)
        except GpuBusy:
            if time.monotonic() >= deadline:
                raise
            time.sleep(_AGAIN_S)
        else:
            return found


def _ask(group: PlacementGroup, place: int, role: Role) -> Any:
    """Start a look at the GPUs of one place; its process ends with it and gives them back."""
    strategy = PlacementGroupSchedulingStrategy(group, placement_group_bundle_index=place)
    task: Any = ray.remote(max_calls=1, max_retries=0)(look)
    options = {"num_cpus": 0, "num_gpus": role.gpus, "scheduling_strategy": strategy}
    return task.options(**options).remote(role.name)


def look(role: str) -> GpuFacts:
    """What torch says of this process's GPUs."""
    import torch  # noqa: PLC0415  slow, and only where there are GPUs

    node, version, cuda = ray.util.get_node_ip_address(), torch.__version__, torch.version.cuda
    try:
        torch.cuda.init()
        cards = tuple(_card(index) for index in range(torch.cuda.device_count()))
    except (RuntimeError, AssertionError) as error:
        problem = next(iter(str(error).strip().splitlines()), type(error).__name__)
        return GpuFacts(role, node, version, cuda, problem)
    return GpuFacts(role, node, version, cuda, cards=cards)


def _card(index: int) -> Card:
    import torch  # noqa: PLC0415

    free, total = torch.cuda.mem_get_info(index)
    return Card(torch.cuda.get_device_name(index), float(total), float(free))
