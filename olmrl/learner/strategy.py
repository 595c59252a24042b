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

from olmrl.config.schema import ModelConfig
from olmrl.learner.loss import LossFn, LossInputs, to_measurements
from olmrl.learner.model import plain_weights
from olmrl.learner.packed import Policy, PolicyOutput, prepare_inputs
from olmrl.metrics import Measurements
from olmrl.models.family import ImageFeatures
from olmrl.models.shape import ModelShape
from olmrl.types import Float32Array, PackedBatch, UInt8Array


class Strategy(Protocol):
    """The policy, its optimizer and its optional reference, spread over ranks."""

    rank: int
    world_size: int
    device: torch.device
    model_config: Any
    """transformers configuration of the policy."""
    shape: ModelShape
    """Its sizes."""
    trained: ModelConfig
    """What of it is trained, and in which precision."""

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

    def weights_are_finite(self) -> bool:
        """Whether this rank's part of the trained weights holds neither NaN nor infinity."""

    def forget_features(self) -> None:
        """Drop the image features kept for further passes over the same batches."""

    def release_cache(self) -> None:
        """Give the device's allocator cache back, for engines on the same GPU."""

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
        self._features: dict[int, tuple[UInt8Array, ImageFeatures]] = {}

    def run(self, batch: PackedBatch) -> PolicyOutput:
        """One forward pass; with a frozen vision tower the same pixels run only once."""
        inputs = prepare_inputs(batch, self._policy.model.config, self._policy.kernel, self._device)
        known = self._features.get(id(batch.patches))
        out: PolicyOutput = self._call(inputs, None if known is None else known[1])
        if self._keep and known is None:
            # the array is kept too, or a new one could take over its id
            kept = ImageFeatures(
                out.features.merged_FH.detach(), tuple(s.detach() for s in out.features.side)
            )
            self._features[id(batch.patches)] = (batch.patches, kept)
        return out

    def forget(self) -> None:
        """Drop kept features."""
        self._features.clear()


class ShardedPolicy:
    """What strategies have in common: all that only needs forward passes and full tensors.

    A subclass sets the attributes and says how a full tensor is put together.
    """

    rank: int
    world_size: int
    device: torch.device
    policy: Policy
    _call: nn.Module
    """The policy as the strategy wraps it."""
    _runner: PolicyRunner
    _reference: PolicyRunner | None
    _adapted: bool
    """Whether it has adapters: then the reference is the policy without them."""

    def _full(self, parameter: Tensor) -> Tensor:
        """A parameter's whole tensor; a collective."""
        raise NotImplementedError

    def logprobs(self, batch: PackedBatch) -> Float32Array:
        """See `Strategy`."""
        return as_numpy(self._observe(self._runner, batch).logprobs_N)

    def reference_logprobs(self, batch: PackedBatch) -> Float32Array:
        """See `Strategy`; with adapters the reference is the policy without them."""
        if self._reference is not None:
            return as_numpy(self._observe(self._reference, batch).logprobs_N)
        if not self._adapted:
            raise ValueError("algorithm.kl_beta: the learner was built without a reference policy")
        model = self.policy.model
        model.disable_adapters()
        try:
            return self.logprobs(batch)
        finally:
            model.enable_adapters()

    def evaluate(self, batch: PackedBatch, loss_fn: LossFn) -> Measurements:
        """See `Strategy`."""
        output = self._observe(self._runner, batch)
        inputs = LossInputs.of(batch, self.device)
        return to_measurements(loss_fn(output.logprobs_N, output.entropy_N, inputs))

    @torch.no_grad()
    def _observe(self, runner: PolicyRunner, batch: PackedBatch) -> PolicyOutput:
        """A forward pass without gradients or adapter dropout."""
        self._call.eval()
        try:
            return runner.run(batch)
        finally:
            self._call.train()

    def forget_features(self) -> None:
        """See `Strategy`."""
        self._runner.forget()

    def release_cache(self) -> None:
        """See `Strategy`."""
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def _slice(self, parameter: Tensor) -> Tensor:
        """This rank's part of a parameter."""
        raise NotImplementedError

    @torch.no_grad()
    def weights_are_finite(self) -> bool:
        """See `Strategy`."""
        trained = [self._slice(p) for p in self.policy.parameters() if p.requires_grad]
        return bool(torch.stack([part.isfinite().all() for part in trained]).all())

    def sum_over_ranks(self, values: Sequence[float]) -> list[float]:
        """See `Strategy`."""
        return reduce_over_ranks(values, self.world_size, self.device)

    def max_over_ranks(self, values: Sequence[float]) -> list[float]:
        """See `Strategy`."""
        return reduce_over_ranks(values, self.world_size, self.device, largest=True)

    @torch.no_grad()
    def named_weights(self, changing_only: bool = False) -> Iterator[tuple[str, Tensor]]:
        """See `Strategy`."""
        yield from plain_weights(self.policy.model, self._full, changing_only)


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
