"""SFT steps of a 7B-shaped random model on one GPU: tokens/s, MFU, peak memory against the plan's.

    python benchmarks/sft_gpu.py [--layers 14] [--dtype-of-masters float32]

The learner's core, without Ray: pages of 1288 px (1,656 image tokens) with transcriptions of
`--response` tokens go through `SftLearner.step`, packed to `--budget` tokens a row and one page a
row. Full float32 masters and moments of 28 layers need 139 GiB; use half of the layers, or bfloat16
masters. `--size tiny` runs the same on a CPU to check the script; its figures are meaningless.
Writes results/sft_gpu.json.
"""

from __future__ import annotations

import argparse
import datetime
import json
import sys
import time
from pathlib import Path

import numpy as np
import torch
import transformers
from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

from olmrl.cluster.memory import Row, learner_memory, total
from olmrl.config.schema import LearnerConfig, ModelConfig
from olmrl.data.encoded import EncodedExample
from olmrl.data.pack import pack_examples
from olmrl.learner.core import SftLearner
from olmrl.learner.logprobs import HeadSpec
from olmrl.learner.model import TORCH_DTYPES, prepare_policy
from olmrl.learner.strategy_fsdp import FsdpStrategy
from olmrl.models.mrope import VisionTokens
from olmrl.models.registry import family_of
from olmrl.types import EncodedPage

RESULTS = Path(__file__).parent / "results" / "sft_gpu.json"
IMAGE_TOKEN = 151655
GRID = (92, 72)
"""Patches of a letter page at 1288 px after the family's rounding: 1,656 merged tokens."""
SIZES = {
    "7b": {
        "text": (3584, 18944, 28, 28, 4, 152064, [16, 24, 24]),
        "vision": (32, 1280, 3420, 16, [7, 15, 23, 31]),
    },
    "tiny": {
        "text": (128, 512, 2, 4, 2, 152064, [4, 6, 6]),
        "vision": (2, 64, 128, 2, [1]),
    },
}


def make_config(size: str, layers: int | None) -> Qwen2_5_VLConfig:
    hidden, inner, depth, heads, kv_heads, vocabulary, sections = SIZES[size]["text"]
    blocks, width, vision_inner, vision_heads, full = SIZES[size]["vision"]
    return Qwen2_5_VLConfig(
        text_config={
            "hidden_size": hidden,
            "intermediate_size": inner,
            "num_hidden_layers": layers or depth,
            "num_attention_heads": heads,
            "num_key_value_heads": kv_heads,
            "vocab_size": vocabulary,
            "max_position_embeddings": 32768,
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 1e6,
                "mrope_section": sections,
            },
            "tie_word_embeddings": False,
        },
        vision_config={
            "depth": blocks,
            "hidden_size": width,
            "intermediate_size": vision_inner,
            "num_heads": vision_heads,
            "out_hidden_size": hidden,
            "fullatt_block_indexes": full,
        },
        image_token_id=IMAGE_TOKEN,
        tie_word_embeddings=False,
    )


def make_example(number: int, response: int) -> EncodedExample:
    """A page as the published pipeline encodes it, with random contents."""
    rng = np.random.default_rng(number)
    merged = GRID[0] * GRID[1] // 4
    prompt = np.concatenate([rng.integers(0, 1000, 85), np.full(merged, IMAGE_TOKEN), [1, 2, 3]])
    page = EncodedPage(
        f"page-{number}",
        prompt.astype(np.int64),
        rng.integers(0, 256, (GRID[0] * GRID[1], 588), np.uint8),
        np.asarray([[1, *GRID]], np.int64),
    )
    ids = rng.integers(0, 1000, response).astype(np.int64)
    return EncodedExample(page, ids, ids)


def measure(arguments: argparse.Namespace, budget: int) -> dict[str, float]:
    """Median of the steps after the first, with a fresh model."""
    device = "cpu" if arguments.size == "tiny" else "cuda"
    model_config = ModelConfig(
        path="random", dtype="bfloat16", master_dtype=arguments.dtype_of_masters
    )
    learner_config = LearnerConfig(
        use_gpu=device == "cuda", token_budget=budget, compile=arguments.compile
    )
    config = make_config(arguments.size, arguments.layers)
    torch.manual_seed(0)
    with torch.device(device):
        model = Qwen2_5_VLForConditionalGeneration._from_config(
            config, dtype=TORCH_DTYPES[model_config.master_dtype], attn_implementation="sdpa"
        )
    policy = prepare_policy(
        model, model_config, activation_checkpointing=True, compile_blocks=arguments.compile
    )
    head = HeadSpec(chunk=learner_config.logprob_chunk)
    strategy = FsdpStrategy(policy, model_config, learner_config, head, total_steps=100)
    learner = SftLearner(strategy)
    examples = [make_example(k, arguments.response) for k in range(arguments.pages)]
    rows = pack_examples(examples, budget, VisionTokens(IMAGE_TOKEN, 2))
    seconds, utilisation = [], []
    for step in range(arguments.steps + 1):
        if device == "cuda":
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
        started = time.perf_counter()
        measured = learner.step(rows, step)
        if device == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - started)
        if "throughput/mfu" in measured:
            utilisation.append(measured["throughput/mfu"].value())
    tokens = sum(row.num_tokens for row in rows)
    step_s = float(np.median(seconds[1:]))
    largest = max(rows, key=lambda row: row.num_tokens)
    shape = family_of(config).shape(config.to_dict())
    planned = Row(
        largest.num_tokens, len(largest.patches), len(largest.targets), largest.num_tokens
    )
    found = {
        "rows": len(rows),
        "tokens": tokens,
        "step_s": round(step_s, 3),
        "tokens_per_s": round(tokens / step_s),
        "pages_per_s": round(arguments.pages / step_s, 2),
        "planned_gib": round(
            total(learner_memory(shape, model_config, learner_config, planned)) / 2**30, 2
        ),
    }
    if device == "cuda":
        found["mfu"] = round(float(np.median(utilisation[1:])), 4) if utilisation else 0.0
        found["peak_gib"] = round(torch.cuda.max_memory_allocated() / 2**30, 2)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", choices=SIZES, default="7b")
    parser.add_argument("--layers", type=int, help="language layers; default: those of --size")
    parser.add_argument("--dtype-of-masters", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--budget", type=int, default=16384)
    parser.add_argument("--pages", type=int, default=12)
    parser.add_argument("--response", type=int, default=1000)
    parser.add_argument("--steps", type=int, default=5)
    arguments = parser.parse_args()
    if arguments.size != "tiny" and not torch.cuda.is_available():
        raise SystemExit("benchmarks/sft_gpu.py: needs a CUDA device (--size tiny runs anywhere)")
    figures = {}
    for name, budget in (("packed", arguments.budget), ("one page a row", 1)):
        figures[name] = measure(arguments, budget)
        print(name, json.dumps(figures[name]), flush=True)
        if arguments.size != "tiny":
            torch.cuda.empty_cache()
    if arguments.size == "tiny":
        return
    result = {
        "figures": figures,
        "hardware": torch.cuda.get_device_name(),
        "date": datetime.date.today().isoformat(),
        "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
        "command": "python " + " ".join(sys.argv),
    }
    RESULTS.write_text(json.dumps(result, indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    main()
