"""Proof that learner and engines hold equal weights, although they lay them out differently.

vLLM fuses q/k/v and gate/up projections, pads the vocabulary with zeros and, on CPU, repacks
matrices. So a tensor's checksum is a sum over its elements of a hash of their bits, with hash 0 for
zero: it adds up over concatenation, ignores order and zero padding, and changes with any other bit.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

import torch

from olmrl.models.family import Family

Checksums = dict[str, tuple[int, int]]
"""Parameter name -> (hash, number of elements)."""

_CHUNK = 1 << 22
_BITS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def tensor_hash(tensor: torch.Tensor) -> int:
    """Sum of element hashes modulo 2^64, as a signed integer."""
    flat = tensor.detach().reshape(-1)
    total = 0
    for start in range(0, flat.numel(), _CHUNK):
        # Adding zero turns -0.0 into 0.0, which an engine may do as well.
        piece = flat[start : start + _CHUNK] + 0
        bits = piece.view(_BITS[piece.element_size()]).to(torch.int64)
        mixed = bits * -7046029254386353131
        mixed = (mixed ^ (mixed >> 29)) * -4658895280553007687
        mixed = mixed ^ (mixed >> 32)
        total += int(mixed.sum())
    return _wrap(total)


def _wrap(value: int) -> int:
    return (value + 2**63) % 2**64 - 2**63


def add(sums: Checksums, key: str, tensor: torch.Tensor) -> None:
    """Add a tensor under the engine's name for it, which fused tensors share."""
    value, count = sums.get(key, (0, 0))
    sums[key] = (_wrap(value + tensor_hash(tensor)), count + tensor.numel())


def checksums(named: Iterable[tuple[str, torch.Tensor]], family: Family) -> Checksums:
    """Checksums of parameters that are named as in transformers, under their engine names."""
    sums: Checksums = {}
    for name, tensor in named:
        add(sums, family.engine_name(name), tensor)
    return sums


def renamed(sums: Mapping[str, tuple[int, int]], family: Family) -> Checksums:
    """Checksums of parameters that are named as in transformers, joined under engine names."""
    joined: Checksums = {}
    for name, (value, count) in sums.items():
        before, counted = joined.get(family.engine_name(name), (0, 0))
        joined[family.engine_name(name)] = (_wrap(before + value), counted + count)
    return joined


def cast_and_count(
    named: Iterable[tuple[str, torch.Tensor]],
    dtype: torch.dtype,
    sums: Checksums | None,
    family: Family,
) -> Iterator[tuple[str, torch.Tensor]]:
    """Cast floating-point weights as they stream by, and add them to `sums` if it is given."""
    for name, tensor in named:
        kept = not tensor.is_floating_point() or re.fullmatch(family.float32, name)
        sent = tensor if kept else tensor.to(dtype)
        if sums is not None:
            add(sums, family.engine_name(name), sent)
        yield name, sent


def differences(
    learner: Mapping[str, tuple[int, int]],
    engine: Sequence[Mapping[str, tuple[int, int]]],
    family: Family,
) -> list[str]:
    """Names whose weights differ, or which the engine lacks; empty: equal.

    A tied LM head that the engine shares with its embedding is compared through the embedding.
    Replicated key/value heads (more tensor-parallel ranks than heads) are not comparable and left
    out, as are padding zeros.

    Args:
        learner: checksums of the learner's weights.
        engine: those of each tensor-parallel rank of the engine.
        family: the model's.
    """
    different = []
    for name, (value, count) in learner.items():
        found = [rank[name] for rank in engine if name in rank]
        if len(found) < len(engine):
            if found or name != family.engine_head:
                different.append(name)
            continue
        other, other_count = _joined(found, count)
        replicated = other_count > count and "qkv_proj" in name
        if value != other and not replicated:
            different.append(name)
    return different


def _joined(ranks: Sequence[tuple[int, int]], count: int) -> tuple[int, int]:
    """One checksum of what the ranks hold of a weight: copies count once, shards add up.

    Values do not tell the two apart: the shards of a weight whose numbers are all alike have equal
    checksums too. A rank that holds as many numbers as the whole has a copy.

    Args:
        ranks: what each holds.
        count: numbers of the whole weight.
    """
    first = ranks[0]
    if first[1] >= count and all(rank == first for rank in ranks):
        return first
    return _wrap(sum(value for value, _ in ranks)), sum(n for _, n in ranks)
