"""What every way of holding the model over ranks offers to the learner.

`FsdpStrategy` and `DeepspeedStrategy` implement it; losses, weight sync and checkpoints only know
this. All methods that touch weights are collective: every rank calls them, in the same order.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn

from olmrl.learner.loss import LossFn
from olmrl.learner.packed import Policy, PolicyOutput, prepare_inputs
from olmrl.metrics import Measurements
from olmrl.types import Float32Array, PackedBatch


class Strategy(Protocol):
    """The policy, its optimizer and its optional reference, spread over ranks."""

    rank: int
    world_size: int
    device: torch.device
    model_config: Any
    """transformers configuration of the policy."""

    def forward_backward(self, batch: PackedBatch, loss_fn: LossFn) -> Measurements:
        """Add the gradients of `loss_fn`'s part to what the step has so far; sums over ranks."""

    def logprobs(self, batch: PackedBatch) -> Float32Array:
        """[N] log-probability of each target under the policy, without gradients."""

    def reference_logprobs(self, batch: PackedBatch) -> Float32Array:
        """[N] the same under the reference policy."""

    def evaluate(self, batch: PackedBatch, loss_fn: LossFn) -> Measurements:
        """What `loss_fn` measures, without gradients and with dropout off."""

    def optim_step(self) -> Measurements:
        """Clip, update, advance the schedule; `NonFiniteStep` is raised before any change."""

    def discard_gradients(self) -> None:
        """Forget the gradients of a step that will not happen."""

    def forget_features(self) -> None:
        """Drop the image features kept for further passes over the same batches."""

    def sum_over_ranks(self, values: Sequence[float]) -> list[float]:
        """Elementwise sum."""

    def max_over_ranks(self, values: Sequence[float]) -> list[float]:
        """Elementwise maximum."""

    def named_weights(self, changing_only: bool = False) -> Iterator[tuple[str, Tensor]]:
        """Full tensors under transformers' names, one at a time, adapters merged, head included.

        With `changing_only`, without the frozen ones.
        """

    def state_dict(self) -> dict[str, Any]:
        """`model`, `optim` and `schedule`, as torch.distributed.checkpoint takes them."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` gave."""


class PolicyRunner:
    """Runs packed batches through a policy, keeping image features where they cannot change."""

    def __init__(
        self, policy: Policy, call: nn.Module, device: torch.device, keep_features: bool
    ) -> None:
        self._policy = policy
        self._call = call
        self._device = device
        self._keep = keep_features
        self._features: dict[int, tuple[Float32Array, Tensor]] = {}

    def run(self, batch: PackedBatch) -> PolicyOutput:
        """One forward pass; with a frozen vision tower the same pixels run only once."""
        inputs = prepare_inputs(batch, self._policy.model.config, self._policy.kernel, self._device)
        known = self._features.get(id(batch.pixel_values))
        out: PolicyOutput = self._call(inputs, None if known is None else known[1])
        if self._keep and known is None:
            # the array is kept too, or a new one could take over its id
            self._features[id(batch.pixel_values)] = (batch.pixel_values, out.features.detach())
        return out

    def forget(self) -> None:
        """Drop kept features."""
        self._features.clear()


def as_numpy(values: Tensor) -> Float32Array:
    """float32 array on the CPU."""
    return values.detach().float().cpu().numpy()


def reduce_over_ranks(
    values: Sequence[float], world_size: int, device: torch.device, largest: bool = False
) -> list[float]:
    """Elementwise sum (or maximum) over ranks."""
    if world_size == 1:
        return [float(v) for v in values]
    # counts need more than float32's 24 bits
    tensor = torch.from_numpy(np.asarray(values, dtype=np.float64)).to(device)
    dist.all_reduce(tensor, op=dist.ReduceOp.MAX if largest else dist.ReduceOp.SUM)
    return tensor.tolist()
