"""`sharded_rdt`: engines pull the slices that they need over Ray Direct Transport (NIXL).

Each learner rank has an actor beside it that shares its GPU and serves the weights, layer by layer.
Engines must have Ray actors as workers (`Transport.ray_workers`), which learn once how the model's
loaders slice each weight and pull just that at every update.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from typing import Any

import ray
import torch
from vllm.distributed.weight_transfer.sharded_rdt_trainer import ShardedRDTTrainerInitInfo

from olmrl.config.schema import WeightSyncConfig
from olmrl.weight_sync.fleet import Fleet
from olmrl.weight_sync.plan import EngineEntry
from olmrl.weight_sync.vllm_trainers import FleetClient, Outgoing, Seats, TrainerSender


class RdtSender(TrainerSender):
    """See `TrainerSender`.

    Raises:
        ValueError: NIXL is not installed, or the model cannot be sent this way.
    """

    def __init__(
        self, config: WeightSyncConfig, fleet: Fleet, rank: int, wire: torch.dtype
    ) -> None:
        if importlib.util.find_spec("nixl") is None:
            raise ValueError(
                "weight_sync.transport: sharded_rdt needs the package nixl on learner and engines; "
                "pip install nixl, or use nccl or auto"
            )
        if fleet.family.is_recurrent:
            raise ValueError(
                f"weight_sync.transport: sharded_rdt cannot send {fleet.family.title}, whose "
                "convolutions vLLM loads in a way that it cannot record; use nccl or auto"
            )
        super().__init__(config, fleet, rank, Outgoing(wire, fleet.family, grouped=True))

    def _transfers(self, seats: Seats) -> list[tuple[Any, FleetClient]]:
        if not seats:
            return []
        namespace = ray.get_runtime_context().namespace
        info = trainer_info(self._rank, seats, namespace)
        return [(info, FleetClient(self._fleet, lambda engine: place_of(engine, seats)))]


def trainer_info(rank: int, seats: Seats, namespace: str) -> ShardedRDTTrainerInitInfo:
    """What vLLM's trainer engine is told on a learner rank; all engines have as many GPUs."""
    (gpus,) = {gpus for _, gpus in seats}
    return ShardedRDTTrainerInitInfo(
        rank=rank,
        num_consumers=gpus * len(seats),
        workers_per_replica=gpus,
        trainer_actor_namespace=namespace,
    )


def place_of(engine: EngineEntry, seats: Seats) -> Mapping[str, int]:
    """Which of the engines it is, so that no two take the same share."""
    order = [worker_id for worker_id, _ in seats]
    return {"replica_rank": order.index(engine.worker_id), "num_replicas": len(seats)}
