"""Page-once against dense training on one prompt group: tokens, operations, seconds, memory.

    python benchmarks/page_once.py [--scale 16] [--layers 2] [--hidden 128] [--family qwen3_5 ...]

A group of G=28 completions of R tokens on a prompt of P=2000 tokens (most of them from an image)
goes through the learner's own forward and backward pass on a CPU, packed page-once and packed
dense; all lengths are divided by `--scale`. The linear layers of the language model can gain at
most G(P+R)/(P+GR); each is timed. For families with a recurrence its share of the forward pass is
told beside it. Writes benchmarks/results/page_once.json. On a GPU the same is stage c of
benchmarks/gpu/kit.py.
"""

from __future__ import annotations

import argparse
import datetime
import itertools
import json
import multiprocessing
import os
import platform
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import transformers

from olmrl.config.schema import AlgorithmConfig, CorrectionConfig, LearnerConfig, ModelConfig
from olmrl.data.pack import GroupItem, ScoredCompletion, pack_groups
from olmrl.learner.core import GrpoLearner
from olmrl.learner.logprobs import HeadSpec
from olmrl.learner.model import prepare_policy
from olmrl.learner.strategy_fsdp import FsdpStrategy
from olmrl.models.cost import CostModel
from olmrl.models.delta_net import PackedDeltaNet
from olmrl.models.family import Family, TinySize
from olmrl.models.registry import FAMILIES, family_of
from olmrl.synth.model import SPECIAL_TOKENS
from olmrl.types import EncodedPage, PackedBatch

NO_ENGINE = CorrectionConfig(level="none")
"""No engine sampled these tokens, so nothing is corrected for one."""

RESULTS = Path(__file__).parent / "results" / "page_once.json"
GROUP, PROMPT, RESPONSES = 28, 2000, (500, 1000, 2000)
VOCABULARY = 2048
IDS = {token: number for number, token in enumerate(SPECIAL_TOKENS)}


def make_strategy(family: Family, hidden: int, layers: int) -> FsdpStrategy:
    """A random model of a family."""
    size = TinySize(hidden, layers, 4, 1, 5 * hidden, hidden // 2, layers, 4, hidden)
    config = family.tiny_config(size, IDS, VOCABULARY, 0.02)
    torch.manual_seed(0)
    model = family.model_class()._from_config(config, attn_implementation="sdpa")
    model_config = ModelConfig(path="random", dtype="float32")
    learner = LearnerConfig(use_gpu=False, activation_checkpointing=False)
    model = prepare_policy(model, model_config)
    head = HeadSpec(chunk=learner.logprob_chunk)
    return FsdpStrategy(model, model_config, learner, head, total_steps=10)


def make_group(family: Family, prompt: int, response: int) -> GroupItem:
    """A page whose image takes about nine tenths of the prompt."""
    rng = np.random.default_rng(0)
    side = int((0.9 * prompt) ** 0.5)
    text = rng.integers(len(IDS), VOCABULARY, prompt - side * side)
    image = np.full(side * side, IDS[family.image_token])
    width = 3 * family.image_settings.patch_size**2
    page = EncodedPage(
        page_id="page",
        prompt_ids=np.concatenate([text[:5], image, text[5:]]).astype(np.int64),
        patches=rng.integers(0, 256, (4 * side * side, width), np.uint8),
        image_grid_thw=np.asarray([[1, 2 * side, 2 * side]], np.int64),
    )
    completions = [
        ScoredCompletion(
            token_ids=rng.integers(len(IDS), VOCABULARY, response).astype(np.int32),
            logprobs=np.full(response, -7.0, np.float32),
            advantage=float(rng.normal()),
            weights=np.ones(response, np.float32),
        )
        for _ in range(GROUP)
    ]
    return GroupItem(page, completions)


class LinearWatch:
    """CPU seconds in the language model's linear layers, forward and backward."""

    def __init__(self, strategy: FsdpStrategy) -> None:
        self.seconds = 0.0
        self._start = 0.0
        for module in strategy.policy.model.model.language_model.layers.modules():
            if isinstance(module, torch.nn.Linear):
                module.register_forward_pre_hook(self._begin)
                module.register_forward_hook(self._end)
                module.register_full_backward_pre_hook(self._begin)
                module.register_full_backward_hook(self._end)

    def _begin(self, *_: object) -> None:
        self._start = time.process_time()

    def _end(self, *_: object) -> None:
        self.seconds += time.process_time() - self._start


class ScanWatch:
    """CPU seconds in the recurrences of forward passes."""

    def __init__(self, strategy: FsdpStrategy) -> None:
        self.seconds = 0.0
        for module in strategy.policy.modules():
            if isinstance(module, PackedDeltaNet):
                module._scan = self._timed(module._scan)

    def _timed(self, scan: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
        def call(*arguments: object) -> torch.Tensor:
            start = time.process_time()
            out = scan(*arguments)
            self.seconds += time.process_time() - start
            return out

        return call


def scan_share(strategy: FsdpStrategy, batches: list[PackedBatch]) -> float:
    """Share of a forward pass that recurrences take; 0 where there are none."""
    watch, start = ScanWatch(strategy), time.process_time()
    for batch in batches:
        strategy.logprobs(batch)
    return watch.seconds / (time.process_time() - start)


def measure(strategy: FsdpStrategy, item: GroupItem, page_once: bool, budget: int) -> dict:
    """One whole learner step on a group, twice after a warm-up; the faster one counts."""
    vision = family_of(strategy.model_config).placeholders(strategy.model_config.to_dict())
    batches = pack_groups([item], budget, page_once, vision)
    learner = GrpoLearner(strategy, AlgorithmConfig(correction=NO_ENGINE), max_tokens=8192)
    cost = CostModel.of(strategy.shape)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    learner.step(batches)
    seconds, linear = [], []
    watch = LinearWatch(strategy)
    for _ in range(2):
        start, watch.seconds = time.process_time(), 0.0
        learner.step(batches)
        seconds.append(time.process_time() - start)
        linear.append(watch.seconds)
    memory = 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
    return {
        "rows": len(batches),
        "tokens": sum(batch.num_tokens for batch in batches),
        "patches": sum(len(batch.patches) for batch in batches),
        "forward_tflop": sum(cost.batch(batch) for batch in batches) / 1e12,
        "step_seconds": min(seconds),
        "linear_seconds": min(linear),
        "peak_memory_mib": memory / 2**20,
        "scan_share_of_forward": scan_share(strategy, batches),
    }


def compare(model_type: str, response: int, arguments: argparse.Namespace) -> dict:
    """Both packings of one shape, each in its own process to measure its peak memory."""
    prompt, length = PROMPT // arguments.scale, response // arguments.scale
    found = {"family": model_type, "P": prompt, "R": length, "G": GROUP}
    for name, page_once in (("page_once", True), ("dense", False)):
        # page-once packs the group in one row; dense rows are at most as large
        budget = prompt + GROUP * length
        size = (arguments.hidden, arguments.layers)
        task = (model_type, *size, prompt, length, page_once, budget)
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            found[name] = pool.apply(run, task)
    once, dense = found["page_once"], found["dense"]
    found["bound"] = GROUP * (prompt + length) / (prompt + GROUP * length)
    for quantity in ("tokens", "forward_tflop", "step_seconds", "linear_seconds", "patches"):
        found[f"{quantity}_ratio"] = dense[quantity] / once[quantity]
    found["share_of_bound"] = found["linear_seconds_ratio"] / found["bound"]
    return found


def run(
    model_type: str,
    hidden: int,
    layers: int,
    prompt: int,
    response: int,
    page_once: bool,
    budget: int,
) -> dict:
    """Build and measure, in a fresh process."""
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    family = FAMILIES[model_type]
    strategy = make_strategy(family, hidden, layers)
    return measure(strategy, make_group(family, prompt, response), page_once, budget)


def write_results(rows: list[dict], arguments: argparse.Namespace) -> None:
    """Called after every shape, so that an interrupted run keeps its results."""
    RESULTS.parent.mkdir(exist_ok=True)
    result = {
        "benchmark": "page_once",
        "date": datetime.date.today().isoformat(),
        "command": " ".join(["python", "benchmarks/page_once.py", *sys.argv[1:]]),
        "hardware": f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, "
        "1 thread used",
        "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
        "model": {"hidden": arguments.hidden, "layers": arguments.layers},
        "shapes": rows,
    }
    RESULTS.write_text(json.dumps(result, indent=2) + "\n", "utf-8")


def main() -> None:
    """Measure all shapes, print a table, write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scale", type=int, default=16)
    parser.add_argument("--hidden", type=int, default=128)
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--family", nargs="+", choices=FAMILIES, default=tuple(FAMILIES))
    arguments = parser.parse_args()
    rows = []
    print("family        P    R  bound  tokens  flops  step s (dense/once)", end="")
    print("  ratio  linear  of bound  scan  MiB")
    for model_type, response in itertools.product(arguments.family, RESPONSES):
        row = compare(model_type, response, arguments)
        rows.append(row)
        once, dense = row["page_once"], row["dense"]
        print(
            f"{model_type:12s} {row['P']:4d} {row['R']:4d} "
            f"{row['bound']:6.2f} {row['tokens_ratio']:7.2f} "
            f"{row['forward_tflop_ratio']:6.2f} "
            f"{dense['step_seconds']:8.2f}/{once['step_seconds']:.2f} "
            f"{row['step_seconds_ratio']:12.2f} {row['linear_seconds_ratio']:7.2f} "
            f"{row['share_of_bound']:9.2f} {once['scan_share_of_forward']:5.0%} "
            f"{dense['peak_memory_mib']:.0f}/{once['peak_memory_mib']:.0f}",
            flush=True,
        )
        write_results(rows, arguments)


if __name__ == "__main__":
    main()
