"""What was run, and what was not: README's table, made from result files.

    python benchmarks/gpu/table.py --write     puts the table into README.md
    python benchmarks/gpu/table.py --check     exit code 1 where README.md has another one

A path has a CPU test where its test file is here, and was run on a GPU where a committed
`benchmarks/results/gpu_*.json` (the kit's `kit.json` of a card) holds a stage that is done and has
such a case. What has neither was only read: checked line by line against the sources it relies on.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
README = ROOT / "README.md"
RESULTS = ROOT / "benchmarks" / "results"
BEGIN, END = "<!-- what was run: begin -->", "<!-- what was run: end -->"


@dataclass(frozen=True)
class Way:
    """One way through the code that a user's run may take."""

    title: str
    tests: tuple[str, ...] = ()
    """Files that run it on a CPU."""
    stage: str = ""
    """Stage of the kit that runs it on a GPU; empty: none does."""
    case: str = ""
    """Beginning of the cases that do, where not all of the stage's cases do."""
    note: str = ""
    """What the CPU test does not show."""


FAMILIES = {
    "qwen2_vl": "Qwen2-VL",
    "qwen2_5_vl": "Qwen2.5-VL",
    "qwen3_vl": "Qwen3-VL",
    "qwen3_5": "Qwen3.5",
}
"""Names of stage b's families."""

WAYS = (
    Way(
        "whole GRPO runs through Ray, engine `hf`",
        ("tests/integration/test_kills.py",),
        "h",
        "engine hf",
    ),
    Way(
        "whole GRPO runs through Ray, engine `vllm`",
        ("tests/integration/test_runs_cpu.py",),
        "h",
        "engine vllm",
        "vLLM's CPU build",
    ),
    Way("whole SFT runs through Ray", ("tests/integration/test_sft_runs.py",)),
    *(
        Way(
            f"page-once forward and gradients, {name}",
            ("tests/unit/models/test_family_gate.py",),
            "b",
            f"{family}, page-once",
        )
        for family, name in FAMILIES.items()
    ),
    Way("attention by SDPA", ("tests/unit/learner/test_learner_attention.py",), "a", "sdpa"),
    Way(
        "attention by FlexAttention",
        ("tests/unit/learner/test_learner_attention.py",),
        "a",
        "flex",
        "forward only",
    ),
    Way(
        "attention by flash-attn",
        ("tests/unit/learner/test_learner_attention.py",),
        "a",
        "flash",
        "with a slow stand-in for the kernel",
    ),
    Way(
        "attention in windows of the vision tower",
        ("tests/unit/learner/test_learner_attention.py",),
        "a",
        "windows",
    ),
    Way(
        "GRPO learner step",
        ("tests/unit/learner/test_learner_core.py",),
        "c",
        "R=",
        "tiny models",
    ),
    Way(
        "SFT learner step",
        ("tests/unit/learner/test_learner_core.py",),
        "d",
        "compile off",
        "tiny models",
    ),
    Way(
        "compiled blocks (`learner.compile`)",
        ("tests/unit/learner/test_learner_strategy.py",),
        "c",
        "R=1000, page-once, compiled blocks",
        "tiny, float32; two gloo ranks; the real compiler in the slow suite",
    ),
    Way(
        "memory plan against an allocator",
        ("tests/unit/cluster/test_memory.py",),
        "c",
        "R=",
        "tiny models",
    ),
    Way("AdamW", ("tests/unit/learner/test_learner_optim.py",), "e", "AdamW"),
    Way("Muon", ("tests/unit/learner/test_learner_optim.py",), "e", "Muon"),
    Way("state off-loaded to host memory", (), "e", "AdamW, off-loaded"),
    Way(
        "a look at torch, driver, kind and memory of GPUs before a run loads anything",
        ("tests/unit/cluster/test_gpus.py",),
        note="given facts, and a node with a GPU in name only",
    ),
    Way(
        "vLLM 0.33, the newest that is allowed",
        ("tests/unit/rollout/test_vllm_interfaces.py",),
        note="its sources, held against what olmrl calls; it has no CPU build",
    ),
    Way("FSDP2 over several ranks", ("tests/unit/learner/test_learner_strategy.py",), note="gloo"),
    Way("DeepSpeed ZeRO", ("tests/unit/learner/test_learner_deepspeed.py",), note="gloo"),
    Way("patches as bytes, normalised on the device", ("tests/unit/models/test_patches.py",), "f"),
    Way(
        "weights by the object store",
        ("tests/integration/test_engines.py",),
        "h",
        "engine hf",
    ),
    Way("weights by CUDA IPC into vLLM", (), "h", "engine vllm"),
    Way("CUDA IPC between two processes", (), "g", "to a second process"),
    Way("weights by NCCL into vLLM"),
    Way("tensor-parallel engines"),
    Way("7B weights, trained and served"),
    Way(
        "loss of engines, scorers, learner, a node",
        ("tests/integration/test_chaos.py",),
        note="several Ray nodes on one machine, in the slow suite",
    ),
    Way(
        "scaling from zero nodes",
        ("tests/integration/test_scale_from_zero.py",),
        note="simulated machines",
    ),
    Way(
        "launch files for AWS, Google Cloud, Kubernetes, Slurm",
        ("tests/unit/launch/test_clouds.py", "tests/unit/launch/test_kuberay.py"),
        note="schemas and stand-in programs",
    ),
)


def main(words: Sequence[str] | None = None) -> int:
    """Print, write or check the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    way = parser.add_mutually_exclusive_group()
    way.add_argument("--write", action="store_true", help="put it into README.md")
    way.add_argument("--check", action="store_true", help="compare it with README.md's")
    options = parser.parse_args(words)
    made, text = table(results(RESULTS)), README.read_text("utf-8")
    if options.write:
        README.write_text(replaced(text, made), "utf-8")
    elif options.check and replaced(text, made) != text:
        print("README.md: the table of what was run is not the one that result files give; run")
        print("python benchmarks/gpu/table.py --write")
        return 1
    elif not options.check:
        print(made)
    return 0


def results(folder: Path) -> list[dict[str, Any]]:
    """The kit's results of cards, in order of their date."""
    found = [json.loads(path.read_text("utf-8")) for path in sorted(folder.glob("gpu_*.json"))]
    return sorted((one for one in found if one["device"] == "cuda"), key=lambda one: one["date"])


def table(runs: Sequence[dict[str, Any]]) -> str:
    """A sentence on the cards, and the table, in markdown."""
    cards = "; ".join(dict.fromkeys(f"{run['card']} on {run['date']}" for run in runs))
    said = f"GPUs that ran the kit: {cards}." if runs else "No GPU has run any of it yet."
    lines = [said, "", "| path | CPU test | GPU run | read only |", "|---|---|---|---|"]
    for way in WAYS:
        tested = ", ".join(f"`{test}`" for test in way.tests)
        if way.note:
            tested += f" ({way.note})"
        gpu = on_gpu(way, runs)
        only_read = "yes" if not way.tests and not gpu else ""
        lines.append(f"| {way.title} | {tested or 'none'} | {gpu or 'not run'} | {only_read} |")
    return "\n".join(lines)


def on_gpu(way: Way, runs: Sequence[dict[str, Any]]) -> str:
    """Cards and dates of the runs that go this way, each card's newest; empty without any."""
    dates: dict[str, str] = {}
    for run in runs:
        stage = run["stages"].get(way.stage, {}) if way.stage else {}
        cases = [
            row
            for row in stage.get("rows", [])
            if row.get("ok", False) and row["case"].startswith(way.case)
        ]
        if cases:
            dates[run["card"]] = run["date"]
    return "; ".join(f"{card}, {date}" for card, date in dates.items())


def replaced(text: str, made: str) -> str:
    """README with this table.

    Raises:
        ValueError: it has no place for one.
    """
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{README}: {BEGIN} and {END} must stand around the table")
    return f"{before}{BEGIN}\n{made}\n{END}{after}"


if __name__ == "__main__":
    sys.exit(main())
