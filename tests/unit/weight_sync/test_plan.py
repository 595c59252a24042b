from __future__ import annotations

import socket

import pytest
import torch

from olmrl.config.schema import WeightSyncConfig
from olmrl.weight_sync.plan import describe, free_port, merge_handles, rank_plan
from olmrl.weight_sync.store import EngineEntry
from olmrl.weight_sync.transport import resolve_transport


def test_every_gpu_of_every_engine_has_a_rank_of_its_own() -> None:
    engines = [EngineEntry(name, None, ranks) for name, ranks in (("a", 2), ("b", 1), ("c", 4))]
    world, offsets = rank_plan(engines)
    taken = [0] + [offsets[e.worker_id] + k for e in engines for k in range(e.ranks)]
    assert sorted(taken) == list(range(world))
    assert rank_plan([]) == (1, {})


def test_a_bucket_is_described_in_vllms_words() -> None:
    group = [("w", torch.zeros(2, 3, dtype=torch.bfloat16)), ("b", torch.zeros(3))]
    assert describe(group) == {
        "names": ["w", "b"],
        "dtype_names": ["bfloat16", "float32"],
        "shapes": [[2, 3], [3]],
    }


def test_handles_of_ranks_merge_by_gpu_and_two_ranks_on_one_are_refused() -> None:
    assert merge_handles([{"gpu-0": 1}, {"gpu-1": 2}]) == {"gpu-0": 1, "gpu-1": 2}
    with pytest.raises(ValueError, match="two learner ranks are on gpu-0"):
        merge_handles([{"gpu-0": 1}, {"gpu-0": 2}])


def test_a_free_port_can_be_listened_on() -> None:
    with socket.socket() as listener:
        listener.bind(("", free_port()))


@pytest.mark.parametrize(
    ("asked", "engine", "use_gpu", "colocate", "expected"),
    [
        ("auto", "vllm", False, False, "object_store"),
        ("auto", "hf", True, False, "object_store"),
        ("auto", "vllm", True, False, "nccl"),
        ("auto", "vllm", True, True, "ipc"),
        ("object_store", "vllm", True, False, "object_store"),
        ("nccl", "vllm", True, False, "nccl"),
    ],
)
def test_transport_follows_hardware_and_placement(
    asked: str, engine: str, use_gpu: bool, colocate: bool, expected: str
) -> None:
    config = WeightSyncConfig(transport=asked)
    found = resolve_transport(config, engine=engine, use_gpu=use_gpu, colocate=colocate)
    assert found == expected


def test_adapters_go_through_the_object_store() -> None:
    where = {"engine": "vllm", "use_gpu": True, "colocate": False}
    for asked in ("auto", "object_store"):
        config = WeightSyncConfig(transport=asked, lora="adapter")
        assert resolve_transport(config, **where) == "object_store"
    with pytest.raises(ValueError, match="nccl sends whole weights only; use object_store or auto"):
        resolve_transport(WeightSyncConfig(transport="nccl", lora="adapter"), **where)


@pytest.mark.parametrize(
    ("asked", "engine", "use_gpu", "message"),
    [
        ("nccl", "vllm", False, "weight_sync.transport: nccl needs the vllm engine on GPUs"),
        ("ipc", "hf", True, "weight_sync.transport: ipc needs the vllm engine on GPUs"),
        ("ipc", "vllm", True, "rollout.colocate: true"),
    ],
)
def test_impossible_transports_are_refused(
    asked: str, engine: str, use_gpu: bool, message: str
) -> None:
    config = WeightSyncConfig(transport=asked)
    with pytest.raises(ValueError, match=message):
        resolve_transport(config, engine=engine, use_gpu=use_gpu, colocate=False)
