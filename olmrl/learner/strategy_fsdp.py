"""Fully sharded data parallelism (FSDP2): each rank holds a slice of weights and optimizer state.

One rank that computes in the dtype of its weights is left unwrapped; all else is `fully_shard`ed,
per block or as a whole, with float32 master weights and gradients and the compute dtype gathered.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import (
    CPUOffloadPolicy,
    MixedPrecisionPolicy,
    OffloadPolicy,
    fully_shard,
)
from torch.distributed.tensor import DTensor

from olmrl.config.schema import LearnerConfig, ModelConfig
from olmrl.hardware import collective_backend
from olmrl.learner.attention import resolve_kernel
from olmrl.learner.logprobs import HeadSpec
from olmrl.learner.loss import LossFn, LossInputs, to_measurements
from olmrl.learner.model import TORCH_DTYPES, vision_is_frozen
from olmrl.learner.optim import build_optim, clip_gradients
from olmrl.learner.packed import Policy
from olmrl.learner.strategy import PolicyRunner, ShardedPolicy
from olmrl.metrics import Last, Mean, Measurements
from olmrl.models.registry import family_of
from olmrl.types import PackedBatch


class FsdpStrategy(ShardedPolicy):
    """FSDP2 over the default process group; see `Strategy` for the methods."""

    def __init__(
        self,
        model: Any,
        model_config: ModelConfig,
        learner: LearnerConfig,
        head: HeadSpec,
        *,
        total_steps: int,
        reference: Callable[[], Any] | None = None,
    ) -> None:
        self.world_size = dist.get_world_size() if dist.is_initialized() else 1
        self.rank = dist.get_rank() if dist.is_initialized() else 0
        self.device = model.device
        self.model_config = model.config
        family = family_of(model.config)
        self.shape = family.shape(model.config.to_dict())
        self.trained = model_config
        self._max_norm = learner.optimizer.max_grad_norm
        self._adapted = model_config.lora is not None
        kernel = resolve_kernel(model_config.attention, self.device, model_config.dtype)
        self.policy = Policy(model, kernel, head)
        compute = TORCH_DTYPES[model_config.dtype]
        master = TORCH_DTYPES[model_config.master_dtype]
        shard(self.policy, compute, master, learner, self.world_size, learner.cpu_offload)
        self._call = self.policy
        self._runner = PolicyRunner(self.policy, self.policy, self.device, vision_is_frozen(model))
        self._reference: PolicyRunner | None = None
        if reference is not None:
            frozen = Policy(reference().requires_grad_(False).eval(), kernel, head)
            held = TORCH_DTYPES[learner.reference_dtype(model_config)]
            offload = learner.cpu_offload or learner.reference_offload
            shard(frozen, compute, held, learner, self.world_size, offload)
            self._reference = PolicyRunner(frozen, frozen, self.device, keep_features=False)
        self.optim = build_optim(model, model.lm_head, family, learner.optimizer, total_steps)

    def forward_backward(self, batch: PackedBatch, loss_fn: LossFn) -> Measurements:
        """See `Strategy`."""
        output = self._runner.run(batch)
        part = loss_fn(output.logprobs_N, output.entropy_N, LossInputs.of(batch, self.device))
        # FSDP averages gradients over ranks; the loss is already a share of the whole step's
        (part.loss * self.world_size).backward()
        return to_measurements(part)

    def optim_step(self) -> Measurements:
        """See `Strategy`."""
        norm = clip_gradients(self.policy, self._max_norm)
        rate = self.optim.lr
        self.optim.step()
        self.optim.zero_grad()
        return {"policy/grad_norm": Mean(norm), "policy/lr": Last(rate)}

    def discard_gradients(self) -> None:
        """See `Strategy`."""
        self.optim.zero_grad()

    def _full(self, parameter: Tensor) -> Tensor:
        if isinstance(parameter, DTensor):
            # off-loaded slices lie in host memory, which collectives of GPUs cannot reach
            sharded: Any = parameter.to(self.device)
            whole: Tensor = sharded.full_tensor()
            return whole
        return parameter.detach()

    def _slice(self, parameter: Tensor) -> Tensor:
        return parameter.to_local() if isinstance(parameter, DTensor) else parameter

    def state_dict(self) -> dict[str, Any]:
        """See `Strategy`."""
        model, optim = get_state_dict(self.policy.model, self.optim.optimizers)
        return {"model": model, "optim": optim, "schedule": {"steps": self.optim.steps}}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See `Strategy`."""
        set_state_dict(
            self.policy.model,
            self.optim.optimizers,
            model_state_dict=state["model"],
            optim_state_dict=state["optim"],
        )
        self.optim.restore_schedule(int(state["schedule"]["steps"]))


def shard(
    policy: Policy,
    compute: torch.dtype,
    held: torch.dtype,
    learner: LearnerConfig,
    world_size: int,
    offload: bool,
) -> None:
    """`fully_shard` a policy in place, unless it runs alone in the dtype of its weights.

    Args:
        policy: the policy, its weights on the device.
        compute: dtype of the computation.
        held: dtype of the weights.
        learner: FSDP units, precision of the head.
        world_size: number of ranks.
        offload: keep the slices in host memory; on a CPU they are there anyway.
    """
    offloaded = offload and policy.model.device.type != "cpu"
    if world_size == 1 and compute == held and not offloaded:
        return
    mixed = MixedPrecisionPolicy(param_dtype=compute, reduce_dtype=torch.float32)
    place = CPUOffloadPolicy() if offloaded else OffloadPolicy()
    mesh = _mesh(policy.model.device)
    family = family_of(policy.model.config)
    language, tower = family.language(policy.model), family.tower(policy.model)
    if learner.fp32_lm_head and compute != torch.float32:
        # the head multiplies by the float32 weights themselves, not by their rounded copies
        full = MixedPrecisionPolicy(reduce_dtype=torch.float32, cast_forward_inputs=False)
        tied = policy.model.lm_head.weight is language.embed_tokens.weight
        unit: list[nn.Module] = [language.embed_tokens] if tied else []
        fully_shard([*unit, policy.model.lm_head], mesh=mesh, mp_policy=full, offload_policy=place)
    if learner.wrap == "block":
        for block in (*tower.blocks, *language.layers):
            fully_shard(block, mesh=mesh, mp_policy=mixed, offload_policy=place)
    fully_shard(policy, mesh=mesh, mp_policy=mixed, offload_policy=place)


def _mesh(device: torch.device) -> DeviceMesh:
    """All ranks in one dimension; a lone process makes its own group of one."""
    if not dist.is_initialized():
        backend = collective_backend(device.type == "cuda")
        dist.init_process_group(backend, store=dist.HashStore(), rank=0, world_size=1)
    return init_device_mesh(device.type, (dist.get_world_size(),))
