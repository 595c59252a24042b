"""Stage b: page-once equals dense, for every registered family, on this device.

The reference is the dense packing (every completion behind a prompt and an image of its own) in
float32 on the CPU. Page-once and dense on the device are compared with it in float32, log-probs
and every gradient. In bfloat16 page-once is compared with dense of that dtype on the same device,
to the parity guard's bound, and must be about as near to the reference: how near bfloat16 comes
depends on the random weights. Families with a recurrence come first, and are compared with its
fused kernels, where they are installed, and without.
"""

from __future__ import annotations

import importlib.util
import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import numpy as np
import torch
from shapes import make_group, make_page
from stage import Context
from transformers.models.qwen3_5 import modeling_qwen3_5

from olmrl.config.schema import Dtype, LearnerConfig, ModelConfig
from olmrl.data.pack import GroupItem, pack_groups
from olmrl.learner.logprobs import HeadSpec
from olmrl.learner.loss import LossInputs, LossOutput
from olmrl.learner.model import prepare_policy
from olmrl.learner.parity import DEFAULT_MEAN_GAP
from olmrl.learner.strategy_fsdp import FsdpStrategy
from olmrl.models.family import Family, TinySize
from olmrl.models.registry import FAMILIES
from olmrl.synth.model import SPECIAL_TOKENS

VOCABULARY, INIT_STD = 64, 0.05
IDS = {token: number for number, token in enumerate(SPECIAL_TOKENS)}
GROUPS = (((8, 12), (9, 1, 14)), ((4, 8), (6, 3)))
"""Patch grids and lengths of completions."""
EXACT = {"logprobs": 2e-4, "gradient": 1e-3}
"""Float32: largest difference of a log-prob; of a gradient, over the largest of its tensor."""
ROUGH_COSINE = 0.97
"""bfloat16: least cosine of a gradient with the exact one, over all parameters together."""
ROUGH_OVER_DENSE = 1.25
"""bfloat16: mean error of page-once over that of dense."""
WORKS = {
    True: TinySize(64, 2, 4, 2, 128, 32, 2, 2, 64),
    False: TinySize(512, 4, 4, 2, 1024, 160, 4, 2, 320),
}
"""Sizes in a rehearsal and on a card; the latter's heads are 128 and 80 wide."""


def run(context: Context) -> None:
    """See the module."""
    for name, family in sorted(FAMILIES.items(), key=lambda pair: not pair[1].is_recurrent):
        size = WORKS[context.rehearsal]
        items = [make_item(family, size, k, *shape) for k, shape in enumerate(GROUPS)]
        found, gradients = once(family, size, items, False, "cpu", "float32")
        for page_once in (True, False):
            packing = "page-once" if page_once else "dense"
            with context.case(f"{name}, {packing}, float32", family=name, dtype="float32") as row:
                mine = once(family, size, items, page_once, context.device, "float32")
                exact(row, mine, (found, gradients))
                if family.is_recurrent:
                    row["recurrence"] = (
                        "flash-linear-attention" if fused(context.device) else "torch"
                    )
        if family.is_recurrent:
            case = f"{name}, page-once, float32, recurrence in torch"
            with context.case(case, family=name, dtype="float32") as row, in_torch():
                mine = once(family, size, items, True, context.device, "float32")
                exact(row, mine, (found, gradients))
                row["recurrence"] = "torch"
        with context.case(f"{name}, page-once, bfloat16", family=name, dtype="bfloat16") as row:
            mine, dense = (
                once(family, size, items, page_once, context.device, "bfloat16")
                for page_once in (True, False)
            )
            rough(row, mine, dense, (found, gradients))


def fused(device: str) -> bool:
    """Whether transformers runs a kernel of a recurrence there."""
    return device != "cpu" and importlib.util.find_spec("fla") is not None


@contextmanager
def in_torch() -> Iterator[None]:
    """Recurrences without their kernels."""
    names = ("torch_chunk_gated_delta_rule", "causal_conv1d_fn")
    plain = {name: inspect.unwrap(getattr(modeling_qwen3_5, name)) for name in names}
    with mock.patch.multiple(modeling_qwen3_5, **plain):
        yield


Outcome = tuple[np.ndarray, dict[str, torch.Tensor]]


def exact(row: dict[str, Any], mine: Outcome, right: Outcome) -> None:
    """Judge a float32 outcome."""
    errors = {
        name: float((gradient - right[1][name]).abs().max() / right[1][name].abs().max())
        for name, gradient in mine[1].items()
    }
    worst = max(errors, key=lambda name: errors[name])
    row |= {
        "logprob_max_error": float(np.abs(mine[0] - right[0]).max()),
        "gradient_max_error": errors[worst],
        "worst_gradient": worst,
        "bounds": EXACT,
    }
    row["ok"] = row["logprob_max_error"] <= EXACT["logprobs"] and errors[worst] <= EXACT["gradient"]


def rough(row: dict[str, Any], mine: Outcome, dense: Outcome, right: Outcome) -> None:
    """Judge a bfloat16 outcome by the dense one of the same dtype, and by the exact one."""
    flat = [torch.cat([g.double().flatten() for g in one[1].values()]) for one in (mine, right)]
    cosine = float(torch.nn.functional.cosine_similarity(*flat, dim=0))
    gap = float(np.abs(mine[0] - dense[0]).mean())
    errors = [float(np.abs(one[0] - right[0]).mean()) for one in (mine, dense)]
    bound = DEFAULT_MEAN_GAP["bfloat16"]
    row |= {
        "logprob_mean_gap_to_dense": gap,
        "logprob_mean_error": errors[0],
        "logprob_mean_error_of_dense": errors[1],
        "gradient_cosine": cosine,
        "bounds": {
            "logprob_mean_gap_to_dense": bound,
            "error_over_dense": ROUGH_OVER_DENSE,
            "gradient_cosine": ROUGH_COSINE,
        },
        "ok": gap <= bound and errors[0] <= ROUGH_OVER_DENSE * errors[1] and cosine >= ROUGH_COSINE,
    }


def once(
    family: Family,
    size: TinySize,
    items: list[GroupItem],
    page_once: bool,
    device: str,
    dtype: Dtype,
) -> Outcome:
    """Log-probs and gradients of all groups, in a single row."""
    strategy = make_strategy(family, size, device, dtype)
    vision = family.placeholders(strategy.model_config.to_dict())
    (batch,) = pack_groups(items, 10**6, page_once, vision)
    found = strategy.logprobs(batch)
    strategy.forward_backward(batch, uneven)
    gradients = {
        name: whole(parameter.grad)
        for name, parameter in strategy.policy.model.named_parameters()
        if parameter.grad is not None
    }
    return found, gradients


def whole(gradient: Any) -> torch.Tensor:
    """A gradient on the CPU, in one piece."""
    tensor = gradient.full_tensor() if hasattr(gradient, "full_tensor") else gradient
    return tensor.float().cpu()


def uneven(logprobs: torch.Tensor, _: torch.Tensor, inputs: LossInputs) -> LossOutput:
    """A loss in which every target counts differently, in the order of the completions."""
    weights = torch.arange(1, len(logprobs) + 1, device=logprobs.device) / len(logprobs)
    loss = -(logprobs * weights).sum()
    return LossOutput(loss, {"loss/kit": loss.detach()}, {"loss/kit": 1.0})


def make_strategy(family: Family, size: TinySize, device: str, dtype: Dtype) -> FsdpStrategy:
    """The same random model every time, norms and biases off their neutral values."""
    config = family.tiny_config(size, IDS, VOCABULARY, INIT_STD)
    vision = config.vision_config
    if hasattr(vision, "fullatt_block_indexes"):  # windows where the family has them
        vision.window_size, vision.fullatt_block_indexes = 56, [size.vision_depth - 1]
    torch.manual_seed(0)
    model = family.model_class()._from_config(config, attn_implementation="sdpa")
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    policy = ModelConfig(path="random", dtype=dtype)
    learner = LearnerConfig(use_gpu=device == "cuda")
    model = prepare_policy(model.to(device), policy, activation_checkpointing=True)
    return FsdpStrategy(model, policy, learner, HeadSpec(0.8, (), 16), total_steps=1)


def make_item(
    family: Family, size: TinySize, number: int, grid: tuple[int, int], lengths: tuple[int, ...]
) -> GroupItem:
    """A page with completions of some lengths."""
    config = family.tiny_config(size, IDS, VOCABULARY, INIT_STD).to_dict()
    vision = family.placeholders(config)
    prompt = grid[0] * grid[1] // vision.merge_size**2 + 8
    return make_group(make_page(family, vision, prompt, grid, number), lengths, number)
