"""Page-once against dense training on one prompt group: tokens, operations, seconds, memory.

    python benchmarks/page_once.py [--scale 16] [--layers 2] [--hidden 128]

A group of G=28 completions of R tokens on a prompt of P=2000 tokens (most of them from an image)
goes through the learner's own forward and backward pass on a CPU, packed page-once and packed
dense; all lengths are divided by `--scale`. The linear layers of the language model can gain at
most G(P+R)/(P+GR); each is timed. Writes benchmarks/results/page_once.json. On a GPU the same is
stage c of benchmarks/gpu/kit.py.
"""

from __future__ import annotations

import argparse
import datetime
import json
import multiprocessing
import os
import platform
import resource
import sys
import time
from pathlib import Path

import numpy as np
import torch
import transformers
from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

from olmrl.config.schema import AlgorithmConfig, LearnerConfig, ModelConfig
from olmrl.data.pack import GroupItem, ScoredCompletion, pack_groups
from olmrl.learner.core import GrpoLearner
from olmrl.learner.logprobs import HeadSpec
from olmrl.learner.model import prepare_policy
from olmrl.learner.strategy_fsdp import FsdpStrategy
from olmrl.models.cost import CostModel
from olmrl.models.mrope import VisionTokens
from olmrl.types import EncodedPage

RESULTS = Path(__file__).parent / "results" / "page_once.json"
GROUP, PROMPT, RESPONSES = 28, 2000, (500, 1000, 2000)
IMAGE_TOKEN, VOCABULARY = 6, 2048


def make_strategy(hidden: int, layers: int) -> FsdpStrategy:
    """A random model with the family's proportions."""
    config = Qwen2_5_VLConfig(
        text_config={
            "hidden_size": hidden,
            "intermediate_size": 5 * hidden,
            "num_hidden_layers": layers,
            "num_attention_heads": 4,
            "num_key_value_heads": 1,
            "vocab_size": VOCABULARY,
            "max_position_embeddings": 8192,
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 1e6,
                "mrope_section": [hidden // 8 - 2 * (hidden // 24), hidden // 24, hidden // 24],
            },
            "pad_token_id": 0,
            "bos_token_id": None,
            "eos_token_id": 2,
            "tie_word_embeddings": True,
        },
        vision_config={
            "depth": layers,
            "hidden_size": hidden // 2,
            "intermediate_size": hidden,
            "num_heads": 4,
            "out_hidden_size": hidden,
            "fullatt_block_indexes": [layers - 1],
        },
        image_token_id=IMAGE_TOKEN,
        tie_word_embeddings=True,
    )
    torch.manual_seed(0)
    model = Qwen2_5_VLForConditionalGeneration._from_config(config, attn_implementation="sdpa")
    model_config = ModelConfig(path="random", dtype="float32")
    learner = LearnerConfig(use_gpu=False, activation_checkpointing=False)
    model = prepare_policy(model, model_config)
    head = HeadSpec(chunk=learner.logprob_chunk)
    return FsdpStrategy(model, model_config, learner, head, total_steps=10)


def make_group(prompt: int, response: int) -> GroupItem:
    """A page whose image takes about nine tenths of the prompt."""
    rng = np.random.default_rng(0)
    side = int((0.9 * prompt) ** 0.5)
    text = rng.integers(8, VOCABULARY, prompt - side * side)
    image = np.full(side * side, IMAGE_TOKEN)
    page = EncodedPage(
        page_id="page",
        prompt_ids=np.concatenate([text[:5], image, text[5:]]).astype(np.int64),
        patches=rng.integers(0, 256, (4 * side * side, 588), np.uint8),
        image_grid_thw=np.asarray([[1, 2 * side, 2 * side]], np.int64),
    )
    completions = [
        ScoredCompletion(
            token_ids=rng.integers(8, VOCABULARY, response).astype(np.int32),
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


def measure(strategy: FsdpStrategy, item: GroupItem, page_once: bool, budget: int) -> dict:
    """One whole learner step on a group, twice after a warm-up; the faster one counts."""
    batches = pack_groups([item], budget, page_once, VisionTokens(IMAGE_TOKEN, 2))
    learner = GrpoLearner(strategy, AlgorithmConfig(), max_tokens=8192)
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
    }


def compare(response: int, arguments: argparse.Namespace) -> dict:
    """Both packings of one shape, each in its own process to measure its peak memory."""
    prompt, length = PROMPT // arguments.scale, response // arguments.scale
    found = {"P": prompt, "R": length, "G": GROUP}
    for name, page_once in (("page_once", True), ("dense", False)):
        # page-once packs the group in one row; dense rows are at most as large
        budget = prompt + GROUP * length
        task = (arguments.hidden, arguments.layers, prompt, length, page_once, budget)
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            found[name] = pool.apply(run, task)
    once, dense = found["page_once"], found["dense"]
    found["bound"] = GROUP * (prompt + length) / (prompt + GROUP * length)
    for quantity in ("tokens", "forward_tflop", "step_seconds", "linear_seconds", "patches"):
        found[f"{quantity}_ratio"] = dense[quantity] / once[quantity]
    found["share_of_bound"] = found["linear_seconds_ratio"] / found["bound"]
    return found


def run(hidden: int, layers: int, prompt: int, response: int, page_once: bool, budget: int) -> dict:
    """Build and measure, in a fresh process."""
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    strategy = make_strategy(hidden, layers)
    return measure(strategy, make_group(prompt, response), page_once, budget)


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
    arguments = parser.parse_args()
    rows = []
    print("   P    R  bound  tokens  flops  step s (dense/once)  ratio  linear  of bound  MiB")
    for response in RESPONSES:
        row = compare(response, arguments)
        rows.append(row)
        once, dense = row["page_once"], row["dense"]
        print(
            f"{row['P']:4d} {row['R']:4d} {row['bound']:6.2f} {row['tokens_ratio']:7.2f} "
            f"{row['forward_tflop_ratio']:6.2f} "
            f"{dense['step_seconds']:8.2f}/{once['step_seconds']:.2f} "
            f"{row['step_seconds_ratio']:12.2f} {row['linear_seconds_ratio']:7.2f} "
            f"{row['share_of_bound']:9.2f} "
            f"{dense['peak_memory_mib']:.0f}/{once['peak_memory_mib']:.0f}",
            flush=True,
        )
        write_results(rows, arguments)


if __name__ == "__main__":
    main()
