"""DeepSpeed ZeRO-2 and ZeRO-3: the same policy and losses over DeepSpeed's sharding.

Optional (the `deepspeed` extra); it compiles its CPU collectives on first use, which needs g++ and
ninja. Gradient accumulation is ours: a step ends when the learner says so.
"""

from __future__ import annotations

import os
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, Shard, distribute_tensor

from olmrl.config.schema import LearnerConfig, ModelConfig
from olmrl.learner.logprobs import HeadSpec
from olmrl.learner.model import TORCH_DTYPES, vision_is_frozen
from olmrl.learner.optim import NonFiniteStep, all_finite, build_optim
from olmrl.learner.packed import Policy, blank_batch
from olmrl.learner.strategy import (
    FrozenModel,
    PolicyRunner,
    Strategy,
    ensure_process_group,
    shape_of,
)
from olmrl.models.family import Family
from olmrl.models.registry import family_of

MOMENTS = ("exp_avg", "exp_avg_sq")


class DeepspeedStrategy(Strategy):
    """ZeRO-2 or ZeRO-3 over the default process group."""

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
        _refuse_unsupported(model_config, learner, family_of(model.config))
        self._deepspeed = _import_deepspeed(model.device)
        on_gpu = model.device.type == "cuda"
        ensure_process_group(model.device)
        super().__init__(model, model_config, head)
        self._stage = learner.zero_stage
        self._deepspeed.init_distributed(
            dist_backend="nccl" if on_gpu else "gloo", dist_init_required=False
        )
        self.optim = build_optim(
            model, model.lm_head, family_of(model.config), learner.optimizer, total_steps
        )
        (self._adamw,) = self.optim.optimizers
        self._adamw.register_step_pre_hook(_refuse_non_finite)
        settings = zero_settings(model_config, learner)
        finer = _finer_than_bfloat16(self.policy) if model_config.dtype == "bfloat16" else {}
        self._engine = self._call = self._wrap(self.policy, settings, self._adamw)
        for name, parameter in self.policy.named_parameters():
            if name in finer:
                self._deepspeed.utils.safe_set_full_fp32_param(parameter, finer.pop(name))
        self._runner = PolicyRunner(self.policy, self._engine, self.device, vision_is_frozen(model))
        if reference is not None:
            self._reference = self._freeze(reference, model_config, learner, head)
        if teacher is not None:
            self._teacher = self._freeze(teacher, model_config, learner, head)
            self.teacher_shape = shape_of(self._teacher.policy.model)

    def _freeze(
        self, frozen: FrozenModel, model: ModelConfig, learner: LearnerConfig, head: HeadSpec
    ) -> PolicyRunner:
        """A frozen model, its weights sharded in stage 3."""
        policy = Policy(frozen.load().requires_grad_(False).eval(), self.kernel, head)
        call: nn.Module = policy.to(TORCH_DTYPES[model.dtype])
        if self._stage == 3:
            offload = learner.cpu_offload or frozen.offload
            held = learner.model_copy(update={"cpu_offload": offload})
            call = self._wrap(policy, zero_settings(model, held), None)
        return PolicyRunner(policy, call, self.device, keep_features=False)

    def _wrap(self, policy: Policy, settings: dict[str, Any], optimizer: Any) -> Any:
        engine, *_ = self._deepspeed.initialize(model=policy, optimizer=optimizer, config=settings)
        return engine

    def _backward(self, loss: Tensor) -> None:
        self._engine.backward(loss, scale_wrt_gas=False)

    def _update(self) -> float:
        self._engine.step()
        self.optim.advance()
        return float(self._engine.get_global_grad_norm())

    def discard_gradients(self) -> None:
        """See `Strategy`."""
        self._engine.optimizer.zero_grad()

    def _full(self, parameter: Tensor, dtype: torch.dtype | None = None) -> Tensor:
        """The whole master copy; a frozen parameter has only its working copy."""
        if parameter.requires_grad:
            whole: Tensor = self._deepspeed.utils.safe_get_full_fp32_param(parameter)
            return whole.detach().to(dtype=dtype)
        if self._stage < 3:
            return parameter.detach().to(dtype=dtype)
        with self._deepspeed.zero.GatheredParameters([parameter]):
            return parameter.detach().clone().to(dtype=dtype)

    def _slice(self, parameter: Tensor) -> Tensor:
        part: Tensor = parameter.ds_tensor if self._stage == 3 else parameter  # type: ignore[attr-defined]
        return part

    def state_dict(self) -> dict[str, Any]:
        """See `Strategy`; tensors are gathered and sharded again, so the world size may change."""
        self._ready_moments()
        mesh = init_device_mesh(self.device.type, (self.world_size,))
        read = self._deepspeed.utils.safe_get_full_optimizer_state

        @torch.no_grad()
        def cut(whole: Tensor) -> DTensor:
            whole = whole.detach().float().contiguous()
            return distribute_tensor(whole, mesh, [Shard(0)], src_data_rank=None)

        named = list(self.policy.model.named_parameters())
        return {
            "model": {name: cut(self._full(p)) for name, p in named},
            "optim": {
                name: {moment: cut(read(p, moment)) for moment in MOMENTS}
                for name, p in named
                if p.requires_grad
            },
            "schedule": {"steps": self.optim.steps},
        }

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See `Strategy`."""
        self._ready_moments()
        tools = self._deepspeed.utils
        for name, parameter in self.policy.model.named_parameters():
            whole = state["model"][name].full_tensor()
            if parameter.requires_grad:
                tools.safe_set_full_fp32_param(parameter, whole)
                for moment in MOMENTS:
                    value = state["optim"][name][moment].full_tensor()
                    tools.safe_set_full_optimizer_state(parameter, value, moment)
            # DeepSpeed refreshes the working copy from the master only at the end of a step
            if self._stage == 3:
                with self._deepspeed.zero.GatheredParameters([parameter], modifier_rank=0):
                    parameter.copy_(whole)
            else:
                parameter.copy_(whole)
        self._set_steps(int(state["schedule"]["steps"]))

    def _ready_moments(self) -> None:
        """Make sure that AdamW has its moments and that ZeRO-2 finds them for every parameter.

        DeepSpeed links them after the first parameter group's first update, when the other groups
        have none yet (0.19, `DeepSpeedZeroOptimizer._optimizer_step`).
        """
        if not self._adamw.state:
            self._make_moments()
        if self._stage == 3:
            return
        zero, tools = self._engine.optimizer, self._deepspeed.utils
        masters = zero.single_partition_of_fp32_groups
        for group, flat in zip(zero.bit16_groups, masters, strict=True):
            tools.lazy_init_hp_params_optimizer_state(group, flat, self._adamw.state)

    @torch.enable_grad()
    def _make_moments(self) -> None:
        """One step on a blank batch at learning rate zero."""
        steps = self.optim.steps
        for group in self._adamw.param_groups:
            group["lr"] = 0.0
        output = self._runner.run(blank_batch(self.model_config))
        self._backward(0.0 * output.logprobs_N.sum())
        self._engine.step()
        self.forget_features()
        self._set_steps(steps)

    def _set_steps(self, steps: int) -> None:
        self.optim.restore_schedule(steps)
        for moments in self._adamw.state.values():
            moments["step"].fill_(steps)


def zero_settings(model_config: ModelConfig, learner: LearnerConfig) -> dict[str, Any]:
    """DeepSpeed's configuration for this learner."""
    zero: dict[str, Any] = {"stage": learner.zero_stage, "overlap_comm": False}
    if learner.zero_stage == 3:
        zero["stage3_param_persistence_threshold"] = 0
    if learner.cpu_offload:
        zero["offload_optimizer"] = {"device": "cpu"}
        if learner.zero_stage == 3:
            zero["offload_param"] = {"device": "cpu"}
    return {
        "train_micro_batch_size_per_gpu": 1,
        "gradient_accumulation_steps": 1,
        "managed_gradient_accumulation": False,
        "gradient_clipping": learner.optimizer.max_grad_norm,
        "zero_optimization": zero,
        "bf16": {"enabled": model_config.dtype == "bfloat16"},
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
        "steps_per_print": None,
    }


def _finer_than_bfloat16(module: nn.Module) -> dict[str, Tensor]:
    """Copies of the trained weights that bfloat16 would round (none in published checkpoints).

    DeepSpeed casts the module before it makes the master weights.
    """
    return {
        name: parameter.detach().clone()
        for name, parameter in module.named_parameters()
        if parameter.requires_grad and not torch.equal(parameter.bfloat16().float(), parameter)
    }


def _refuse_unsupported(model_config: ModelConfig, learner: LearnerConfig, known: Family) -> None:
    if known.is_recurrent and model_config.dtype != "float32":
        raise ValueError(
            f"learner.strategy: deepspeed rounds all weights to bfloat16, and {known.title} needs "
            "the decay of its recurrence in float32; set learner.strategy to fsdp"
        )
    if learner.optimizer.name != "adamw":
        raise ValueError(
            "learner.strategy: deepspeed shards flat buffers, which muon cannot update; "
            "set learner.optimizer.name to adamw or learner.strategy to fsdp"
        )
    if learner.fp32_lm_head:
        raise ValueError("learner.fp32_lm_head: needs learner.strategy fsdp")
    for key in ("reference_offload", "teacher_offload"):
        if getattr(learner, key) and learner.zero_stage == 2:
            raise ValueError(f"learner.{key}: deepspeed needs learner.zero_stage=3")
    if model_config.master_dtype != "float32":
        raise ValueError("model.master_dtype: bfloat16 needs learner.strategy fsdp")


def _import_deepspeed(device: torch.device) -> Any:
    if device.type == "cpu":
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
    if "LOCAL_RANK" not in os.environ:
        if dist.is_initialized() and dist.get_world_size() > 1:
            raise ValueError(
                "learner.strategy: deepspeed needs LOCAL_RANK in the environment of every rank "
                "(Ray Train and torchrun set it)"
            )
        os.environ["LOCAL_RANK"] = "0"
    try:
        import deepspeed  # noqa: PLC0415  the `deepspeed` extra is optional and slow to import
    except ImportError as error:
        raise ValueError(
            "learner.strategy: deepspeed is not installed; "
            "install olmrl[deepspeed] or set learner.strategy to fsdp"
        ) from error
    return deepspeed


def _refuse_non_finite(optimizer: torch.optim.Optimizer, *_: Any) -> None:
    """Stop on all ranks before DeepSpeed lets AdamW take gradients that are not finite."""
    gradients = [p.grad for g in optimizer.param_groups for p in g["params"] if p.grad is not None]
    device = gradients[0].device if gradients else torch.device("cpu")
    bad = torch.tensor([float(not all_finite(gradients))], device=device)
    dist.all_reduce(bad, op=dist.ReduceOp.MAX)
    if bad.item():
        raise NonFiniteStep("a gradient is NaN or infinite")
