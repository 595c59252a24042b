"""Stage g: weights out of the learner and into another process, in GB/s beside a plain copy.

Gathering full tensors, casting them, packing them into buckets on the device and in host memory;
then buckets to a second process: through CUDA IPC where both share a card, through shared memory in
a rehearsal (torch's own sharing does either), every bucket proved by checksum.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from time import perf_counter
from typing import Any

import torch
import torch.multiprocessing
from measure import copy_gb_per_s, forget_peak, synchronize
from second_process import receive
from shapes import build, deepest, sizes
from stage import Context

from olmrl.cluster.memory import at_rest, total
from olmrl.config.schema import LearnerConfig, ModelConfig, WeightSyncConfig
from olmrl.learner.strategy_fsdp import FsdpStrategy
from olmrl.models.registry import family_of
from olmrl.models.shape import ModelShape
from olmrl.weight_sync.checksum import cast_and_count, tensor_hash
from olmrl.weight_sync.publication import NamedTensor, groups, pack

MODEL = ModelConfig(path="random", dtype="bfloat16", master_dtype="float32")
ANSWER_S = 60.0
IN_HOST_MEMORY = "gather, cast, pack in host memory"
HOST_BUCKETS = 12
"""Buckets of the way through host memory, which is a hundred times slower than the others."""


def run(context: Context) -> None:
    """See the module."""
    wanted, device = sizes(context), context.device
    bucket = 2**16 if context.rehearsal else int(WeightSyncConfig().bucket_mb * 2**20)
    learner = LearnerConfig(use_gpu=not context.rehearsal)

    def held(shape: ModelShape) -> float:
        """Weights, one whole tensor, and the buckets of both processes."""
        weights = total(at_rest(shape, MODEL, learner, False)) / 4
        return weights + 4.0 * shape.vocabulary * shape.hidden + 4.0 * bucket

    layers, said = deepest(context, wanted, held)
    context.report("depth", layers=layers, of=wanted.layers, why=said)
    forget_peak(device)
    strategy = build(wanted, layers, MODEL, learner, device)
    memcpy = bandwidths(context, bucket)
    ways = streams(strategy, bucket)
    in_host_memory = ways.pop(IN_HOST_MEMORY)
    for name, stream in ways.items():
        with context.case(name, layers=layers) as row:
            drain(stream())  # the first round allocates
            measure(context, row, stream(), memcpy)
    with context.case("to a second process") as row:
        send(context, strategy, bucket, memcpy, row)
    with context.case(IN_HOST_MEMORY, layers=layers) as row:
        few = 2 if context.rehearsal else HOST_BUCKETS
        measure(context, row, islice(in_host_memory(), few), memcpy)


def measure(
    context: Context, row: dict[str, Any], stream: Iterator[NamedTensor], memcpy: float
) -> None:
    """Put the rate of a way through the weights into a row."""
    synchronize(context.device)
    started = perf_counter()
    size = drain(stream)
    synchronize(context.device)
    seconds = perf_counter() - started
    rate = size / seconds / 1e9
    row |= {
        "bytes": size,
        "seconds": round(seconds, 5),
        "gb_per_s": round(rate, 3),
        "share_of_memcpy": round(rate / memcpy, 4),
    }


def bandwidths(context: Context, size: int) -> float:
    """GB/s of a plain copy of one bucket on the device; also to host memory."""
    here = torch.zeros(size, dtype=torch.uint8, device=context.device)
    there, host = torch.empty_like(here), torch.empty(size, dtype=torch.uint8)
    rate = copy_gb_per_s(here, there)
    context.report(
        "memcpy",
        bytes=size,
        gb_per_s=round(rate, 3),
        to_host_gb_per_s=round(copy_gb_per_s(here, host), 3),
    )
    return rate


def streams(strategy: FsdpStrategy, bucket: int) -> dict[str, Any]:
    """Ways through the weights, each with all of the one before."""
    family = family_of(strategy.model_config)

    def cast() -> Iterator[NamedTensor]:
        return cast_and_count(
            strategy.named_weights(dtype=torch.bfloat16), torch.bfloat16, None, family
        )

    def packed() -> Iterator[NamedTensor]:
        for group in groups(cast(), bucket):
            yield "bucket", flat(group)

    def published() -> Iterator[NamedTensor]:
        for one in pack(cast(), bucket):
            yield "bucket", torch.from_numpy(one.data)

    return {
        "gather": strategy.named_weights,
        "gather, cast": cast,
        "gather, cast, pack on the device": packed,
        IN_HOST_MEMORY: published,
    }


def flat(group: list[NamedTensor]) -> torch.Tensor:
    """A bucket's bytes in one tensor on the device, as IPC sends them."""
    return torch.cat([tensor.contiguous().view(torch.uint8).flatten() for _, tensor in group])


def drain(stream: Iterator[NamedTensor]) -> int:
    """Bytes that went by."""
    return sum(tensor.numel() * tensor.element_size() for _, tensor in stream)


def send(
    context: Context, strategy: FsdpStrategy, bucket: int, memcpy: float, row: dict[str, Any]
) -> None:
    """Every bucket to a second process and back as a checksum."""
    processes = torch.multiprocessing.get_context("spawn")
    inbox, outbox = processes.SimpleQueue(), processes.Queue()
    other = processes.Process(target=receive, args=(inbox, outbox), daemon=True)
    other.start()
    size = wrong = count = 0
    copied = waited = 0.0
    for _, one in streams(strategy, bucket)["gather, cast, pack on the device"]():
        synchronize(context.device)
        expected = tensor_hash(one)
        started = perf_counter()
        inbox.put(one)
        found, seconds = outbox.get(timeout=ANSWER_S)
        if count:  # the first one waits for the process to start
            waited += perf_counter() - started
            copied += seconds
            size += one.numel()
        wrong += found != expected
        count += 1
    inbox.put(None)
    other.join(ANSWER_S)
    rate = size / copied / 1e9 if copied else 0.0
    row |= {
        "way": "CUDA IPC" if context.device == "cuda" else "shared memory",
        "buckets": count,
        "bytes": size,
        "copy_s": round(copied, 5),
        "copy_gb_per_s": round(rate, 3),
        "share_of_memcpy": round(rate / memcpy, 4),
        "handed_over_and_summed_s": round(waited, 5),
        "wrong_checksums": wrong,
        "ended_well": other.exitcode == 0,
        "ok": wrong == 0 and other.exitcode == 0,
    }
