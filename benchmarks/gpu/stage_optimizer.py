"""Stage e: the optimizer step of a 7B-wide model.

The learner's own step (clip, update, and the check that weights stayed finite) with AdamW, Muon,
bfloat16 masters and off-load to host memory; and torch's AdamW alone, in its foreach and its fused
form, which must agree.
"""

from __future__ import annotations

import os
import statistics
from typing import Any

import torch
from measure import forget_peak, once, peak_bytes, timed
from shapes import Sizes, build, deepest, sizes
from stage import Context

from olmrl.cluster.memory import RUNTIME_BYTES, at_rest, total
from olmrl.config.schema import LearnerConfig, ModelConfig, OptimizerConfig
from olmrl.learner.strategy_fsdp import FsdpStrategy
from olmrl.models.shape import ModelShape

AGREE = 1e-5
"""Largest difference of a weight between foreach and fused AdamW after some steps at lr 1e-3."""
OFFLOADED_LAYERS = 2
"""Most layers of the off-loaded case: a step of 8 B parameters on a host takes too long here."""


def run(context: Context) -> None:
    """See the module."""
    wanted = sizes(context)
    gpu = not context.rehearsal
    exact = ModelConfig(path="random", dtype="bfloat16", master_dtype="float32")
    rounded = exact.model_copy(update={"master_dtype": "bfloat16"})
    adamw = LearnerConfig(use_gpu=gpu)
    muon = LearnerConfig(use_gpu=gpu, optimizer=OptimizerConfig(name="muon"))
    offloaded = LearnerConfig(use_gpu=gpu, cpu_offload=True)

    def held(shape: ModelShape) -> float:
        """Weights, gradients, moments, and a copy of the trained weights during the step."""
        return total(at_rest(shape, exact, adamw, False)) + 4.0 * shape.trained(exact)

    layers, said = deepest(context, wanted, held)
    context.report("depth", layers=layers, of=wanted.layers, why=said)
    foreach_and_fused(context, wanted.shape(layers))
    for name, model, learner in (
        ("AdamW", exact, adamw),
        ("Muon", exact, muon),
        ("AdamW, bfloat16 masters", rounded, adamw),
        ("AdamW, off-loaded", exact, offloaded),
    ):
        depth = min(layers, OFFLOADED_LAYERS) if learner.cpu_offload else layers
        with context.case(name, layers=depth) as row:
            learner_step(context, row, wanted, depth, model, learner)


def learner_step(
    context: Context,
    row: dict[str, Any],
    wanted: Sizes,
    layers: int,
    model: ModelConfig,
    learner: LearnerConfig,
) -> None:
    """`Strategy.optim_step` and the check of the weights, on given gradients."""
    device = context.device
    forget_peak(device)
    if learner.cpu_offload:
        torch.set_num_threads(1 if context.rehearsal else os.cpu_count() or 1)
    strategy = build(wanted, layers, model, learner, device)
    seconds: list[float] = []
    for _ in range(3):
        set_gradients(strategy)
        seconds.append(once(device, strategy.optim_step))
    checked = once(device, strategy.weights_are_finite)
    trained = sum(p.numel() for p in strategy.policy.parameters() if p.requires_grad)
    row |= {
        "parameters": trained,
        "threads": torch.get_num_threads(),
        "first_s": round(seconds[0], 4),
        "step_s": round(statistics.median(seconds[1:]), 4),
        "finite_check_s": round(checked, 4),
        "s_per_1e9_parameters": round(statistics.median(seconds[1:]) / trained * 1e9, 4),
        "peak_bytes": peak_bytes(device),
    }


def set_gradients(strategy: FsdpStrategy) -> None:
    """Gradients where the strategy keeps them; all alike, as random ones take a host too long."""
    for parameter in strategy.policy.parameters():
        if parameter.requires_grad:
            parameter.grad = torch.full_like(parameter, 1e-3)


def foreach_and_fused(context: Context, shape: ModelShape) -> None:
    """torch's two forms of AdamW on the matrices of one language block."""
    device = context.device
    blocks = 1 if context.rehearsal else 4
    bound = 12.0 * blocks * shape.language.products + (0 if context.rehearsal else RUNTIME_BYTES)
    with context.case("AdamW of torch, foreach and fused", planned_bytes=round(bound)) as row:
        ends = {}
        for form in ("foreach", "fused"):
            torch.manual_seed(0)
            weights = [
                torch.nn.Parameter(torch.randn(outputs, inputs, device=device) * 0.02)
                for _ in range(blocks)
                for inputs, outputs in shape.language.matrices.values()
            ]
            optimizer = torch.optim.AdamW(weights, lr=1e-3, **{form: True})
            for weight in weights:
                weight.grad = torch.randn_like(weight) * 1e-3
            forget_peak(device)
            seconds = timed(device, optimizer.step)
            count = sum(weight.numel() for weight in weights)
            row[form] = {
                "step_s": round(statistics.median(seconds), 6),
                # read and write weight and moments, read the gradient
                "gb_per_s": round(28 * count / statistics.median(seconds) / 1e9, 2),
                "peak_bytes": peak_bytes(device),
            }
            ends[form] = weights[0].detach().cpu()
            del weights, optimizer
        difference = float((ends["foreach"] - ends["fused"]).abs().max())
        row |= {"largest_difference": difference, "bound": AGREE, "ok": difference <= AGREE}
