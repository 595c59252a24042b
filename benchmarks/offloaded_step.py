"""CPU seconds of the off-loaded optimizer step per 1e9 parameters, now and as it was first written.

    python benchmarks/offloaded_step.py [--threads 1] [--rounds 3]

With `learner.cpu_offload` weights, gradients and moments live in host memory, and the step is the
CPU's: clip the gradients, AdamW, and a look whether the weights are still finite. Its parameters
here are a language block as wide as Qwen2.5-VL-7B's (and a vision block), float32 masters of
bfloat16 computation, sharded over one rank in host memory as an off-loaded run holds them. Timed
are the learner's own functions; `before` is the step as it was until 2026-11-27: torch's plain
AdamW, and `isfinite` of every weight. Both must end at the same weights. CPU seconds are what cores
must give; wall seconds fall with `--threads`, as far as the bandwidth of the memory lets them.
Writes benchmarks/results/offloaded_step.json.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parent / "gpu"))
from shapes import FAMILY, PUBLISHED, Sizes, build

from olmrl.config.schema import LearnerConfig, ModelConfig, OptimizerConfig
from olmrl.learner.optim import clip_gradients
from olmrl.learner.strategy_fsdp import FsdpStrategy

RESULT = Path(__file__).parent / "results" / "offloaded_step.json"
WIDE = FAMILY.published[PUBLISHED]
SIZES = Sizes(
    {**WIDE, "vocab_size": 2048, "vision_config": {**WIDE["vision_config"], "depth": 1}}, 6
)
MODEL = ModelConfig(path="random", dtype="bfloat16", master_dtype="float32")
LEARNER = LearnerConfig(
    use_gpu=False, optimizer=OptimizerConfig(lr=1e-3, schedule="constant", warmup_ratio=0.0)
)
AGREE = 1e-6
"""Largest difference of a weight after the same steps, each of which moves weights by 1e-3."""


def make_strategy() -> FsdpStrategy:
    """The learner's, of one language and one vision block; the same at every call."""
    return build(SIZES, 1, MODEL, LEARNER, "cpu")


def now(strategy: FsdpStrategy) -> dict[str, Callable[[], Any]]:
    """The parts of a step as the learner runs them."""
    return {
        "clip": lambda: clip_gradients(strategy.policy, 1.0),
        "update": strategy.optim.step,
        "finite": strategy.weights_are_finite,
    }


def before(strategy: FsdpStrategy) -> dict[str, Callable[[], Any]]:
    """The same as it was first written."""
    for group in strategy.optim.optimizers[0].param_groups:
        group |= {"fused": False, "foreach": False}  # what torch takes on a CPU unless told
    parts = [p.detach().to_local() for p in strategy.policy.parameters()]
    return now(strategy) | {
        "finite": lambda: bool(torch.stack([part.isfinite().all() for part in parts]).all())
    }


def set_gradients(strategy: FsdpStrategy) -> None:
    """Gradients of a norm that must be clipped."""
    for parameter in strategy.policy.parameters():
        parameter.grad = torch.full_like(parameter, 1e-3)


def measure(way: Callable[..., dict[str, Callable[[], Any]]], rounds: int) -> dict[str, Any]:
    """Fastest CPU and wall seconds of each part per 1e9 parameters; the first step not counted."""
    strategy = make_strategy()
    steps = way(strategy)
    count = sum(parameter.numel() for parameter in strategy.policy.parameters())
    cpu: dict[str, list[float]] = {name: [] for name in steps}
    wall: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(rounds + 1):
        set_gradients(strategy)
        for name, work in steps.items():
            began, used = time.perf_counter(), time.process_time()
            work()
            cpu[name].append((time.process_time() - used) / count * 1e9)
            wall[name].append((time.perf_counter() - began) / count * 1e9)
    sample = next(p for p in strategy.policy.parameters() if p.ndim == 2)
    found = {
        "parameters": count,
        "cpu_s": {name: min(values[1:]) for name, values in cpu.items()},
        "wall_s": {name: min(values[1:]) for name, values in wall.items()},
        "sample": sample.detach().to_local().clone(),
    }
    for kind in ("cpu_s", "wall_s"):
        found[kind]["all"] = sum(found[kind].values())
    return found


def main() -> None:
    """Measure both ways, print a table, write the result."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, nargs="+", default=[1])
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    rows = []
    for threads in arguments.threads:
        torch.set_num_threads(threads)
        found = {way.__name__: measure(way, arguments.rounds) for way in (before, now)}
        first, second = (found[name].pop("sample") for name in ("before", "now"))
        difference = float((first - second).abs().max())
        assert difference <= AGREE, f"the two ways disagree by {difference}"
        row: dict[str, Any] = {"threads": threads, "largest_difference": difference, **found}
        for kind in ("cpu_s", "wall_s"):
            row[f"{kind}_ratio"] = found["before"][kind]["all"] / found["now"][kind]["all"]
        rows.append(row)
        for name, figures in found.items():
            parts = ", ".join(f"{part} {s:.2f}" for part, s in figures["cpu_s"].items())
            wall = figures["wall_s"]["all"]
            print(f"{threads} threads, {name}: CPU s per 1e9: {parts}; wall s {wall:.2f}")
        print(f"  {row['cpu_s_ratio']:.1f} x fewer CPU s, {row['wall_s_ratio']:.1f} x less wall")
    record = {
        "benchmark": "offloaded_step",
        "date": datetime.date.today().isoformat(),
        "command": " ".join(["python", *sys.argv]),
        "hardware": f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, "
        f"load {os.getloadavg()[0]:.1f}",
        "versions": {"torch": torch.__version__},
        "seconds_are": "per 1e9 parameters",
        "rows": rows,
    }
    RESULT.write_text(json.dumps(record, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
