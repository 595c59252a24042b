"""The policy over ranks: what every sharding library offers the learner.

`FsdpStrategy` and `DeepspeedStrategy` implement it; losses, weight sync and checkpoints know only
this class. All methods that touch weights are collective: every rank calls them, in the same order.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn

from olmrl.config.schema import ModelConfig
from olmrl.hardware import collective_backend
from olmrl.learner.attention import resolve_kernel
from olmrl.learner.distillation import Distribution
from olmrl.learner.logprobs import HeadSpec
from olmrl.learner.loss import LossFn, LossInputs, to_measurements
from olmrl.learner.model import adapter_weights, plain_weights
from olmrl.learner.optim import Optim, all_finite
from olmrl.learner.packed import Policy, PolicyOutput, blank_batch, prepare_inputs
from olmrl.metrics import Last, Mean, Measurements
from olmrl.models.family import ImageFeatures
from olmrl.models.registry import family_of
from olmrl.models.shape import ModelShape
from olmrl.types import Float32Array, PackedBatch, UInt8Array


class PolicyRunner:
    """Runs packed batches through a policy, keeping image features where they cannot change."""

    def __init__(
        self, policy: Policy, call: nn.Module, device: torch.device, keep_features: bool
    ) -> None:
        self.policy = policy
        self._call = call
        self._device = device
        self._keep = keep_features
        self._features: dict[int, tuple[UInt8Array, ImageFeatures]] = {}

    def run(self, batch: PackedBatch, teacher: Distribution | None = None) -> PolicyOutput:
        """One forward pass; with a frozen vision tower the same pixels run only once."""
        inputs = prepare_inputs(batch, self.policy.model.config, self.policy.kernel, self._device)
        known = self._features.get(id(batch.patches))
        out: PolicyOutput = self._call(inputs, None if known is None else known[1], teacher)
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


@dataclass(frozen=True)
class FrozenModel:
    """A model that is held beside the policy and never trained."""

    load: Callable[[], Any]
    """Called once the policy is sharded: two whole models need not fit."""
    offload: bool = False
    """Keep its weights in host memory, wherever the policy's are."""
    headless: bool = False
    """A teacher that judges the whole vocabulary (`Strategy._taught`)."""


class Strategy(ABC):
    """The policy, its optimizer, its optional reference and teacher, spread over ranks.

    A subclass shards the policy, sets `optim`, `_call`, `_runner`, `_reference` and `_teacher`, and
    implements the abstract methods.

    Args:
        model: the policy, whole.
        model_config: what of it is trained, and in which precision.
        head: how log-probabilities are taken.
    """

    optim: Optim
    _call: nn.Module
    """The policy as the library wraps it."""
    _runner: PolicyRunner
    _reference: PolicyRunner | None = None
    _teacher: PolicyRunner | None = None
    teacher_shape: ModelShape | None = None
    """Sizes of the teacher, if there is one."""

    def __init__(self, model: Any, model_config: ModelConfig, head: HeadSpec) -> None:
        self.world_size = dist.get_world_size() if dist.is_initialized() else 1
        self.rank = dist.get_rank() if dist.is_initialized() else 0
        self.device: torch.device = model.device
        self.model_config = model.config
        """transformers configuration of the policy."""
        self.shape = shape_of(model)
        self.trained = model_config
        self.kernel = resolve_kernel(model_config.attention, self.device, model_config.dtype)
        self.policy = Policy(model, self.kernel, head)

    def forward_backward(self, batch: PackedBatch, loss_fn: LossFn) -> Measurements:
        """Add the gradients of this micro-batch's share of the loss to those of the step."""
        with self._taught(batch) as teacher:
            output = self._runner.run(batch, teacher)
            inputs = LossInputs.of(batch, self.device)
            inputs = replace(inputs, teacher_kl_N=output.teacher_kl_N)
            part = loss_fn(output.logprobs_N, output.entropy_N, inputs)
            # both libraries average gradients over ranks; the loss is a share of the step's already
            self._backward(part.loss * self.world_size)
        return to_measurements(part)

    def _taught(self, batch: PackedBatch) -> AbstractContextManager[Distribution | None]:
        """What the teacher expects at each target, for as long as the policy is compared to it;
        None without one that judges the whole vocabulary."""
        return nullcontext()

    @abstractmethod
    def _backward(self, loss: Tensor) -> None:
        """Accumulate gradients, averaged over ranks."""

    def optim_step(self) -> Measurements:
        """Clip, update, advance the schedule; `NonFiniteStep` is raised before any change."""
        rate = self.optim.lr
        return {"policy/grad_norm": Mean(self._update()), "policy/lr": Last(rate)}

    @abstractmethod
    def _update(self) -> float:
        """Make the optimizer step; return the gradient norm before clipping."""

    @abstractmethod
    def discard_gradients(self) -> None:
        """Drop the gradients of a step that will not be made."""

    def logprobs(self, batch: PackedBatch) -> Float32Array:
        """[N] log-probability of each target under the policy, without gradients."""
        return self._observe(self._runner, batch).logprobs_N.cpu().numpy()

    def reference_logprobs(self, batch: PackedBatch) -> Float32Array:
        """[N] the same under the reference: with adapters, the policy without them."""
        if self._reference is not None:
            return self._observe(self._reference, batch).logprobs_N.cpu().numpy()
        if self.trained.lora is None:
            raise ValueError("algorithm.kl_beta: the learner was built without a reference policy")
        model = self.policy.model
        model.disable_adapters()
        try:
            return self.logprobs(batch)
        finally:
            model.enable_adapters()

    def teacher_logprobs(self, batch: PackedBatch) -> Float32Array:
        """[N] the same under the teacher."""
        if self._teacher is None:
            raise ValueError("algorithm.teacher: the learner was built without a teacher")
        return self._observe(self._teacher, batch).logprobs_N.cpu().numpy()

    def evaluate(self, batch: PackedBatch, loss_fn: LossFn) -> Measurements:
        """What `loss_fn` measures, without gradients or dropout."""
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
        """Drop the image features kept for further passes over the same batches."""
        self._runner.forget()

    def release_cache(self) -> None:
        """Return cached GPU memory to the device, for engines on the same GPU."""
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    @torch.no_grad()
    def weights_are_finite(self) -> bool:
        """Whether this rank's part of the trained weights holds neither NaN nor infinity."""
        return all_finite([self._slice(p) for p in self.policy.parameters() if p.requires_grad])

    @abstractmethod
    def _slice(self, parameter: Tensor) -> Tensor:
        """This rank's part of a parameter."""

    def sum_over_ranks(self, values: Sequence[float]) -> list[float]:
        """Elementwise sum."""
        return self._reduce(values, dist.ReduceOp.SUM)

    def max_over_ranks(self, values: Sequence[float]) -> list[float]:
        """Elementwise maximum."""
        return self._reduce(values, dist.ReduceOp.MAX)

    def _reduce(self, values: Sequence[float], operation: Any) -> list[float]:
        # counts need more than float32's 24 bits
        exact = torch.from_numpy(np.asarray(values, dtype=np.float64))
        if self.world_size > 1:
            exact = exact.to(self.device)
            dist.all_reduce(exact, op=operation)
        return exact.tolist()

    @torch.no_grad()
    def named_weights(
        self, changing_only: bool = False, dtype: torch.dtype | None = None
    ) -> Iterator[tuple[str, Tensor]]:
        """Full tensors under transformers' names, one at a time, adapters merged, head included.

        Args:
            changing_only: without the frozen ones.
            dtype: precision of those that may be rounded (`Family.float32`), which is done before
                ranks exchange them; None: that of the weights.
        """
        yield from plain_weights(self.policy.model, self._full, changing_only, dtype)

    @torch.no_grad()
    def named_adapters(self, dtype: torch.dtype | None = None) -> Iterator[tuple[str, Tensor]]:
        """Full matrices of the adapters alone, one at a time, B scaled (`adapter_weights`)."""
        yield from adapter_weights(self.policy.model, self._full, dtype)

    @abstractmethod
    def _full(self, parameter: Tensor, dtype: torch.dtype | None) -> Tensor:
        """A parameter's whole tensor, rounded to `dtype`; a collective."""

    @abstractmethod
    def state_dict(self) -> dict[str, Any]:
        """`model`, `optim` and `schedule`, as torch.distributed.checkpoint takes them."""

    @abstractmethod
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""


def shape_of(model: Any) -> ModelShape:
    """Sizes of a loaded model."""
    shape: ModelShape = family_of(model.config).shape(model.config.to_dict())
    return shape


def ensure_process_group(device: torch.device) -> None:
    """Give a lone process a process group of its own."""
    if not dist.is_initialized():
        backend = collective_backend(device.type == "cuda")
        dist.init_process_group(backend, store=dist.HashStore(), rank=0, world_size=1)


def pad_batches(
    strategy: Strategy, batches: Sequence[PackedBatch], passes: int
) -> list[PackedBatch]:
    """Batches and blank ones up to `passes`, each its own object (features are kept by batch)."""
    blanks = [blank_batch(strategy.model_config) for _ in range(passes - len(batches))]
    return [*batches, *blanks]


def pad_to_largest(strategy: Strategy, batches: Sequence[PackedBatch]) -> list[PackedBatch]:
    """Batches and blank ones, as many as the rank with the most has; collective."""
    (passes,) = strategy.max_over_ranks([len(batches)])
    return pad_batches(strategy, batches, int(passes))
