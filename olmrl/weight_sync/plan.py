"""The ranks in a transfer group, and a bucket's description for vLLM's receivers."""

from __future__ import annotations

import socket
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from olmrl.weight_sync.publication import NamedTensor


@dataclass(frozen=True, slots=True)
class EngineEntry:
    """One engine that must get new weights."""

    worker_id: str
    handle: Any
    """Ray actor handle of a RolloutWorker."""
    ranks: int
    """GPUs of the engine: its ranks in an NCCL group."""


def rank_plan(engines: Sequence[EngineEntry]) -> tuple[int, dict[str, int]]:
    """World size of the transfer group, and the rank of each engine's first GPU.

    The learner is rank 0; engines follow, each with as many ranks as it has GPUs.
    """
    offsets: dict[str, int] = {}
    following = 1
    for engine in engines:
        offsets[engine.worker_id] = following
        following += engine.ranks
    return following, offsets


def describe(group: Sequence[NamedTensor]) -> dict[str, Any]:
    """Names, dtypes and shapes of a bucket, as vLLM's receivers expect them."""
    return {
        "names": [name for name, _ in group],
        "dtype_names": [str(tensor.dtype).removeprefix("torch.") for _, tensor in group],
        "shapes": [list(tensor.shape) for _, tensor in group],
    }


def merge_handles(parts: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """IPC handles of all ranks, by GPU uuid.

    Raises:
        ValueError: two learner ranks share a GPU; its engine could not tell them apart.
    """
    merged: dict[str, Any] = {}
    for part in parts:
        for uuid, handle in part.items():
            if uuid in merged:
                raise ValueError(f"weight_sync.transport: ipc, but two learner ranks are on {uuid}")
            merged[uuid] = handle
    return merged


def free_port() -> int:
    """A TCP port that is currently free."""
    with socket.socket() as listener:
        listener.bind(("", 0))
        return int(listener.getsockname()[1])
