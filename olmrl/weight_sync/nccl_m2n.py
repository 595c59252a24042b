"""`nccl_m2n`: NVIDIA's M2N library moves weights from the learner's ranks to those of an engine.

It writes what an engine's GPU needs straight into its weights where they are laid out as in the
checkpoint, so a tensor-parallel engine does not receive whole tensors. Each engine has a group of
its own with all learner ranks, because vLLM lets the engine's ranks follow the learner's; weights
are gathered once for each engine.
"""

from __future__ import annotations

from typing import Any

import ray
import torch
from vllm.distributed.weight_transfer.m2n_common import MAX_TENSOR_DIMS, import_m2n
from vllm.distributed.weight_transfer.m2n_trainer import M2NTrainerInitInfo

from olmrl.config.schema import WeightSyncConfig
from olmrl.weight_sync.fleet import Fleet
from olmrl.weight_sync.plan import free_port
from olmrl.weight_sync.vllm_trainers import (
    FleetClient,
    Outgoing,
    Seats,
    TrainerSender,
    from_first_rank,
    world_size,
)


class M2nSender(TrainerSender):
    """See `TrainerSender`.

    Raises:
        ValueError: the library is not installed.
    """

    def __init__(
        self, config: WeightSyncConfig, fleet: Fleet, rank: int, wire: torch.dtype
    ) -> None:
        try:
            import_m2n()
        except ImportError as error:
            raise ValueError(
                "weight_sync.transport: nccl_m2n needs the package nccl-extensions and NCCL 2.30.5 "
                f"or newer on learner and engines, and the former cannot be imported ({error}); "
                "use nccl or auto"
            ) from error
        super().__init__(config, fleet, rank, Outgoing(wire, fleet.family))

    def _transfers(self, seats: Seats) -> list[tuple[Any, FleetClient]]:
        for name, _, shape in self._outgoing.described:
            if len(shape) > MAX_TENSOR_DIMS:
                raise ValueError(
                    f"weight_sync.transport: nccl_m2n moves tensors of at most {MAX_TENSOR_DIMS} "
                    f"dimensions, and {name} has {len(shape)}; freeze the part of the model that "
                    "it belongs to (model.freeze), or use nccl or auto"
                )
        address = ray.util.get_node_ip_address()
        places = from_first_rank([(address, free_port()) for _ in seats])
        return [
            (
                trainer_info(self._rank, place, world_size(), gpus),
                FleetClient(self._fleet.part(worker_id)),
            )
            for (worker_id, gpus), place in zip(seats, places, strict=True)
        ]


def trainer_info(rank: int, place: tuple[str, int], learners: int, gpus: int) -> M2NTrainerInitInfo:
    """What vLLM's trainer engine is told on a learner rank.

    Args:
        rank: This learner rank.
        place: Address and port of learner rank 0, for the rendezvous.
        learners: Learner ranks.
        gpus: Of the engine, which shards weights over them.
    """
    address, port = place
    return M2NTrainerInitInfo(
        rank=rank,
        master_address=address,
        master_port=port,
        world_size=learners + gpus,
        num_trainer_ranks=learners,
        dst_mesh_dims=(1, gpus),
    )
