"""Links between GPUs, through vLLM's native weight-transfer engines: `nccl` and `ipc`.

The stock trainer classes are not used: they give every engine the same rank offset (separate
engines would collide in one NCCL group) and need all names before the first tensor. Their wire
format is kept, so engines run vLLM's own receivers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import ray
import torch
from vllm.distributed.weight_transfer.nccl_common import trainer_init
from vllm.distributed.weight_transfer.packed_tensor import (
    packed_ipc_producer,
    packed_nccl_broadcast_producer,
)

from olmrl.errors import LinkBroken
from olmrl.weight_sync.direct_sender import Link
from olmrl.weight_sync.fleet import Fleet
from olmrl.weight_sync.plan import describe, free_port, merge_handles, rank_plan
from olmrl.weight_sync.publication import NamedTensor

_NCCL_BUFFERS = 2


def make_link(transport: str, fleet: Fleet, bucket_bytes: int) -> Link:
    """The link of a transport, `nccl` or `ipc`."""
    return NcclLink(fleet, bucket_bytes) if transport == "nccl" else IpcLink(fleet)


class NcclLink:
    """One NCCL group of the sending rank (0) and all ranks of all engines.

    The group is rebuilt when an engine has joined or left, which takes seconds and is rare. If an
    engine dies during a collective, the group is lost and the learner restarts.
    """

    def __init__(self, fleet: Fleet, bucket_bytes: int) -> None:
        self._fleet = fleet
        self._bucket_bytes = bucket_bytes
        self._members: frozenset[str] = frozenset()
        self._group: Any = None

    def connect(self) -> None:
        """Let every engine join with its own rank offset."""
        if self._members == self._fleet.members:
            return
        self.close()
        self._members = self._fleet.members
        if not self._members:
            return
        world_size, offsets = rank_plan(self._fleet.engines)
        shared = {
            "master_address": ray.util.get_node_ip_address(),
            "master_port": free_port(),
            "world_size": world_size,
        }
        wire = {
            "packed": True,
            "packed_buffer_size_bytes": self._bucket_bytes,
            "packed_num_buffers": _NCCL_BUFFERS,
        }
        joining = self._fleet.start(
            "init_weight_transfer",
            lambda engine: ({**shared, **wire, "rank_offset": offsets[engine.worker_id]},),
        )
        self._group = self._fleet.collect_while(joining, on_this_gpu(lambda: trainer_init(shared)))

    def send(self, group: Sequence[NamedTensor], sender: bool) -> None:
        """Broadcast a bucket while the engines receive it."""
        if not sender or self._group is None:
            return
        if self._members != self._fleet.members:
            gone = ", ".join(sorted(self._members - self._fleet.members))
            raise LinkBroken(f"a weight transfer failed: {gone} left it")

        def broadcast() -> None:
            packed_nccl_broadcast_producer(
                iterator=iter(group),
                group=self._group,
                src=0,
                post_iter_func=lambda item: item[1],
                buffer_size_bytes=self._bucket_bytes,
                num_buffers=_NCCL_BUFFERS,
            )

        receiving = self._fleet.start("update_weights", lambda _: (describe(group),))
        # The broadcast uses its own streams, which do not wait for pending gathers and casts.
        torch.cuda.current_stream().synchronize()
        self._fleet.collect_while(receiving, on_this_gpu(broadcast))

    def close(self) -> None:
        """Leave the group."""
        if self._group is not None:
            self._group.destroy()
            self._group = None


def on_this_gpu(work: Callable[[], Any]) -> Callable[[], Any]:
    """The same work, to run in another thread: each thread has its own current device."""
    device = torch.cuda.current_device()

    def there() -> Any:
        torch.cuda.set_device(device)
        return work()

    return there


class IpcLink:
    """CUDA IPC: each learner rank shares its copy of a bucket with the engine on its own GPU."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._members: frozenset[str] = frozenset()

    def connect(self) -> None:
        """Agree on packed buffers."""
        if self._members != self._fleet.members:
            self._fleet.call("init_weight_transfer", lambda _: ({"packed": True},))
            self._members = self._fleet.members

    def send(self, group: Sequence[NamedTensor], sender: bool) -> None:
        """Share a bucket and wait until every engine has copied it; a collective of all ranks."""
        device = torch.cuda.current_device()
        uuid = str(torch.cuda.get_device_properties(device).uuid)
        size = sum(tensor.numel() * tensor.element_size() for _, tensor in group)
        for chunk in packed_ipc_producer(iter(group), uuid, lambda item: item[1], size):
            handles = merge_handles(_all_gather(chunk.ipc_handle))
            if sender:
                info = describe(group) | {
                    "ipc_handles": handles,
                    "tensor_sizes": chunk.tensor_sizes,
                }
                arguments = (info,)
                self._fleet.call("update_weights", lambda _: arguments)  # noqa: B023 (called now)
            # The buffer must not be freed before every engine has read it.
            _barrier()
        torch.cuda.ipc_collect()

    def close(self) -> None:
        """Nothing to release."""


def _all_gather(handle: dict[str, Any]) -> Iterator[dict[str, Any]]:
    if not torch.distributed.is_initialized():
        yield handle
        return
    parts: list[Any] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(parts, handle)
    yield from parts


def _barrier() -> None:
    if torch.distributed.is_initialized():
        torch.distributed.barrier()
