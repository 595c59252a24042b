"""Weights as a few flat buckets of bytes: one memcpy per tensor, read in place by every engine."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from olmrl.weight_sync.bucket import Bucket

NamedTensor = tuple[str, torch.Tensor]

_ALIGNMENT = 64


@dataclass(frozen=True, slots=True)
class Weights:
    """Named tensors that can be iterated more than once; each pass gathers them anew."""

    stream: Callable[[], Iterator[NamedTensor]]

    def __iter__(self) -> Iterator[NamedTensor]:
        """A pass over all of them."""
        return self.stream()


def groups(named: Iterable[NamedTensor], bucket_bytes: int) -> Iterator[list[NamedTensor]]:
    """Split a stream of tensors into buckets, in order; holds one bucket at a time.

    Args:
        named: HF parameter names and full tensors, on any device.
        bucket_bytes: A bucket is closed when the next tensor would exceed it; a larger tensor
            gets a bucket of its own.
    """
    waiting: list[NamedTensor] = []
    size = 0
    for name, tensor in named:
        length = tensor.numel() * tensor.element_size()
        if waiting and size + length > bucket_bytes:
            yield waiting
            waiting, size = [], 0
        waiting.append((name, tensor.detach()))
        size += length
    if waiting:
        yield waiting


def pack(named: Iterable[NamedTensor], bucket_bytes: int) -> Iterator[Bucket]:
    """Copy a stream of tensors into flat buckets of about `bucket_bytes` (see `groups`)."""
    for tensors in groups(named, bucket_bytes):
        lengths = [tensor.numel() * tensor.element_size() for _, tensor in tensors]
        data = np.zeros(sum(map(_aligned, lengths)), dtype=np.uint8)
        flat = torch.from_numpy(data)
        offset = 0
        for (_, tensor), length in zip(tensors, lengths, strict=True):
            _view(flat, offset, length, tensor.dtype, tuple(tensor.shape)).copy_(tensor)
            offset += _aligned(length)
        yield Bucket(
            names=tuple(name for name, _ in tensors),
            dtypes=tuple(str(tensor.dtype).removeprefix("torch.") for _, tensor in tensors),
            shapes=tuple(tuple(tensor.shape) for _, tensor in tensors),
            data=data,
            num_bytes=sum(lengths),
        )


def unpack(info: dict[str, Any]) -> Iterator[NamedTensor]:
    """Tensors of a bucket as read-only views of its bytes, without a copy."""
    with warnings.catch_warnings():
        # Shared memory is read-only; engines copy from these views and never write to them.
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        flat = torch.from_numpy(info["data"])
    offset = 0
    for name, dtype_name, shape in zip(info["names"], info["dtypes"], info["shapes"], strict=True):
        dtype = getattr(torch, dtype_name)
        length = math.prod(shape) * dtype.itemsize
        yield name, _view(flat, offset, length, dtype, tuple(shape))
        offset += _aligned(length)


def _aligned(length: int) -> int:
    return -(-length // _ALIGNMENT) * _ALIGNMENT


def _view(
    flat: torch.Tensor, offset: int, length: int, dtype: torch.dtype, shape: tuple[int, ...]
) -> torch.Tensor:
    """Bytes `[offset, offset + length)` as a tensor; torch cannot view zero bytes."""
    if not length:
        return torch.empty(shape, dtype=dtype)
    return flat[offset : offset + length].view(dtype).view(shape)
