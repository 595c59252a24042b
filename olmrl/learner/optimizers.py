"""AdamW for bfloat16 weights that loses no update, and Muon in the precision that is fast here.

Both work on whole tensors and on the slices of FSDP2, and keep torch's parameter groups and names
of state. bfloat16 weights have their lower bits in the state (`learner.split_weights`).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from itertools import chain
from typing import Any

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor

from olmrl.learner.split_weights import join, split_

REST = "weight_rest"
"""State of a bfloat16 weight: what `split_weights` keeps beside it."""
_CHUNK = 2**22
"""Weights that AdamW updates at a time: limits its temporary float32 copies to about 100 MB."""
_SLOW = 1.5
"""bfloat16 is taken unless it takes this many times as long: timings are noisy, and where bfloat16
has no units of its own it is ten times slower or more."""
_PROBE = {"cuda": 2048, "cpu": 256}
"""Rows of the square matrices that are timed."""


def _with_gradient(optimizer: torch.optim.Optimizer) -> Iterator[tuple[Tensor, dict[str, Any]]]:
    """Each parameter that has a gradient, with its group."""
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            if parameter.grad is not None:
                yield parameter, group


class SplitAdamW(torch.optim.AdamW):
    """AdamW (arXiv 1711.05101) whose bfloat16 weights move as float32 weights would.

    The first moment is bfloat16, the second float32: it changes by a thousandth in a step, which
    bfloat16 cannot express. Weights of other dtypes are updated in place, as they are.
    """

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Update the weights that have a gradient."""
        for parameter, group in _with_gradient(self):
            self._update(parameter, group)

    def _update(self, parameter: Tensor, group: dict[str, Any]) -> None:
        state = self.state[parameter]
        if "step" not in state:
            state["step"] = torch.zeros(())
            state["exp_avg"] = torch.zeros_like(parameter)
            state["exp_avg_sq"] = torch.zeros_like(parameter, dtype=torch.float32)
        _ready_rest(state, parameter)
        state["step"] += 1
        beta1, beta2 = group["betas"]
        unbias1, unbias2 = (1 - beta ** state["step"].item() for beta in (beta1, beta2))
        names = ("exp_avg", "exp_avg_sq", *([REST] if REST in state else []))
        pieces = (parameter, parameter.grad, *(state[name] for name in names))
        for weight, gradient, first, second, *rest in _chunks(*pieces):
            gradient = gradient.float()
            mean = first.float().lerp_(gradient, 1 - beta1)
            first.copy_(mean)
            second.mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
            exact = join(weight, rest[0]) if rest else weight
            exact.mul_(1 - group["lr"] * group["weight_decay"])
            deviation = (second / unbias2).sqrt_().add_(group["eps"])
            exact.addcdiv_(mean, deviation, value=-group["lr"] / unbias1)
            if rest:
                split_(weight, rest[0], exact)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """See torch; state keeps its own precision."""
        super().load_state_dict(state_dict)
        _keep_dtypes(self, state_dict, {"exp_avg_sq": torch.float32, REST: torch.int16})
        for state in self.state.values():
            state["step"] = state["step"].cpu()


class Muon(torch.optim.Muon):
    """torch's Muon (Newton-Schulz, Nesterov momentum) with a precision to choose.

    Args:
        parameters: matrices.
        settings: see torch.
    """

    precision: torch.dtype = torch.bfloat16
    """Of the Newton-Schulz iteration."""

    def __init__(self, parameters: list[Any], **settings: Any) -> None:
        super().__init__(parameters, nesterov=True, **settings)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Update the matrices that have a gradient."""
        for parameter, group in _with_gradient(self):
            self._update(parameter, group)

    def _update(self, parameter: Tensor, group: dict[str, Any]) -> None:
        state, gradient = self.state[parameter], parameter.grad
        assert gradient is not None
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(gradient)
        _ready_rest(state, parameter)
        buffer = state["momentum_buffer"]
        buffer.lerp_(gradient, 1 - group["momentum"])
        direction = orthogonalise(gradient.lerp(buffer, group["momentum"]), self.precision, group)
        rows, columns = parameter.shape
        rate = group["lr"] * math.sqrt(max(1.0, rows / columns))
        kept = 1 - group["lr"] * group["weight_decay"]
        if REST not in state:
            parameter.mul_(kept)
            parameter.add_(direction, alpha=-rate)
            return
        if isinstance(parameter, DTensor) and isinstance(direction, DTensor):
            direction = direction.redistribute(placements=parameter.placements)
        weight, rest = _local(parameter), _local(state[REST])
        exact = join(weight, rest).mul_(kept).add_(_local(direction), alpha=-rate)
        split_(weight, rest, exact)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """See torch; state keeps its own precision."""
        super().load_state_dict(state_dict)
        _keep_dtypes(self, state_dict, {REST: torch.int16})


def orthogonalise(matrix: Tensor, precision: torch.dtype, group: dict[str, Any]) -> Tensor:
    """Nearly the closest matrix with orthonormal rows or columns.

    Args:
        matrix: [rows, columns].
        precision: of the computation.
        group: `ns_coefficients`, `ns_steps` and `eps`, as torch's Muon names them.
    """
    a, b, c = group["ns_coefficients"]
    is_tall = matrix.size(0) > matrix.size(1)
    wide = matrix.to(precision)
    wide = wide.T if is_tall else wide
    wide = wide / wide.norm().clamp(min=group["eps"])  # no singular value above 1
    for _ in range(group["ns_steps"]):
        gram = wide @ wide.T
        polynomial = torch.addmm(gram, gram, gram, beta=b, alpha=c)
        wide = torch.addmm(wide, polynomial, wide, beta=a)
    return wide.T if is_tall else wide


def fastest_precision(device: torch.device) -> torch.dtype:
    """bfloat16, or float32 where a timed product of matrices in bfloat16 is the slower one."""
    times = {dtype: _seconds(dtype, device) for dtype in (torch.float32, torch.bfloat16)}
    slow = times[torch.bfloat16] > _SLOW * times[torch.float32]
    return torch.float32 if slow else torch.bfloat16


def _seconds(dtype: torch.dtype, device: torch.device) -> float:
    rows = _PROBE.get(device.type, 256)
    matrix = torch.ones(rows, rows, dtype=dtype, device=device)
    taken = []
    for _ in range(4):
        begin = time.perf_counter()
        (matrix @ matrix)[0, 0].item()  # waits for the device
        taken.append(time.perf_counter() - begin)
    return min(taken[1:])


def _ready_rest(state: dict[str, Any], parameter: Tensor) -> None:
    """Zeros for the lower bits, at the start and after a checkpoint of an olmrl without them."""
    if parameter.dtype == torch.bfloat16 and REST not in state:
        state[REST] = torch.zeros_like(parameter, dtype=torch.int16)


def _local(tensor: Tensor) -> Tensor:
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def _chunks(*tensors: Tensor | None) -> Iterator[tuple[Tensor, ...]]:
    """This rank's part of tensors of one shape, a piece of each at a time."""
    flat = [_local(tensor).view(-1) for tensor in tensors if tensor is not None]
    for start in range(0, flat[0].numel(), _CHUNK):
        yield tuple(tensor[start : start + _CHUNK] for tensor in flat)


def _keep_dtypes(
    optimizer: torch.optim.Optimizer, saved: dict[str, Any], dtypes: dict[str, torch.dtype]
) -> None:
    """Take state from `saved` that torch has cast to the dtype of its parameter."""
    numbers = chain.from_iterable(group["params"] for group in saved["param_groups"])
    parameters = chain.from_iterable(group["params"] for group in optimizer.param_groups)
    for number, parameter in zip(numbers, parameters, strict=True):
        for name, dtype in dtypes.items():
            value = saved["state"].get(number, {}).get(name)
            if value is not None and parameter.dtype == torch.bfloat16:
                optimizer.state[parameter][name] = value.to(parameter.device, dtype, copy=True)
