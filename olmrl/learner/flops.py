"""Model FLOP/s utilisation, the vision tower counted.

The operations are those of the model as it is run (`data.cost`): what page-once saves is not
counted as if it had been done, nor is the recomputation of activation checkpointing, nor a
backward pass that frozen weights make unnecessary.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch

from olmrl.config.schema import LoraConfig, ModelConfig
from olmrl.hardware import find_gpu
from olmrl.metrics import Mean, Measurements, Sum
from olmrl.models.cost import CostModel, language_matrices, vision_matrices
from olmrl.types import PackedBatch

_Matrices = Mapping[str, tuple[int, int]]


def peak_flops(device: torch.device) -> float | None:
    """Peak of a device, or None where none is known (CPUs among them)."""
    if device.type != "cuda":
        return None
    gpu = find_gpu(torch.cuda.get_device_name(device))
    return gpu.flops if gpu else None


def step_flops(
    batches: Sequence[PackedBatch],
    model_config: Any,
    policy: ModelConfig,
    *,
    trained_passes: int,
    observed_passes: int = 0,
    reference_passes: int = 0,
) -> float:
    """Operations of a step.

    Args:
        batches: the rank's packed rows.
        model_config: transformers configuration of the model.
        policy: what of it is trained.
        trained_passes: forward and backward passes over the batches.
        observed_passes: forward passes of the policy alone.
        reference_passes: forward passes of the reference, which with adapters is the policy
            without them.
    """
    once = CostModel.from_config(model_config)
    again = once
    if _features_stay(model_config, policy):  # then they are computed once for all passes
        again = replace(once, embed=0.0, patch=0.0, window=0.0, merger=0.0, patch_pair=0.0)
    reference = again if policy.lora else once
    backward = backward_cost(model_config, policy)
    adapters = adapter_cost(model_config, policy.lora)
    passes = trained_passes + observed_passes
    return sum(
        once.batch(batch)
        + (passes - 1) * again.batch(batch)
        + reference_passes * reference.batch(batch)
        + passes * adapters.batch(batch)
        + trained_passes * backward.batch(batch)
        for batch in batches
    )


def _features_stay(model_config: Any, policy: ModelConfig) -> bool:
    """Whether tower and merger stay as they are (`model.vision_is_frozen`, from configuration)."""
    if policy.lora is None:
        return policy.freeze.vision and policy.freeze.projector
    names = vision_matrices(model_config.vision_config)
    return not any(name in policy.lora.target_modules for name in names)


def backward_cost(model_config: Any, policy: ModelConfig) -> CostModel:
    """Operations per unit of work of a backward pass.

    A product of weights with inputs costs in the backward pass what it costs forward, once for the
    gradient of its weights where they are trained, and once for that of its inputs where anything
    before them is; an attention product costs it twice, as both its factors are activations:

        embed     t            t: the tower is trained (pixels have no gradient)
        blocks    t + t        attention 2 t
        merger    p + g        p: it is trained; g: it, or the tower
        language  l + g'       l: it is trained, embedding included; g': any part; attention 2 g'
        head      l + g'

    With adapters no weights but theirs are trained. The gradient then starts at the first layer
    that has one: not in the tower if none is there, and in the first block that has any not in
    the products before and beside it.
    """
    cost = CostModel.from_config(model_config)
    if policy.lora is not None:
        return _adapted_backward(cost, model_config, policy.lora)
    tower = float(not policy.freeze.vision)
    merger = float(not policy.freeze.projector)
    language = float(not policy.freeze.language)
    behind = max(tower, merger)
    inputs = max(behind, language)
    return CostModel(
        token=cost.token * (language + inputs),
        pair=cost.pair * 2 * inputs,
        prediction=cost.prediction * (language + inputs),
        embed=cost.embed * tower,
        patch=cost.patch * 2 * tower,
        window=cost.window * 2 * tower,
        merger=cost.merger * (merger + behind),
        patch_pair=cost.patch_pair * 2 * tower,
    )


def adapter_cost(model_config: Any, lora: LoraConfig | None) -> CostModel:
    """Operations per token and patch that adapters add: r (inputs + outputs) per adapted layer."""
    none = CostModel(0, 0, 0, 0, 0, 0, 0, 0)
    if lora is None:
        return none
    text, vision = model_config.text_config, model_config.vision_config
    language = _adapter_size(language_matrices(text), lora)
    tower = _adapter_size(vision_matrices(vision), lora)
    return replace(
        none,
        token=2.0 * text.num_hidden_layers * language,
        patch=2.0 * vision.depth * tower,
    )


_STAGE = {
    "q_proj": 0, "k_proj": 0, "v_proj": 0, "qkv": 0, "o_proj": 1, "proj": 1,
    "gate_proj": 2, "up_proj": 2, "down_proj": 3,
}  # fmt: skip
"""Order of a block's linear layers; those of a stage run beside each other."""


def _adapted_backward(cost: CostModel, model_config: Any, lora: LoraConfig) -> CostModel:
    text, vision = model_config.text_config, model_config.vision_config
    in_tower = vision_matrices(vision)
    patch, seen = _through(in_tower, vision.depth, lora, reached=False)
    reached = patch > 0
    token, read = _through(language_matrices(text), text.num_hidden_layers, lora, reached)
    return CostModel(
        token=2.0 * token,
        pair=cost.pair * 2 * read,
        prediction=cost.prediction,
        embed=0.0,
        patch=2.0 * patch,
        window=cost.window * 2 * seen,
        merger=cost.merger * reached,
        patch_pair=cost.patch_pair * 2 * seen,
    )


def _through(
    matrices: _Matrices, blocks: int, lora: LoraConfig, reached: bool
) -> tuple[float, float]:
    """Multiply-adds per token of the way back through adapted blocks, and the share of attention.

    Args:
        matrices: linear layers of a block.
        blocks: number of blocks.
        lora: the adapters.
        reached: whether the gradient goes on to what comes before these blocks.
    """
    adapted = [name for name in matrices if name in lora.target_modules]
    if not adapted and not reached:
        return 0.0, 0.0
    block = sum(inputs * outputs for inputs, outputs in matrices.values())
    products = float(blocks * (block + 2 * _adapter_size(matrices, lora)))
    if reached:
        return products, 1.0
    first = min(_STAGE[name] for name in adapted)
    for name, (inputs, outputs) in matrices.items():
        if _STAGE[name] <= first:
            products -= inputs * outputs
            products -= lora.rank * inputs if name in adapted else 0
    return products, (blocks - (first > 0)) / blocks


def _adapter_size(matrices: _Matrices, lora: LoraConfig) -> int:
    """Parameters of a block's adapters."""
    sizes = [sum(size) for name, size in matrices.items() if name in lora.target_modules]
    return lora.rank * sum(sizes)


def utilisation(flops: float, seconds: float, device: torch.device) -> Measurements:
    """`flops/step` of a rank, and `throughput/mfu` where the device's peak is known."""
    found: Measurements = {"flops/step": Sum(flops)}
    peak = peak_flops(device)
    if peak is not None:
        found["throughput/mfu"] = Mean(flops, peak * seconds)
    return found
