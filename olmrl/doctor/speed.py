"""How fast this machine multiplies matrices: what `doctor --speed` measures."""

from __future__ import annotations

import time

import torch

_SIDE = 1024
_SECONDS = 0.4


def matrix_speeds() -> dict[str, float]:
    """Operations per second of square matrix products, by `device dtype`."""
    devices = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
    return {
        f"{device} {str(dtype).removeprefix('torch.')}": _speed(device, dtype)
        for device in devices
        for dtype in (torch.float32, torch.bfloat16)
    }


def _speed(device: str, dtype: torch.dtype) -> float:
    side = _SIDE if device == "cpu" else 8 * _SIDE
    left = torch.randn(side, side, device=device, dtype=dtype)
    _finish(left @ left)
    count, started = 0, time.perf_counter()
    while time.perf_counter() - started < _SECONDS:
        _finish(left @ left)
        count += 1
    return 2.0 * side**3 * count / (time.perf_counter() - started)


def _finish(result: torch.Tensor) -> None:
    """Wait for the product: a GPU computes in the background."""
    result[0, 0].item()
