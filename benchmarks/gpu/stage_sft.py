"""Stage d: SFT steps of a 7B-wide model at 8k and 16k tokens.

Pages of 1288 px (1,656 image tokens) with transcriptions of 1,000 tokens, packed to the budget;
with torch.compile on and off, with activation checkpointing on and off, all at the depth that the
memory plan allows without checkpointing.
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import Any

from measure import forget_peak, peak_bytes, peak_flops, timed
from shapes import FAMILY, Sizes, build, deepest, make_example, make_page, planned, sizes
from stage import Context

from olmrl.config.schema import LearnerConfig, ModelConfig
from olmrl.data.pack import pack_examples
from olmrl.learner.core import SftLearner
from olmrl.learner.flops import step_flops
from olmrl.types import PackedBatch

MODEL = ModelConfig(path="random", dtype="bfloat16", master_dtype="float32")


@dataclass(frozen=True)
class Work:
    """Pages and budgets."""

    budgets: tuple[int, ...]
    prompt: int
    grid: tuple[int, int]
    response: int
    compile_s: float
    """Time to leave for a compilation; less, and the case is left out."""


FULL = Work((16384, 8192), 1744, (92, 72), 1000, 60.0)
TINY = Work((192, 96), 32, (8, 12), 16, 0.0)


def run(context: Context) -> None:
    """See the module."""
    work, wanted = (TINY if context.rehearsal else FULL), sizes(context)
    rows = {budget: pack(wanted, work, budget) for budget in work.budgets}
    every = [batch for batches in rows.values() for batch in batches]
    plain = settings(context, work, compiled=False, checkpointed=False)
    layers, said = deepest(context, wanted, lambda shape: planned(shape, MODEL, plain, every))
    context.report("depth", layers=layers, of=wanted.layers, why=said)
    for compiled in (False, True):
        for checkpointed in (True, False):
            if compiled and context.left() < work.compile_s:
                context.report(
                    name(compiled, checkpointed), skipped="too little time is left to compile"
                )
                continue
            measure(context, wanted, layers, settings(context, work, compiled, checkpointed), rows)


def settings(context: Context, work: Work, compiled: bool, checkpointed: bool) -> LearnerConfig:
    """The learner of a case."""
    return LearnerConfig(
        use_gpu=not context.rehearsal,
        token_budget=max(work.budgets),
        activation_checkpointing=checkpointed,
        compile=compiled,
    )


def name(compiled: bool, checkpointed: bool) -> str:
    """Of a case."""
    switched = {True: "on", False: "off"}
    return f"compile {switched[compiled]}, checkpointing {switched[checkpointed]}"


def pack(wanted: Sizes, work: Work, budget: int) -> list[PackedBatch]:
    """One row as full as pages make it."""
    pages = budget // (work.prompt + work.response)
    examples = [
        make_example(make_page(FAMILY, wanted.vision, work.prompt, work.grid, k), work.response, k)
        for k in range(pages)
    ]
    return pack_examples(examples, budget, wanted.vision)


def measure(
    context: Context,
    wanted: Sizes,
    layers: int,
    learner: LearnerConfig,
    rows: dict[int, list[PackedBatch]],
) -> None:
    """All budgets with one model."""
    device, card = context.device, peak_flops(context.device)
    forget_peak(device)
    strategy = build(wanted, layers, MODEL, learner, device)
    trainer = SftLearner(strategy)
    for budget, batches in rows.items():
        case = f"{name(learner.compile, learner.activation_checkpointing)}, {budget} tokens"
        with context.case(case, layers=layers, budget=budget) as row:
            forget_peak(device)
            seconds = timed(device, lambda b=batches: trainer.step(b))
            figures(row, strategy.shape, learner, batches, statistics.median(seconds), card)
            row["steps_s"] = [round(s, 4) for s in seconds]
            forget_peak(device)
            trainer.step(batches * 2)  # of two rows, as stage c explains
            peak = peak_bytes(device)
            row["peak_bytes"] = peak
            if peak:
                row["planned_over_peak"] = round(row["planned_bytes"] / peak, 3)


def figures(
    row: dict[str, Any],
    shape: Any,
    learner: LearnerConfig,
    batches: list[PackedBatch],
    step_s: float,
    card: tuple[float | None, str],
) -> None:
    """Put what follows from a step's seconds into a row."""
    tokens = sum(batch.num_tokens for batch in batches)
    flops = step_flops(batches, shape, MODEL, trained_passes=1)
    row |= {
        "pages": sum(len(batch.page_ids) for batch in batches),
        "tokens": tokens,
        "step_s": round(step_s, 4),
        "tokens_per_s": round(tokens / step_s, 1),
        "mfu": round(flops / step_s / card[0], 4) if card[0] else None,
        "mfu_of": card[1],
        "planned_bytes": round(planned(shape, MODEL, learner, batches)),
    }
