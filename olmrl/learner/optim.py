"""Optimizers and learning-rate schedules.

AdamW for everything, or Muon for the matrices inside blocks and AdamW for the rest. Weight decay
spares norms and biases by module type, never by name (docs/formats.md#optimizer-groups).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR
from transformers import get_scheduler

from olmrl.config.schema import OptimizerConfig
from olmrl.errors import GuardFailure
from olmrl.learner.optimizers import Muon, SplitAdamW, fastest_precision
from olmrl.models.family import Family

Factor = Callable[[Any], float]
"""Of the peak rate, at a place of the schedule: whole steps, or between two of them."""


class NonFiniteStep(GuardFailure):
    """Loss, gradients or weights are NaN or infinite; raised on every rank."""

    weights_changed = False
    """Whether the failed update, or one before it in the same step, was made."""


@dataclass(frozen=True)
class ParameterGroups:
    """Trained parameters by treatment."""

    matrices: list[nn.Parameter]
    """2-D weights of linear layers inside the model (not the output head)."""
    head: list[nn.Parameter]
    """Output head, if its weight is not tied."""
    embeddings: list[nn.Parameter]
    """Token and patch embeddings."""
    exempt: list[nn.Parameter]
    """Norms and biases: no weight decay."""


def group_parameters(model: nn.Module, head: nn.Module, family: Family) -> ParameterGroups:
    """Sort the parameters that require gradients by the type of the module that owns them.

    Args:
        model: the policy; a parameter shared by two modules is counted once.
        head: its output head, whose weight is not a hidden matrix.
        family: the model's; it names how each module type is treated.

    Raises:
        UnknownPart: a module type that the family does not classify.
    """
    groups = ParameterGroups([], [], [], [])
    seen: set[int] = set()
    embeddings = {id(m.weight) for m in model.modules() if isinstance(m, nn.Embedding)}
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            if not parameter.requires_grad or id(parameter) in seen:
                continue
            seen.add(id(parameter))
            treatment = family.treatment(module, name)
            if treatment == "exempt":
                groups.exempt.append(parameter)
            elif treatment == "embedding" or id(parameter) in embeddings:
                groups.embeddings.append(parameter)
            elif module is head:
                groups.head.append(parameter)
            else:
                groups.matrices.append(parameter)
    return groups


class Optim:
    """One or two torch optimizers with their schedule, stepped together."""

    def __init__(
        self,
        optimizers: list[torch.optim.Optimizer],
        schedules: list[LambdaLR],
        config: OptimizerConfig,
        total_steps: int,
    ) -> None:
        self._peak = config.lr
        self._warmup = warmup_steps(config, total_steps)
        self._total = total_steps
        self.optimizers = optimizers
        self.schedules = schedules
        self.steps = 0
        """Optimizer steps taken."""
        self._at = 0.0
        """Place in the schedule."""

    @property
    def precision(self) -> str | None:
        """Of Muon's Newton-Schulz iteration: bfloat16 or float32; None without Muon."""
        found = [o.precision for o in self.optimizers if isinstance(o, Muon)]
        return str(found[0]).removeprefix("torch.") if found else None

    def set_precision(self, precision: torch.dtype) -> None:
        """Set it."""
        for optimizer in self.optimizers:
            if isinstance(optimizer, Muon):
                optimizer.precision = precision

    def schedule_state(self) -> dict[str, Any]:
        """What a checkpoint holds of it besides the optimizers' own state."""
        precision = {} if self.precision is None else {"newton_schulz": self.precision}
        return {"steps": self.steps, **precision}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on as `schedule_state` says; checkpoints without a precision are older than the
        choice, and had bfloat16."""
        self.restore_schedule(int(state["steps"]))
        self.set_precision(getattr(torch, state.get("newton_schulz", "bfloat16")))

    @property
    def lr(self) -> float:
        """Learning rate of the coming step, before multipliers."""
        factor: Factor = self.schedules[-1].lr_lambdas[0]
        return self._peak * float(factor(self._at))

    def step(self) -> None:
        """Update the weights, advance the schedule."""
        for optimizer in self.optimizers:
            optimizer.step()
        self.advance()

    def advance(self) -> None:
        """Count a step, and go on to the next place of the schedule."""
        self.steps += 1
        self._go_to(self._at + 1)

    def follow(self, used: float) -> None:
        """Go to the place in the schedule that the run has reached (`schedule_place`)."""
        self._go_to(schedule_place(self.steps, used, self._warmup, self._total))

    def _go_to(self, at: float) -> None:
        self._at = at
        for schedule in self.schedules:
            groups, bases = schedule.optimizer.param_groups, schedule.base_lrs
            factors: list[Factor] = list(schedule.lr_lambdas)
            for group, base, factor in zip(groups, bases, factors, strict=True):
                group["initial_lr"] = base
                group["lr"] = base * factor(at)

    def zero_grad(self) -> None:
        """Drop the gradients."""
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)

    def restore_schedule(self, steps: int) -> None:
        """Set the learning rates as they were after `steps` steps."""
        self.steps = steps
        for optimizer in self.optimizers:
            if isinstance(optimizer, torch.optim.AdamW) and not isinstance(optimizer, SplitAdamW):
                for group in optimizer.param_groups:
                    group["fused"] = True  # a checkpoint may say otherwise
        self._go_to(steps)


def schedule_place(made: int, used: float, warmup: int, total: int) -> float:
    """Place in a schedule of `total` steps of a run that makes fewer, as some pages are dropped.

    The warm-up takes as many steps as it was given. The rest of the schedule is spread over the
    rest of the pages, so that both end together, as if pages had been dropped evenly so far.

    Args:
        made: steps made.
        used: steps that the pages used so far would have given.
        warmup: steps of the warm-up.
        total: steps of the schedule.
    """
    if made <= warmup or used == made:
        return float(made)
    before = used * warmup / made
    return warmup + (total - warmup) * (used - before) / (total - before)


def build_optim(
    model: nn.Module, head: nn.Module, family: Family, config: OptimizerConfig, total_steps: int
) -> Optim:
    """Optimizers and schedule for a model that is already sharded.

    Args:
        model: the policy.
        head: its output head.
        family: the model's.
        config: rates, decay, schedule.
        total_steps: optimizer steps of the whole run, for warm-up and decay.
    """
    groups = group_parameters(model, head, family)
    factors, decay = config.lr_multipliers, config.weight_decay
    matrices = [] if config.name == "muon" else groups.matrices
    adamw_groups: list[dict[str, Any]] = [
        {"params": parameters, "weight_decay": decayed, "lr": config.lr * factor}
        for parameters, decayed, factor in (
            (matrices, decay, 1.0),
            (groups.head, decay, factors.head),
            (groups.embeddings, decay, factors.embedding),
            (groups.exempt, 0.0, factors.scalar),
        )
        if parameters
    ]
    optimizers: list[torch.optim.Optimizer] = []
    if config.name == "muon":
        if any(p.ndim != 2 for p in groups.matrices) or not groups.matrices:
            raise ValueError("learner.optimizer.name: muon found no trainable matrices to update")
        optimizers.append(
            Muon(
                groups.matrices,
                lr=config.muon_lr or config.lr,
                weight_decay=config.weight_decay,
                momentum=config.muon_momentum,
            )
        )
    if adamw_groups:
        optimizers.append(_adamw(adamw_groups, config))
    schedules = [build_schedule(o, config, total_steps) for o in optimizers]
    made = Optim(optimizers, schedules, config, total_steps)
    if config.name == "muon":
        made.set_precision(_agreed_precision(groups.matrices[0].device))
    return made


def _adamw(groups: list[dict[str, Any]], config: OptimizerConfig) -> torch.optim.AdamW:
    """torch's fused AdamW, or our own where it would round bfloat16 weights."""
    rounds = any(p.dtype == torch.bfloat16 for group in groups for p in group["params"])
    kind, fused = (SplitAdamW, False) if rounds else (torch.optim.AdamW, True)
    return kind(groups, lr=config.lr, betas=config.betas, eps=config.eps, fused=fused)


def _agreed_precision(device: torch.device) -> torch.dtype:
    """What rank 0 measured: ranks share an iteration, so they need the same precision."""
    slow = torch.tensor([fastest_precision(device) == torch.float32], device=device)
    if dist.is_initialized():
        dist.broadcast(slow, src=0)
    return torch.float32 if slow.item() else torch.bfloat16


def warmup_steps(config: OptimizerConfig, total_steps: int) -> int:
    """Optimizer steps of the warm-up."""
    return config.warmup_steps or int(total_steps * config.warmup_ratio)


def build_schedule(
    optimizer: torch.optim.Optimizer, config: OptimizerConfig, total_steps: int
) -> LambdaLR:
    """A schedule of `transformers.get_scheduler` whose rate is a function of the step alone.

    Raises:
        ValueError: the schedule's options are missing or wrong.
    """
    try:
        schedule: LambdaLR = get_scheduler(
            config.schedule,
            optimizer,
            num_warmup_steps=warmup_steps(config, total_steps),
            num_training_steps=total_steps,
            scheduler_specific_kwargs=dict(config.schedule_options),
        )
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"learner.optimizer.schedule_options: {config.schedule} rejects "
            f"{config.schedule_options}: {error}"
        ) from error
    return schedule


def all_finite(parts: Sequence[Tensor]) -> bool:
    """Whether no number of any tensor is NaN or infinite, nor too large to be squared in float32.

    A sum of squares takes a fraction of the time of a look at each number, in host memory above all
    (`benchmarks/offloaded_step.py`).
    """
    norms = [torch.linalg.vector_norm(part, dtype=torch.float32) for part in parts]
    return not norms or bool(torch.stack(norms).isfinite().all())


def clip_gradients(model: nn.Module, max_norm: float) -> float:
    """Scale the gradients to a global norm of at most `max_norm`; return the norm before.

    Raises:
        NonFiniteStep: the norm is NaN or infinite; nothing was changed.
    """
    trained = [p for p in model.parameters() if p.grad is not None]
    total = torch.nn.utils.get_total_norm([p.grad for p in trained if p.grad is not None])
    # the norm of sharded gradients is itself sharded; every rank gets the same number
    norm = total.full_tensor() if hasattr(total, "full_tensor") else total
    if not torch.isfinite(norm):
        raise NonFiniteStep(f"the gradient norm is {norm.item()}")
    torch.nn.utils.clip_grads_with_norm_(trained, max_norm, norm)
    return float(norm.item())
