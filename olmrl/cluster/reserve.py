"""The engines' GPUs, reserved as one Ray placement group before anything else starts.

Learner ranks get theirs from Ray Train's own group. Scorers need none: Ray's scheduler keeps actors
without a GPU off GPU nodes as long as others have room. Rendering tasks are spread by Ray Data.
"""

from __future__ import annotations

from typing import Any

import ray
from ray.util.placement_group import placement_group, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from olmrl.cluster.placement import engine_bundles
from olmrl.cluster.resources import PlanError, from_ray
from olmrl.config.schema import GrpoConfig

_RESERVE_TIMEOUT_S = 60.0


class EngineSeats:
    """Ray options per engine slot."""

    def __init__(self, group: Any, reserved: int) -> None:
        self._group = group
        self._reserved = reserved

    def options(self, slot: int) -> dict[str, Any]:
        """Options of the engine in a slot; elastic ones beyond the minimum go where room is."""
        if self._group is None or slot >= self._reserved:
            return {}
        strategy = PlacementGroupSchedulingStrategy(self._group, placement_group_bundle_index=slot)
        return {"scheduling_strategy": strategy}

    def release(self) -> None:
        """Give the reservation back (Ray does too, when the job ends)."""
        if self._group is not None:
            remove_placement_group(self._group)
            self._group = None


def reserve_engines(config: GrpoConfig) -> EngineSeats:
    """Reserve what `rollout.workers` (min) engines need, packed on as few nodes as possible.

    Nothing is reserved on a single machine without GPUs, where all share the cores, and for
    colocated engines, which take halves of the learner's GPUs.

    Raises:
        PlanError: the cluster does not give the resources within a minute.
    """
    resources = from_ray(ray.nodes())
    if config.rollout.colocate or (len(resources.nodes) == 1 and not resources.gpus):
        return EngineSeats(None, 0)
    bundles = engine_bundles(config.rollout, config.learner.use_gpu)
    group = placement_group(bundles, strategy="PACK")
    if not group.wait(_RESERVE_TIMEOUT_S):
        remove_placement_group(group)
        raise PlanError(
            f"rollout.workers: Ray could not reserve {len(bundles)} x {bundles[0]} within "
            f"{_RESERVE_TIMEOUT_S:.0f} s; the cluster is {resources}, other jobs may hold it"
        )
    return EngineSeats(group, len(bundles))
