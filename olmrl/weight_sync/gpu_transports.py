"""Transports between GPUs: what they need, and how their senders are made.

Imports no torch, so that a run's checks may ask what a transport needs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from olmrl.config.schema import WeightSyncConfig
from olmrl.weight_sync.transport import Placement, Transport, WeightSender

if TYPE_CHECKING:
    import torch

    from olmrl.weight_sync.fleet import Fleet

_MIB = 2**20


class _Direct(Transport):
    """vLLM's own receivers, which only its engines have, and only on GPUs."""

    sends_adapters: ClassVar[bool] = False

    def obstacle(self, placement: Placement) -> str:
        """See `Transport`."""
        if placement.engine != "vllm" or not placement.use_gpu:
            return "needs the vllm engine on GPUs; use object_store or auto"
        return ""

    def sender(
        self, config: WeightSyncConfig, fleet: Fleet, rank: int, wire: torch.dtype
    ) -> WeightSender:
        """See `Transport`; sends bucket by bucket over a link."""
        # importing vLLM patches torch, so only learners that need its transports import it
        from olmrl.weight_sync.direct_sender import DirectSender  # noqa: PLC0415
        from olmrl.weight_sync.gpu_links import make_link  # noqa: PLC0415

        bucket_bytes = int(config.bucket_mb * _MIB)
        link = make_link(self.backend, fleet, bucket_bytes)
        return DirectSender(config, fleet, rank, wire, link, bucket_bytes)


class Nccl(_Direct):
    """Broadcast to engines on other GPUs."""

    backend: ClassVar[str] = "nccl"

    def obstacle(self, placement: Placement) -> str:
        """See `Transport`; NCCL takes one process per GPU."""
        shared = "refuses two processes on one GPU, as with rollout.colocate; use ipc or auto"
        return super().obstacle(placement) or (shared if placement.colocate else "")


class NcclM2n(Nccl):
    """Reshard from all learner ranks into engines on other GPUs."""

    backend: ClassVar[str] = "nccl_m2n"

    def sender(
        self, config: WeightSyncConfig, fleet: Fleet, rank: int, wire: torch.dtype
    ) -> WeightSender:
        """See `Transport`."""
        from olmrl.weight_sync.nccl_m2n import M2nSender  # noqa: PLC0415  (as above)

        return M2nSender(config, fleet, rank, wire)


class ShardedRdt(_Direct):
    """Serve slices of weights to engines on other GPUs."""

    backend: ClassVar[str] = "sharded_rdt"
    passes_loader: ClassVar[bool] = False
    ray_workers: ClassVar[bool] = True

    def obstacle(self, placement: Placement) -> str:
        """See `Transport`; vLLM's Ray workers take whole GPUs."""
        shared = "needs engines on GPUs of their own (rollout.colocate: false); use ipc or auto"
        return super().obstacle(placement) or (shared if placement.colocate else "")

    def sender(
        self, config: WeightSyncConfig, fleet: Fleet, rank: int, wire: torch.dtype
    ) -> WeightSender:
        """See `Transport`."""
        from olmrl.weight_sync.sharded_rdt import RdtSender  # noqa: PLC0415  (as above)

        return RdtSender(config, fleet, rank, wire)


class Ipc(_Direct):
    """Share memory with the engine on the same GPU."""

    backend: ClassVar[str] = "ipc"

    def obstacle(self, placement: Placement) -> str:
        """See `Transport`; the engine must be on this GPU."""
        apart = "needs engines on the learner's GPUs (rollout.colocate: true); use nccl or auto"
        return super().obstacle(placement) or ("" if placement.colocate else apart)
