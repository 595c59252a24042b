"""The first step with compiled blocks: two ranks under FSDP, against the same without FSDP.

    python benchmarks/compile_first_step.py [--layers 4 12] [--hidden 128]

`learner.compile` compiles the forward pass of each language block before FSDP2 shards it, so that
FSDP's hooks stay outside of what the compiler sees. Each case runs in two fresh processes, each on
a core of its own with an empty compiler cache: two ranks of one learner, or two learners that know
nothing of each other, so that both share the machine alike. Activation checkpointing is on, all is
float32. A first step holds the compilation; a second one shows what is left of it. The first step
under FSDP is to take at most 1.3 times that without, by CPU seconds (the compiler's own processes
included); wall seconds stand beside them, and depend on what else the machine does. Writes
benchmarks/results/compile_first_step.json.
"""

from __future__ import annotations

import argparse
import datetime
import json
import multiprocessing
import os
import platform
import resource
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from page_once import IDS, VOCABULARY, make_group

from olmrl.config.schema import AlgorithmConfig, CorrectionConfig, LearnerConfig, ModelConfig
from olmrl.data.pack import pack_groups
from olmrl.learner.core import GrpoLearner
from olmrl.learner.logprobs import HeadSpec
from olmrl.learner.model import prepare_policy
from olmrl.learner.strategy_fsdp import FsdpStrategy
from olmrl.models.family import TinySize
from olmrl.models.registry import FAMILIES, family_of

NO_ENGINE = CorrectionConfig(level="none")
"""No engine sampled these tokens, so nothing is corrected for one."""

RESULT = Path(__file__).parent / "results" / "compile_first_step.json"
FAMILY = FAMILIES["qwen2_5_vl"]
PROCESSES = 2
BOUND = 1.3
CASES = {
    "without_fsdp": (False, True),
    "fsdp": (True, True),
    "without_fsdp_uncompiled": (False, False),
    "fsdp_uncompiled": (True, False),
}
"""Whether the two processes are ranks of one learner, and whether blocks are compiled."""


def two_steps(
    rank: int, sharded: bool, folder: str, hidden: int, layers: int, compiled: bool, out: Any
) -> None:
    """Body of a process: two learner steps on its own core; puts their seconds into `out`."""
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = f"{folder}/cache-{rank}"
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[rank % len(cores)]})
    torch.set_num_threads(1)
    if sharded:
        store = dist.FileStore(f"{folder}/store", PROCESSES)
        dist.init_process_group("gloo", store=store, rank=rank, world_size=PROCESSES)
    size = TinySize(hidden, layers, 4, 1, 4 * hidden, hidden // 2, 2, 4, hidden)
    torch.manual_seed(0)
    model = FAMILY.model_class()._from_config(
        FAMILY.tiny_config(size, IDS, VOCABULARY, 0.02), attn_implementation="sdpa"
    )
    config = ModelConfig(path="random", dtype="float32")
    learner = LearnerConfig(use_gpu=False, compile=compiled)
    model = prepare_policy(
        model, config, activation_checkpointing=True, compile_blocks=learner.compile
    )
    strategy = FsdpStrategy(model, config, learner, HeadSpec(), total_steps=10)
    vision = family_of(strategy.model_config).placeholders(strategy.model_config.to_dict())
    batches = pack_groups([make_group(FAMILY, 64, 32)], 4096, True, vision)
    work = GrpoLearner(strategy, AlgorithmConfig(correction=NO_ENGINE), max_tokens=8192)
    found = {}
    for name in ("first", "second"):
        began, used = time.perf_counter(), cpu_seconds()
        work.step(batches)
        found |= {
            f"{name}_s": time.perf_counter() - began,
            f"{name}_cpu_s": cpu_seconds() - used,
        }
    out.put(found)


def cpu_seconds() -> float:
    """Of this process and of the children that it has waited for (the C++ compiler's)."""
    own, children = (
        resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )
    return own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime


def measure(sharded: bool, hidden: int, layers: int, compiled: bool) -> dict[str, float]:
    """Seconds of a case's steps: wall of the slower process, CPU the mean of both."""
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        out = context.SimpleQueue()
        arguments = (sharded, folder, hidden, layers, compiled, out)
        processes = [
            context.Process(target=two_steps, args=(rank, *arguments)) for rank in range(PROCESSES)
        ]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
            if process.exitcode:
                raise SystemExit(f"a process ended with exit code {process.exitcode}")
        rows = [out.get() for _ in processes]
    found = {name: max(row[name] for row in rows) for name in ("first_s", "second_s")}
    for name in ("first_cpu_s", "second_cpu_s"):
        found[name] = statistics.mean(row[name] for row in rows)
    return {name: round(value, 2) for name, value in found.items()}


def main() -> None:
    """Measure all cases, print a table, write the result."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--layers", type=int, nargs="+", default=[4, 12])
    parser.add_argument("--hidden", type=int, default=128)
    arguments = parser.parse_args()
    rows = []
    for layers in arguments.layers:
        row: dict[str, Any] = {"layers": layers, "hidden": arguments.hidden}
        for name, (sharded, compiled) in CASES.items():
            row[name] = measure(sharded, arguments.hidden, layers, compiled)
            print(f"{layers} layers, {name}: {row[name]}", flush=True)
        fsdp, without = row["fsdp"], row["without_fsdp"]
        row["cpu_ratio"] = round(fsdp["first_cpu_s"] / without["first_cpu_s"], 2)
        row["wall_ratio"] = round(fsdp["first_s"] / without["first_s"], 2)
        row["within_aim"] = row["cpu_ratio"] <= BOUND
        print(
            f"{layers} layers: the first step takes {row['cpu_ratio']} x the CPU seconds of that "
            f"without FSDP (wall {row['wall_ratio']} x; aim {BOUND})",
            flush=True,
        )
        rows.append(row)
        write(rows)


def write(rows: list[dict[str, Any]]) -> None:
    """After each depth, so that a run that is cut short keeps what it found."""
    record = {
        "benchmark": "compile_first_step",
        "date": datetime.date.today().isoformat(),
        "command": " ".join(["python", *sys.argv]),
        "hardware": f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, one "
        f"for each process, load {os.getloadavg()[0]:.1f}",
        "versions": {"torch": torch.__version__},
        "aim": BOUND,
        "rows": rows,
    }
    RESULT.write_text(json.dumps(record, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
