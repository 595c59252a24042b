"""8-bit numbers: how weights become codes and scales, and what activations lose by rounding.

Pure functions, float32 inside. Shape letters: N outputs, K inputs, B block side. A value is
`code * scale`; scales are symmetric, so zero stays zero.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

FP8 = torch.float8_e4m3fn
FP8_MAX = torch.finfo(FP8).max
INT8_MAX = 127.0
_TINY = 1e-12


class Codes(NamedTuple):
    """A quantised weight."""

    codes: Tensor
    """[N, K] float8_e4m3fn or int8."""
    scale: Tensor
    """float32 [N, 1] per channel, or [N / B, K / B] per block."""


def channel_codes(weight_NK: Tensor, dtype: torch.dtype) -> Codes:
    """Quantise with one scale per output channel.

    Args:
        weight_NK: weights of a linear layer.
        dtype: float8_e4m3fn or int8.
    """
    values = weight_NK.float()
    scale_N1 = (values.abs().amax(1, keepdim=True) / _largest(dtype)).clamp(min=_TINY)
    return Codes(_round(values / scale_N1, dtype), scale_N1)


def block_codes(weight_NK: Tensor, block: int) -> Codes:
    """Quantise to FP8 with one scale per block of `block` x `block` weights.

    Raises:
        ValueError: a side is not a multiple of `block`.
    """
    rows, columns = weight_NK.shape
    if rows % block or columns % block:
        raise ValueError(f"shape [{rows}, {columns}] is not a multiple of {block}")
    values = weight_NK.float().reshape(rows // block, block, columns // block, block)
    scale = (values.abs().amax((1, 3)) / FP8_MAX).clamp(min=_TINY)
    codes = _round(values / scale[:, None, :, None], FP8)
    return Codes(codes.reshape(rows, columns), scale)


def decode(quantised: Codes) -> Tensor:
    """The float32 [N, K] weights that codes and scales stand for."""
    codes, scale = quantised
    rows, columns = codes.shape
    full = scale.repeat_interleave(rows // scale.shape[0], 0)
    return codes.float() * full.repeat_interleave(columns // scale.shape[1], 1)


def relative_error(exact: Tensor, approximate: Tensor) -> float:
    """||approximate - exact|| / ||exact||, 0 for an all-zero tensor."""
    norm = exact.float().norm().item()
    return (approximate.float() - exact.float()).norm().item() / norm if norm else 0.0


def through_fp8_rows(x: Tensor, group: int | None = None) -> Tensor:
    """Round activations to FP8 with one scale per row, or per `group` values of a row."""
    values = x.float()
    grouped = values.unflatten(-1, (-1, group)) if group else values
    scale = (grouped.abs().amax(-1, keepdim=True) / FP8_MAX).clamp(min=_TINY)
    return (_round(grouped / scale, FP8).float() * scale).reshape(x.shape).to(x.dtype)


def through_int8_rows(x: Tensor) -> Tensor:
    """Round activations to int8 with one scale per row."""
    values = x.float()
    scale = (values.abs().amax(-1, keepdim=True) / INT8_MAX).clamp(min=_TINY)
    return (_round(values / scale, torch.int8).float() * scale).to(x.dtype)


def through_scale(x: Tensor, scale: float, dtype: torch.dtype) -> Tensor:
    """Round activations with one fixed scale; larger ones are clipped."""
    return (_round(x.float() / scale, dtype).float() * scale).to(x.dtype)


def static_scale(largest: float, dtype: torch.dtype) -> float:
    """Scale that maps the largest observed magnitude to the largest code."""
    return max(largest / _largest(dtype), _TINY)


def _largest(dtype: torch.dtype) -> float:
    return INT8_MAX if dtype == torch.int8 else FP8_MAX


def _round(values: Tensor, dtype: torch.dtype) -> Tensor:
    limit = _largest(dtype)
    clipped = values.clamp(-limit, limit)
    return (clipped.round() if dtype == torch.int8 else clipped).to(dtype)
