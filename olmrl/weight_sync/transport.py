"""What a weight transport is, and which one a run uses.

    transport                learner's side                     engines' side (vLLM's backend)
    object_store, anywhere   object_store.ObjectStoreSender     vllm_backend, `olmrl_store`
    nccl, between GPUs       direct_sender over gpu_links       vLLM's own, `nccl`
    ipc, on the same GPU     direct_sender over gpu_links       vLLM's own, `ipc`
    nccl_m2n, between GPUs   vLLM's own, by vllm_trainers       vLLM's own, `nccl_m2n`
    sharded_rdt, likewise    vLLM's own, by vllm_trainers       vLLM's own, `sharded_rdt`

`auto` chooses among the first three: no measurement has shown the others to be faster.

This module imports neither torch nor vLLM, so the Driver and engines may ask it first.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Protocol

from olmrl.config.registered import TRANSPORTS
from olmrl.config.schema import GrpoConfig, WeightSyncConfig
from olmrl.metrics import Measurements
from olmrl.types import PolicyVersion

if TYPE_CHECKING:
    import torch

    from olmrl.weight_sync.fleet import Fleet
    from olmrl.weight_sync.publication import NamedTensor


class WeightSender(Protocol):
    """Sends a policy version to every engine. All learner ranks make the same calls."""

    def send(self, named: Iterable[NamedTensor], version: PolicyVersion) -> Measurements:
        """Publish the weights and return when every living engine has them.

        Args:
            named: HF names and full tensors, in the same order on all ranks; frozen parts may be
                left out. A tied LM head must be included. Some transports iterate several times,
                over the same weights.
            version: Stamps every token made from these weights.

        Raises:
            WeightMismatch: checksum mode found unequal weights.
        """

    serves_joiners: bool
    """Whether engines that join between two sends can only get weights from here (nccl, ipc)."""

    def pending(self) -> bool:
        """Whether there are such engines, so that `send` must be repeated; rank 0 only."""

    def close(self) -> None:
        """Release communicators."""


@dataclass(frozen=True, slots=True)
class Placement:
    """Where engines and learner run."""

    engine: str
    """`rollout.engine`: vllm or hf."""
    use_gpu: bool
    colocate: bool
    """Whether engines share the learner's GPUs."""


class Transport(ABC):
    """A way from the learner to the engines; made without arguments."""

    backend: ClassVar[str] = "olmrl_store"
    """vLLM's weight-transfer backend that receives in the engines (its `WeightTransferConfig`)."""

    sends_adapters: ClassVar[bool] = True
    """Whether it can send an adapter's matrices, which engines load through
    `Engine.update_weights`."""

    passes_loader: ClassVar[bool] = True
    """Whether weights pass the model's `load_weights` at every update, where they can be hashed."""
    ray_workers: ClassVar[bool] = False
    """Whether vLLM must run an engine's ranks as Ray actors, which then hold its GPUs."""

    def obstacle(self, placement: Placement) -> str:
        """Why it cannot work there and what to set instead; empty if it can."""
        return ""

    @abstractmethod
    def sender(
        self, config: WeightSyncConfig, fleet: Fleet, rank: int, wire: torch.dtype
    ) -> WeightSender:
        """The sending side; called on every learner rank.

        Args:
            config: Bucket size, in-flight mode, checksum mode.
            fleet: All living engines.
            rank: This learner rank; 0 talks to engines.
            wire: The engines' dtype, used in the transfer.
        """


def load_transport(name: str) -> Transport:
    """The transport of a name or import path.

    Raises:
        ValueError: an unknown name, or one that leads to no `Transport`.
    """
    transport: Transport = TRANSPORTS.load_class(name, Transport)()
    return transport


def check_checksum(config: WeightSyncConfig, quantization: str | None, transport: str) -> None:
    """Refuse checksums of weights that never pass the engine's loader.

    Args:
        config: of the run.
        quantization: `rollout.quantization`.
        transport: from `resolve_transport`.

    Raises:
        ValueError: they cannot be compared.
    """
    if not config.checksum or quantization is None:
        return
    if not load_transport(transport).passes_loader:
        raise ValueError(
            f"weight_sync.checksum: cannot compare what engines of rollout.quantization: "
            f"{quantization} get over {transport}; set false, or use nccl"
        )


def run_transport(config: GrpoConfig) -> str:
    """The transport that a run uses.

    Raises:
        ValueError: it cannot work where engines and learner are, or as configured.
    """
    transport = resolve_transport(
        config.weight_sync,
        engine=config.rollout.engine,
        use_gpu=config.learner.use_gpu,
        colocate=config.rollout.colocate,
    )
    check_checksum(config.weight_sync, config.rollout.quantization, transport)
    return transport


def resolve_transport(
    config: WeightSyncConfig, *, engine: str, use_gpu: bool, colocate: bool
) -> str:
    """Name of the transport that `auto` means here, or of the requested one.

    Raises:
        ValueError: no transport, or one that the hardware or the engine does not support.
    """
    if config.transport == "auto":
        if engine != "vllm" or not use_gpu or config.lora == "adapter":
            return "object_store"
        return "ipc" if colocate else "nccl"
    transport = load_transport(config.transport)
    obstacle = transport.obstacle(Placement(engine, use_gpu, colocate))
    if config.lora == "adapter" and not transport.sends_adapters:
        obstacle = "sends whole weights only; use object_store or auto, or weight_sync.lora: merged"
    if obstacle:
        raise ValueError(f"weight_sync.transport: {config.transport} {obstacle}")
    return config.transport
