"""The learner's side of weight sync.

    sender = make_sender(config.weight_sync, store, rank, transport=..., dtype=...)
    measurements = sender.send(strategy.named_weights(), version)      # on every rank

All ranks iterate over the weights, because gathering a sharded tensor is a collective; only rank 0
talks to engines. An engine that dies during a send is skipped and counted: the pool replaces it.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any, Literal, Protocol, TypeAlias

import ray
import torch

from olmrl.config.schema import WeightSyncConfig
from olmrl.metrics import Measurements, Sum
from olmrl.models.family import Family
from olmrl.types import PolicyVersion
from olmrl.weight_sync import checksum
from olmrl.weight_sync.direct_sender import DirectSender
from olmrl.weight_sync.fleet import Fleet
from olmrl.weight_sync.measure import sync_measurements
from olmrl.weight_sync.publication import NamedTensor, pack, with_data

Transport: TypeAlias = Literal["object_store", "nccl", "ipc"]

_MIB = 2**20
_PUTS_IN_AIR = 2


class WeightSender(Protocol):
    """Sends a policy version to every engine. All learner ranks make the same calls."""

    def send(self, named: Iterable[NamedTensor], version: PolicyVersion) -> Measurements:
        """Publish the weights and return when every living engine has them.

        Args:
            named: HF names and full tensors, in the same order on all ranks; frozen parts may be
                left out. A tied LM head must be included.
            version: Stamps every token made from these weights.

        Raises:
            WeightMismatch: checksum mode found unequal weights.
        """

    serves_joiners: bool
    """Whether engines that join between two sends can only get weights from here (nccl, ipc)."""

    def pending(self) -> bool:
        """Whether there are such engines, so that `send` must be repeated; False off rank 0."""

    def close(self) -> None:
        """Release communicators."""


def resolve_transport(
    config: WeightSyncConfig, *, engine: str, use_gpu: bool, colocate: bool
) -> Transport:
    """The transport that `auto` stands for, or the requested one.

    Raises:
        ValueError: a transport that the hardware or the engine does not support.
    """
    if config.transport == "auto":
        if engine != "vllm" or not use_gpu:
            return "object_store"
        return "ipc" if colocate else "nccl"
    if config.transport != "object_store" and (engine != "vllm" or not use_gpu):
        raise ValueError(
            f"weight_sync.transport: {config.transport} needs the vllm engine on GPUs; "
            "use object_store or auto"
        )
    if config.transport == "nccl" and colocate:
        raise ValueError(
            "weight_sync.transport: nccl does not allow two processes on one GPU, as with "
            "rollout.colocate; use ipc or auto"
        )
    if config.transport == "ipc" and not colocate:
        raise ValueError(
            "weight_sync.transport: ipc needs engines on the learner's GPUs "
            "(rollout.colocate: true); use nccl or auto"
        )
    return config.transport


def make_sender(
    config: WeightSyncConfig,
    store: Any,
    rank: int,
    *,
    transport: Transport,
    dtype: str,
    family: Family,
    timeout_s: float = 600.0,
) -> WeightSender:
    """The sender for a transport; call it on every learner rank.

    Args:
        config: Bucket size, in-flight mode, checksum mode.
        store: Handle of `store.start_store`, where engines are registered.
        rank: This learner rank; 0 sends.
        transport: From `resolve_transport`.
        dtype: The engines' precision, used for the transfer.
        family: The model's; it knows the engines' names of weights.
        timeout_s: An engine that does not load the weights in this time is left to the pool.
    """
    fleet = Fleet(store, config.in_flight, timeout_s, family)
    wire = getattr(torch, dtype)
    if transport == "object_store":
        return ObjectStoreSender(config, fleet, rank, wire)
    # importing vLLM patches torch, so only learners that need its transports import it
    from olmrl.weight_sync.gpu_links import make_link  # noqa: PLC0415

    bucket_bytes = int(config.bucket_mb * _MIB)
    link = make_link(transport, fleet, bucket_bytes)
    return DirectSender(config, fleet, rank, wire, link, bucket_bytes)


class ObjectStoreSender:
    """Flat buckets through Ray's object store: written once, read in place by every engine."""

    serves_joiners = False

    def __init__(
        self, config: WeightSyncConfig, fleet: Fleet, rank: int, wire: torch.dtype
    ) -> None:
        self._config = config
        self._fleet = fleet
        self._rank = rank
        self._wire = wire

    def send(self, named: Iterable[NamedTensor], version: PolicyVersion) -> Measurements:
        """Put buckets while later tensors are gathered, then let engines read them."""
        if self._rank != 0:
            for _ in named:
                pass
            return {}
        started = time.monotonic()
        sums: checksum.Checksums | None = {} if self._config.checksum else None
        store = self._fleet.store
        store.begin.remote()
        adding: list[Any] = []
        stream = checksum.cast_and_count(named, self._wire, sums, self._fleet.family)
        for bucket in pack(stream, int(self._config.bucket_mb * _MIB)):
            adding.append(store.add.remote(with_data(bucket, None), bucket.data))
            if len(adding) > _PUTS_IN_AIR:
                ray.get(adding.pop(0))
        ray.get(adding)
        publication = ray.get(store.commit.remote(version))
        published = time.monotonic()
        self._fleet.refresh()
        self._fleet.call("sync", lambda _: (publication, self._fleet.in_flight))
        self._fleet.mark_synced(version)
        if sums is not None:
            self._fleet.verify(sums)
        seconds = time.monotonic() - started
        taken = len(self._fleet.engines)
        return sync_measurements(publication.num_bytes, seconds, taken, len(self._fleet.failed)) | {
            "time/weight_publish": Sum(published - started),
            "time/weight_load": Sum(time.monotonic() - published),
        }

    def pending(self) -> bool:
        """Engines that join late read the store's publication themselves."""
        return False

    def close(self) -> None:
        """Nothing to release."""
