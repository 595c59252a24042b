"""Stage c: GRPO learner steps of a 7B-wide model, page-once against dense.

A group of G=28 completions of R tokens on a prompt of P=2000 goes through whole learner steps, at
the depth that the memory plan allows. Reported are seconds (whole, and by part in one step of its
own), MFU on unique tokens, peak memory against the plan's, and what the step would take at full
depth, from two depths; the first group also with compiled blocks.

The peak is taken in a step of two groups. In a step of one row the gradients are still being made
while the backward pass holds most, and the plan, which is for the rows behind the first, would be
judged by a moment that most rows do not have.
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import Any

from measure import Parts, forget_peak, kernels, peak_bytes, peak_flops, timed
from shapes import FAMILY, Sizes, build, deepest, make_group, make_page, planned, sizes
from stage import Context
from torch import nn

from olmrl.config.schema import AlgorithmConfig, CorrectionConfig, LearnerConfig, ModelConfig
from olmrl.data.pack import GroupItem, pack_groups
from olmrl.learner.core import GrpoLearner
from olmrl.learner.flops import step_flops
from olmrl.learner.strategy_fsdp import FsdpStrategy
from olmrl.metrics import Measurements
from olmrl.models.registry import family_of
from olmrl.types import PackedBatch

NO_ENGINE = CorrectionConfig(level="none")
"""No engine sampled these tokens, so nothing is corrected for one."""

MEMORY_BOUND = 0.10
"""Share by which the plan may miss the measured peak before its formula must be mended."""


@dataclass(frozen=True)
class Work:
    """The groups of this stage."""

    prompt: int
    grid: tuple[int, int]
    group: int
    responses: tuple[int, ...]
    """The one whose depth is varied first."""
    budget: int


FULL = Work(2000, (92, 80), 28, (1000, 500, 2000), 32768)
TINY = Work(40, (8, 12), 4, (12, 6, 24), 160)
MODEL = ModelConfig(path="random", dtype="bfloat16", master_dtype="float32")


def run(context: Context) -> None:
    """See the module."""
    work, wanted = (TINY if context.rehearsal else FULL), sizes(context)
    learner = LearnerConfig(use_gpu=not context.rehearsal, token_budget=work.budget)
    rows = {
        (r, once): pack(wanted, work, r, once) for r in work.responses for once in (True, False)
    }
    every = [batch for batches in rows.values() for batch in batches]
    layers, said = deepest(context, wanted, lambda shape: planned(shape, MODEL, learner, every))
    context.report("depth", layers=layers, of=wanted.layers, why=said)
    first = work.responses[0]
    half, half_s = max(1, layers // 2), 0.0
    with context.case(f"R={first}, page-once, half the depth", layers=half) as row:
        steps = Steps(context, wanted, learner, half)
        half_s = row["step_s"] = statistics.median(steps.seconds(rows[first, True]))
        steps.close()
    compiled = learner.model_copy(update={"compile": True})
    with context.case(f"R={first}, page-once, compiled blocks", layers=layers) as row:
        steps = Steps(context, wanted, compiled, layers)
        steps.measure(row, rows[first, True], rows[first, True])
        row["kernels"] = steps.kernels(rows[first, True])
        steps.close()
    steps = Steps(context, wanted, learner, layers)
    seconds: dict[tuple[int, bool], float] = {}
    linear: dict[tuple[int, bool], float] = {}
    for (response, once), batches in sorted(rows.items(), key=lambda row: not row[0][1]):
        case = f"R={response}, {'page-once' if once else 'dense'}"
        with context.case(case, P=work.prompt, G=work.group, layers=layers) as row:
            seconds[response, once] = steps.measure(row, batches, rows[response, True])
            if response == first:
                row["parts_s"] = steps.parts(batches)
                linear[response, once] = row["parts_s"]["linear"]
            if response == first and once:
                row["kernels"] = steps.kernels(batches)
        if {(response, True), (response, False)} <= seconds.keys():
            compare(context, work, response, seconds, linear)
        if (response, once) == (first, True) and half_s and half < layers and seconds:
            project(
                context, wanted, rows[first, True], (half, half_s), (layers, seconds[first, True])
            )


def pack(wanted: Sizes, work: Work, response: int, page_once: bool) -> list[PackedBatch]:
    """One group in rows of the budget."""
    page = make_page(FAMILY, wanted.vision, work.prompt, work.grid)
    item: GroupItem = make_group(page, [response] * work.group)
    return pack_groups([item], work.budget, page_once, wanted.vision)


class Steps:
    """A learner of one depth, whose steps are measured."""

    def __init__(
        self, context: Context, wanted: Sizes, learner: LearnerConfig, layers: int
    ) -> None:
        self._context = context
        self._config = learner
        forget_peak(context.device)
        self._strategy: FsdpStrategy | None = build(wanted, layers, MODEL, learner, context.device)
        self._shape = self._strategy.shape
        self._learner: GrpoLearner | None = GrpoLearner(
            self._strategy,
            AlgorithmConfig(correction=NO_ENGINE),
            max_tokens=4096,
        )

    def seconds(self, batches: list[PackedBatch]) -> list[float]:
        """Seconds of whole steps, after one that does not count."""
        return timed(self._context.device, lambda: self._step(batches), 2)

    def _step(self, batches: list[PackedBatch]) -> Measurements:
        assert self._learner is not None
        return self._learner.step(batches)

    def measure(
        self, row: dict[str, Any], batches: list[PackedBatch], unique: list[PackedBatch]
    ) -> float:
        """Fill a row; seconds of a step.

        Args:
            row: to be filled.
            batches: the rows as they are run.
            unique: the same work page-once, whose operations are the ones that MFU counts.
        """
        device = self._context.device
        forget_peak(device)
        seconds = self.seconds(batches)
        step_s = statistics.median(seconds)
        if len(batches) == 1:
            forget_peak(device)
            self._step(batches * 2)
        peak, predicted = peak_bytes(device), planned(self._shape, MODEL, self._config, batches)
        card, said = peak_flops(device)
        done = step_flops(batches, self._shape, MODEL, trained_passes=1)
        useful = step_flops(unique, self._shape, MODEL, trained_passes=1)
        row |= {
            "rows": len(batches),
            "tokens": sum(batch.num_tokens for batch in batches),
            "patches": sum(len(batch.patches) for batch in batches),
            "steps_s": [round(s, 4) for s in seconds],
            "step_s": round(step_s, 4),
            "tflop": done / 1e12,
            "unique_tflop": useful / 1e12,
            "mfu_unique_tokens": round(useful / step_s / card, 4) if card else None,
            "mfu_as_run": round(done / step_s / card, 4) if card else None,
            "mfu_of": said,
            "peak_bytes": peak,
            "planned_bytes": round(predicted),
            "planned_over_peak": round(predicted / peak, 3) if peak else None,
        }
        if peak:
            row["plan_is_right"] = abs(predicted / peak - 1) <= MEMORY_BOUND
        return step_s

    def kernels(self, batches: list[PackedBatch]) -> list[dict[str, Any]]:
        """The kernels that a step spends most time in."""
        return kernels(self._context.device, lambda: self._step(batches))

    def parts(self, batches: list[PackedBatch]) -> dict[str, float]:
        """Seconds by part, in a step that is watched and therefore a little slower."""
        assert self._strategy is not None
        model = self._strategy.policy.model
        family = family_of(model.config)
        layers, tower = list(family.language(model).layers), family.tower(model)
        linear = [m for layer in layers for m in layer.modules() if isinstance(m, nn.Linear)]
        measured: dict[str, Any] = {}

        def work() -> None:
            measured.update(self._step(batches))

        parts = Parts(
            self._context.device,
            {"tower": list(tower.blocks), "linear": linear, "attention_and_norms": layers},
        ).seconds(work)
        parts["optimizer"] = round(measured["time/optim"].value(), 6)
        counted = ("tower", "linear", "attention_and_norms", "optimizer")
        parts["rest"] = round(parts["all"] - sum(parts[name] for name in counted), 6)
        return parts

    def close(self) -> None:
        """Give the memory back."""
        self._strategy = self._learner = None
        forget_peak(self._context.device)


def compare(
    context: Context,
    work: Work,
    response: int,
    seconds: dict[tuple[int, bool], float],
    linear: dict[tuple[int, bool], float],
) -> None:
    """Page-once against dense, and against what it can gain at most in tokens.

    Args:
        context: takes the row.
        work: the group.
        response: tokens of each completion.
        seconds: of whole steps, by response and packing.
        linear: of the language model's linear layers, where they were watched.
    """
    prompt, group = work.prompt, work.group
    bound = group * (prompt + response) / (prompt + group * response)
    row: dict[str, Any] = {"bound": round(bound, 3)}
    for name, found in (("step", seconds), ("linear", linear)):
        if {(response, True), (response, False)} <= found.keys():
            gain = found[response, False] / found[response, True]
            row |= {f"{name}_gain": round(gain, 3), f"{name}_share": round(gain / bound, 3)}
    context.report(
        f"R={response}, dense over page-once",
        **row,
        arithmetic=f"bound = G (P + R) / (P + G R) = {group} x {prompt + response} / "
        f"{prompt + group * response}; shares are of it, and a whole step's may exceed 1, as the "
        "tower runs once as well",
    )


def project(
    context: Context,
    wanted: Sizes,
    batches: list[PackedBatch],
    shallow: tuple[int, float],
    deep: tuple[int, float],
) -> None:
    """Seconds of a step at full depth, from (layers, seconds) at two depths."""
    (few, few_s), (many, many_s), full = shallow, deep, wanted.layers
    each = (many_s - few_s) / (many - few)
    fixed = many_s - many * each
    whole_s = fixed + full * each
    card, _ = peak_flops(context.device)
    flops = step_flops(batches, wanted.shape(full), MODEL, trained_passes=1)
    context.report(
        "projection to full depth",
        layer_s=round(each, 5),
        fixed_s=round(fixed, 4),
        full_layers=full,
        projected_step_s=round(whole_s, 4),
        projected_mfu=round(flops / whole_s / card, 4) if card else None,
        arithmetic=f"per layer ({many_s:.4f} - {few_s:.4f}) / ({many} - {few}) = {each:.5f} s; "
        f"fixed {many_s:.4f} - {many} x {each:.5f} = {fixed:.4f} s; full depth {fixed:.4f} + "
        f"{full} x {each:.5f} = {whole_s:.4f} s (time only: one card need not hold it)",
    )
