"""The engine's side of the object-store transport, as a native vLLM weight-transfer backend.

Importing this module registers the backend; each vLLM worker imports it through the worker
extension (`olmrl.rollout.vllm_worker`). GPU engines use vLLM's own `nccl` and `ipc`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from vllm.distributed.weight_transfer.base import (
    WeightTransferEngine,
    WeightTransferInitInfo,
    WeightTransferUpdateInfo,
)
from vllm.distributed.weight_transfer.factory import WeightTransferEngineFactory
from vllm.model_executor.model_loader.reload import (
    finalize_layerwise_reload,
    initialize_layerwise_reload,
)

from olmrl.types import UInt8Array
from olmrl.weight_sync.publication import unpack

BACKEND = "olmrl_store"


@dataclass
class StoreInitInfo(WeightTransferInitInfo):
    """Empty: buckets describe themselves."""


@dataclass
class StoreUpdateInfo(WeightTransferUpdateInfo):
    """One bucket (`publication.Bucket`) with its bytes."""

    names: tuple[str, ...]
    dtypes: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]
    data: UInt8Array


class StoreWeightTransferEngine(WeightTransferEngine[StoreInitInfo, StoreUpdateInfo]):
    """Loads buckets of bytes in shared memory, without copying them first."""

    init_info_cls = StoreInitInfo
    update_info_cls = StoreUpdateInfo

    def init_transfer_engine(self, init_info: StoreInitInfo) -> None:
        """Nothing to do: no rendezvous is needed."""

    def start_weight_update(self) -> None:
        """Make the model accept checkpoint weights again (CPU linears are packed after loading)."""
        initialize_layerwise_reload(self.model)

    def receive_weights(self, update_info: StoreUpdateInfo) -> None:
        """Load one bucket through the model's own loader, which maps and fuses HF names."""
        model: Any = self.model
        model.load_weights(unpack(vars(update_info)))

    def finish_weight_update(self) -> None:
        """Pack the layers again."""
        finalize_layerwise_reload(self.model, self.model_config)

    def shutdown(self) -> None:
        """Nothing to release."""


WeightTransferEngineFactory.register_engine(BACKEND, StoreWeightTransferEngine)
