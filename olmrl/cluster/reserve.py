"""Placement groups: engines' GPUs reserved before anything else starts, and waiting for nodes.

Learner ranks are in Ray Train's own group. Scorers need none: Ray's scheduler keeps actors without
a GPU off GPU nodes as long as others have room. Ray Data spreads rendering tasks.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import ray
from ray.util.placement_group import placement_group, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from olmrl.cluster.placement import engine_bundles, split_gpus
from olmrl.cluster.plan import Plan
from olmrl.cluster.resources import PlanError, Resources, from_ray
from olmrl.config.schema import GrpoConfig

_RESERVE_TIMEOUT_S = 60.0
_TELL_EVERY_S = 15.0
"""Seconds between lines about nodes that are still missing."""


class EngineSeats:
    """Ray options of every engine.

    Args:
        groups: reservations.
        seats: (group, its bundle) of each engine that has a reservation, by slot.
        with_children: actors that an engine starts sit in its group too.
    """

    def __init__(
        self, groups: Sequence[Any], seats: Sequence[tuple[Any, int]], with_children: bool = False
    ) -> None:
        self._groups = list(groups)
        self._seats = list(seats)
        self._with_children = with_children

    def options(self, slot: int) -> dict[str, Any]:
        """Options of the engine in a slot; engines beyond the minimum go wherever they fit."""
        if slot >= len(self._seats):
            return {}
        group, bundle = self._seats[slot]
        strategy = PlacementGroupSchedulingStrategy(
            group,
            placement_group_bundle_index=bundle,
            placement_group_capture_child_tasks=self._with_children,
        )
        return {"scheduling_strategy": strategy}

    def release(self) -> None:
        """Release the reservation (Ray also does so when the job ends)."""
        for group in self._groups:
            remove_placement_group(group)
        self._groups, self._seats = [], []


def reserve_engines(config: GrpoConfig, *, ray_workers: bool = False) -> EngineSeats:
    """Reserve what `rollout.workers` (min) engines need, packed on as few nodes as possible.

    Nothing is reserved on a single machine without GPUs, where all processes share the cores, nor
    for colocated engines, which share the learner's GPUs.

    Args:
        config: of the run.
        ray_workers: vLLM runs an engine's ranks as Ray actors, one for each bundle with a GPU in a
            group of the engine's own.

    Raises:
        PlanError: the cluster does not provide the resources within a minute.
    """
    resources = from_ray(ray.nodes())
    if config.rollout.colocate or (len(resources.nodes) == 1 and not resources.gpus):
        return EngineSeats([], [])
    bundles = engine_bundles(config.rollout, config.learner.use_gpu)
    if ray_workers:
        groups = [placement_group(split_gpus(each), strategy="STRICT_PACK") for each in bundles]
        seats = [(group, 0) for group in groups]
    else:
        groups = [placement_group(bundles, strategy="PACK")]
        seats = [(groups[0], slot) for slot in range(len(bundles))]
    deadline = time.monotonic() + _RESERVE_TIMEOUT_S
    if not all(group.wait(max(0.0, deadline - time.monotonic())) for group in groups):
        EngineSeats(groups, seats).release()
        raise PlanError(
            f"rollout.workers: Ray could not reserve {len(bundles)} x {bundles[0]} within "
            f"{_RESERVE_TIMEOUT_S:.0f} s; the cluster has {resources}; other jobs may be using it"
        )
    return EngineSeats(groups, seats, with_children=ray_workers)


def wait_for_nodes(plan: Plan, seconds: float, say: Callable[[str], None]) -> None:
    """Wait until the cluster has room for a plan; an autoscaler starts the missing nodes.

    A placement group for all processes waits for that room. Ray's autoscaler starts nodes for a
    waiting group and forgets the group when this job ends, for whatever reason; a request through
    the autoscaler's SDK would outlive the job.

    Args:
        plan: what the run starts.
        seconds: longest wait.
        say: prints a line on the resources available so far.

    Raises:
        PlanError: there is not enough room in time.
    """
    group = placement_group([role.bundle for role in plan.roles for _ in range(role.count)])
    needs = f"{plan.gpus:g} GPUs and {plan.cpus:g} CPUs"
    begin = time.monotonic()
    try:
        while not group.wait(min(_TELL_EVERY_S, seconds)):
            waited = time.monotonic() - begin
            has = from_ray(ray.nodes())
            if waited >= seconds:
                raise PlanError(
                    f"cluster.wait_s: the run needs {needs}; after {waited:.0f} s the cluster has "
                    f"{has}; other jobs may be using part of it"
                )
            say(f"waiting for {missing(plan, has)} ({waited:.0f} of {seconds:.0f} s)")
    finally:
        remove_placement_group(group)


def missing(plan: Plan, has: Resources) -> str:
    """What a cluster still lacks for a plan, as `GPU nodes: has 0 of 8 GPUs`."""
    if has.gpus < plan.gpus:
        return f"GPU nodes: has {has.gpus:g} of {plan.gpus:g} GPUs"
    if has.cpus < plan.cpus:
        return f"CPU nodes: has {has.cpus:g} of {plan.cpus:g} CPUs"
    return f"room on {has}, which other jobs may be using"
