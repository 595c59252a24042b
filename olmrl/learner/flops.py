"""Model FLOP/s utilisation, the vision tower counted.

Only operations that the step needs are counted (`models.cost`): not the repeats that page-once
avoids, nor what activation checkpointing computes again, nor a backward pass through weights that
are frozen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from olmrl.config.schema import LoraConfig, ModelConfig
from olmrl.hardware import find_gpu
from olmrl.metrics import Mean, Measurements, Sum
from olmrl.models.cost import CostModel
from olmrl.models.shape import Blocks, Layers, ModelShape
from olmrl.types import PackedBatch


def peak_flops(device: torch.device) -> float | None:
    """Peak of a device, or None where none is known (CPUs among them)."""
    if device.type != "cuda":
        return None
    gpu = find_gpu(torch.cuda.get_device_name(device))
    return gpu.flops if gpu else None


def step_flops(
    batches: Sequence[PackedBatch],
    shape: ModelShape,
    policy: ModelConfig,
    *,
    trained_passes: int,
    observed_passes: int = 0,
    reference_passes: int = 0,
) -> float:
    """Operations of a step.

    Args:
        batches: the rank's packed rows.
        shape: sizes of the model.
        policy: which of its weights are trained.
        trained_passes: forward and backward passes over the batches.
        observed_passes: forward passes of the policy alone.
        reference_passes: forward passes of the reference (with adapters: the policy without
            them).
    """
    once = CostModel.of(shape)
    again = once
    if _features_stay(shape, policy):  # computed once for all passes
        again = replace(once, embed=0.0, patch=0.0, window=0.0, merger=0.0, patch_pair=0.0)
    reference = again if policy.lora else once
    backward = backward_cost(shape, policy)
    adapters = adapter_cost(shape, policy.lora)
    passes = trained_passes + observed_passes
    return sum(
        once.batch(batch)
        + (passes - 1) * again.batch(batch)
        + reference_passes * reference.batch(batch)
        + passes * adapters.batch(batch)
        + trained_passes * backward.batch(batch)
        for batch in batches
    )


def forward_flops(batches: Sequence[PackedBatch], shape: ModelShape) -> float:
    """Operations of one forward pass of a model over the rank's packed rows."""
    cost = CostModel.of(shape)
    return sum(cost.batch(batch) for batch in batches)


def _features_stay(shape: ModelShape, policy: ModelConfig) -> bool:
    """`model.vision_is_frozen`, from the configuration alone."""
    if policy.lora is None:
        return policy.freeze.vision and policy.freeze.projector
    tower = shape.vision.matrices | shape.merger.matrices
    return not any(name in policy.lora.target_modules for name in tower)


def backward_cost(shape: ModelShape, policy: ModelConfig) -> CostModel:
    """Operations per unit of work of a backward pass.

    A product of weights with inputs costs as much as forward for the gradient of its weights, if
    they are trained, and as much again for that of its inputs, if anything before them is trained.
    An attention product and a recurrence cost twice as much as forward: all their factors are
    activations.

        embed     t            t: the tower is trained (pixels have no gradient)
        blocks    t + t        attention 2 t
        merger    p + g        p: it is trained; g: it, or the tower
        language  l + g'       l: it is trained, embedding included; g': any part; attention 2 g'
        head      l + g'

    With adapters only theirs are trained, and the gradient goes back no further than the first
    layer that has one: not into a tower without any, and in the first block with one not into the
    products before or beside that layer.
    """
    cost = CostModel.of(shape)
    if policy.lora is not None:
        return _adapted_backward(cost, shape, policy.lora)
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
        scan=cost.scan * 2 * inputs,
    )


def adapter_cost(shape: ModelShape, lora: LoraConfig | None) -> CostModel:
    """Operations per token and patch that adapters add: r (inputs + outputs) per adapted layer."""
    none = CostModel(0, 0, 0, 0, 0, 0, 0, 0)
    if lora is None:
        return none
    *tokens, patch, merged = (
        2.0 * layers.count * layers.adapters(lora.rank, lora.target_modules)
        for layers in (*shape.stacks, shape.vision, shape.merger)
    )
    return replace(none, token=sum(tokens), patch=patch, merger=merged / shape.merge**2)


def _adapted_backward(cost: CostModel, shape: ModelShape, lora: LoraConfig) -> CostModel:
    patch, seen = _through(shape.vision, lora, reached=False)
    # mergers run side by side: the way back through each begins at its own first adapter
    merged, _ = _through(replace(shape.merger, count=1), lora, reached=patch > 0)
    token = read = scanned = 0.0
    for stack in shape.stacks:
        products, share = _through(stack, lora, reached=merged > 0 or token > 0)
        if stack is shape.recurrent and not products:
            products, share = _behind_attention(shape, stack, lora)
        token += products
        if stack.scan:
            scanned = share
        else:
            read = share
    return CostModel(
        token=2.0 * token,
        pair=cost.pair * 2 * read,
        prediction=cost.prediction,
        embed=0.0,
        patch=2.0 * patch,
        window=cost.window * 2 * seen,
        merger=2.0 * shape.merger.count * merged / shape.merge**2,
        patch_pair=cost.patch_pair * 2 * seen,
        scan=cost.scan * 2 * scanned,
    )


def _behind_attention(shape: ModelShape, stack: Blocks, lora: LoraConfig) -> tuple[float, float]:
    """As `_through`, of recurrent blocks where only those that attend have adapters.

    Kinds of blocks alternate evenly, those that attend last, so that one share comes before all.
    """
    if not any(name in lora.target_modules for name in shape.language.matrices):
        return 0.0, 0.0
    behind = stack.count - stack.count // shape.language.count
    return float(behind * stack.products), behind / stack.count


def _through(blocks: Layers, lora: LoraConfig, reached: bool) -> tuple[float, float]:
    """Backward multiply-adds per token of adapted blocks, and the share of attention included.

    Args:
        blocks: the stack.
        lora: the adapters.
        reached: whether the gradient goes on to anything before these blocks.
    """
    adapted = [any(name in lora.target_modules for name in stage) for stage in blocks.stages]
    if not any(adapted) and not reached:
        return 0.0, 0.0
    adapters = blocks.adapters(lora.rank, lora.target_modules)
    products = float(blocks.count * (blocks.products + 2 * adapters))
    if reached:
        return products, 1.0
    first = adapted.index(True)
    for stage in blocks.stages[: first + 1]:
        for name, (inputs, outputs) in stage.items():
            products -= inputs * outputs
            products -= lora.rank * inputs if name in lora.target_modules else 0
    return products, (blocks.count - (first > 0)) / blocks.count


def utilisation(flops: float, seconds: float, device: torch.device) -> Measurements:
    """`flops/step` of a rank, and `throughput/mfu` where the device's peak is known."""
    found: Measurements = {"flops/step": Sum(flops)}
    peak = peak_flops(device)
    if peak is not None:
        found["throughput/mfu"] = Mean(flops, peak * seconds)
    return found
