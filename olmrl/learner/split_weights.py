"""bfloat16 weights, and the 16 bits that bfloat16 rounds away: together exactly float32 weights.

A bfloat16 number is the upper half of a float32 number. Next to the rounded weight, which the model
computes with, the optimizer keeps the difference between the bits of the exact weight and those of
the rounded one: it always fits into 16 bits, so nothing of an update is lost, however small it is.
(Kahan's compensation in bfloat16 takes the same memory, but can lose steps below 2^-17 of a weight,
as are those of a norm's weights at a rate of 2e-6.)
"""

from __future__ import annotations

import torch
from torch import Tensor

_HALF = 1 << 15


def join(weight: Tensor, rest: Tensor) -> Tensor:
    """The exact weights, float32.

    Args:
        weight: bfloat16.
        rest: int16, the same shape.
    """
    upper = weight.view(torch.int16).to(torch.int32) << 16
    return (upper + rest).view(torch.float32)


def split_(weight: Tensor, rest: Tensor, exact: Tensor) -> None:
    """Write exact weights: rounded (ties away from zero) to `weight`, what is left to `rest`."""
    bits = exact.view(torch.int32)
    upper = (bits + _HALF) >> 16
    rest.copy_(bits - (upper << 16))
    weight.view(torch.int16).copy_(upper)
