"""Fully sharded data parallelism (FSDP2): each rank holds a slice of weights and optimizer state.

A lone rank that computes in the dtype of its weights is left unwrapped. Otherwise `fully_shard`
keeps float32 gradients and weights in the master dtype, and gathers them in the compute dtype, per
block or as a whole.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import (
    CPUOffloadPolicy,
    FSDPModule,
    MixedPrecisionPolicy,
    OffloadPolicy,
    fully_shard,
)
from torch.distributed.tensor import DTensor

from olmrl.config.schema import LearnerConfig, ModelConfig
from olmrl.learner.distillation import Distribution
from olmrl.learner.logprobs import HeadSpec
from olmrl.learner.model import TORCH_DTYPES, vision_is_frozen
from olmrl.learner.optim import build_optim, clip_gradients
from olmrl.learner.packed import HeadlessPolicy, Policy, PolicyOutput, prepare_inputs
from olmrl.learner.strategy import (
    FrozenModel,
    PolicyRunner,
    Strategy,
    ensure_process_group,
    shape_of,
)
from olmrl.models.registry import family_of
from olmrl.types import PackedBatch

FULL = MixedPrecisionPolicy(reduce_dtype=torch.float32, cast_forward_inputs=False)
"""Of modules that compute with the weights themselves, not with rounded copies."""


class FsdpStrategy(Strategy):
    """FSDP2 over the default process group."""

    def __init__(
        self,
        model: Any,
        model_config: ModelConfig,
        learner: LearnerConfig,
        head: HeadSpec,
        *,
        total_steps: int,
        reference: FrozenModel | None = None,
        teacher: FrozenModel | None = None,
    ) -> None:
        super().__init__(model, model_config, head)
        self._max_norm = learner.optimizer.max_grad_norm
        compute = TORCH_DTYPES[model_config.dtype]
        master = TORCH_DTYPES[model_config.master_dtype]
        shard(self.policy, compute, master, learner, self.world_size, learner.cpu_offload)
        self._call = self.policy
        self._runner = PolicyRunner(self.policy, self.policy, self.device, vision_is_frozen(model))
        self._head = head
        if reference is not None:
            frozen = self._freeze(reference, model_config, learner)
            self._reference = PolicyRunner(frozen, frozen, self.device, keep_features=False)
        self._headless: HeadlessPolicy | None = None
        if teacher is not None:
            frozen = self._freeze(teacher, model_config, learner)
            self.teacher_shape = shape_of(frozen.model)
            if teacher.headless:
                self._headless = frozen
            else:
                self._teacher = PolicyRunner(frozen, frozen, self.device, keep_features=False)
        self.optim = build_optim(
            model, model.lm_head, family_of(model.config), learner.optimizer, total_steps
        )

    def _freeze(self, frozen: FrozenModel, model: ModelConfig, learner: LearnerConfig) -> Any:
        """A frozen model's weights, sharded as the policy's are."""
        loaded = frozen.load().requires_grad_(False).eval()
        policy = (
            HeadlessPolicy(loaded, self.kernel)
            if frozen.headless
            else Policy(loaded, self.kernel, self._head)
        )
        compute, held = TORCH_DTYPES[model.dtype], TORCH_DTYPES[learner.frozen_dtype(model)]
        offload = learner.cpu_offload or frozen.offload
        shard(policy, compute, held, learner, self.world_size, offload)
        return policy

    @contextmanager
    def _taught(self, batch: PackedBatch) -> Iterator[Distribution | None]:
        """See `Strategy`; the teacher's head stays gathered meanwhile."""
        if self._headless is None:
            yield None
            return
        model = self._headless.model
        inputs = prepare_inputs(batch, model.config, self.kernel, self.device)
        with torch.no_grad():
            hidden_NG = self._headless(inputs)
        owner = model.lm_head if isinstance(model.lm_head, FSDPModule) else self._headless
        if isinstance(owner, FSDPModule):
            owner.unshard()
        try:
            yield Distribution(hidden_NG, model.lm_head.weight)
        finally:
            for part in (owner, self._headless):
                if isinstance(part, FSDPModule):
                    part.reshard()

    def _backward(self, loss: Tensor) -> None:
        loss.backward()

    def _update(self) -> float:
        norm = clip_gradients(self.policy, self._max_norm)
        self.optim.step()
        self.optim.zero_grad()
        return norm

    def discard_gradients(self) -> None:
        """See `Strategy`."""
        self.optim.zero_grad()

    def _full(self, parameter: Tensor, dtype: torch.dtype | None = None) -> Tensor:
        if isinstance(parameter, DTensor):
            # GPU collectives cannot reach slices offloaded to host memory
            sharded: Any = parameter.to(device=self.device, dtype=dtype)
            whole: Tensor = sharded.full_tensor()
            return whole
        return parameter.detach().to(dtype=dtype)

    @torch.no_grad()
    def _observe(self, runner: PolicyRunner, batch: PackedBatch) -> PolicyOutput:
        """See `Strategy`; FSDP would keep the root's gathered weights for a backward pass."""
        try:
            return super()._observe(runner, batch)
        finally:
            if isinstance(runner.policy, FSDPModule):
                runner.policy.reshard()

    def _slice(self, parameter: Tensor) -> Tensor:
        return parameter.to_local() if isinstance(parameter, DTensor) else parameter

    def state_dict(self) -> dict[str, Any]:
        """See `Strategy`."""
        model, optim = get_state_dict(self.policy.model, self.optim.optimizers)
        return {"model": model, "optim": optim, "schedule": self.optim.schedule_state()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See `Strategy`."""
        set_state_dict(
            self.policy.model,
            self.optim.optimizers,
            model_state_dict=state["model"],
            optim_state_dict=state["optim"],
        )
        self.optim.restore(state["schedule"])


def shard(
    policy: Policy | HeadlessPolicy,
    compute: torch.dtype,
    held: torch.dtype,
    learner: LearnerConfig,
    world_size: int,
    offload: bool,
) -> None:
    """`fully_shard` a policy in place, unless one rank computes in the dtype of its weights.

    Args:
        policy: the policy, its weights on the device.
        compute: dtype of the computation.
        held: dtype of the weights.
        learner: FSDP units, precision of the head.
        world_size: number of ranks.
        offload: keep the slices in host memory (no effect on a CPU).
    """
    offloaded = offload and policy.model.device.type != "cpu"
    if world_size == 1 and compute == held and not offloaded:
        return
    mixed = MixedPrecisionPolicy(param_dtype=compute, reduce_dtype=torch.float32)
    place = CPUOffloadPolicy() if offloaded else OffloadPolicy()
    ensure_process_group(policy.model.device)
    mesh = init_device_mesh(policy.model.device.type, (dist.get_world_size(),))
    family = family_of(policy.model.config)
    language, tower = family.language(policy.model), family.tower(policy.model)
    if learner.fp32_lm_head and compute != torch.float32:
        # the head multiplies by the float32 weights themselves, not by their rounded copies
        tied = policy.model.lm_head.weight is language.embed_tokens.weight
        unit: list[nn.Module] = [language.embed_tokens] if tied else []
        fully_shard([*unit, policy.model.lm_head], mesh=mesh, mp_policy=FULL, offload_policy=place)
    for exact in family.float32_units(policy.model) if compute != torch.float32 else ():
        fully_shard(exact, mesh=mesh, mp_policy=FULL, offload_policy=place)
    if learner.wrap == "block":
        for block in (*tower.blocks, *language.layers):
            fully_shard(block, mesh=mesh, mp_policy=mixed, offload_policy=place)
    fully_shard(policy, mesh=mesh, mp_policy=mixed, offload_policy=place)
