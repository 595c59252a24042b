"""What each default of GRPO is worth: arm a of the experiment with one key changed at a time.

    python -m benchmarks.learning.ablations --seeds 1 2 3 --work /tmp/learning

Starts from the silver models of `python -m benchmarks.learning`, or makes them, and trains and
scores on the same pages. Differences to the defaults are paired, over seeds (Student's interval)
and within each seed over pages (bootstrap); a stage that is done is not run again. Writes
benchmarks/results/ablations.json.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.learning import arms
from benchmarks.learning.compare import Estimate, over_pages, over_seeds, summary
from olmrl.metrics import read_rows

OUT = arms.ROOT / "benchmarks" / "results" / "ablations.json"
DEFAULTS = "a-grpo"
MODES = ("greedy", "T=1")

ROWS: dict[str, tuple[str, ...]] = {
    "drop_zero_variance=false": ("algorithm.drop_zero_variance=false",),
    "correction.level=token": ("algorithm.correction.level=token",),
    "correction.level=none": ("algorithm.correction.level=none",),
    "max_staleness=1": ("algorithm.max_staleness=1",),
    "max_staleness=2": ("algorithm.max_staleness=2",),
    "importance_level=sequence": ("algorithm.importance_level=sequence",),
    "loss=grpo": ("algorithm.loss=grpo",),
    "loss=dr_grpo": ("algorithm.loss=dr_grpo",),
    "loss=dapo, clip_high=0.28": ("algorithm.loss=dapo", "algorithm.clip_high=0.28"),
    "loss=cispo": ("algorithm.loss=cispo",),
    "reward_scaling=batch": ("algorithm.reward_scaling=batch",),
    "reward_scaling=none": ("algorithm.reward_scaling=none",),
    "reward_scaling=per_reward": ("algorithm.reward_scaling=per_reward",),
    "minibatches=2": ("algorithm.minibatches=2",),
    "bench.integrity=false": (
        arms.TESTS_ONLY.replace("{name: bench}", "{name: bench, options: {integrity: false}}"),
    ),
    "page_once=false": ("learner.page_once=false",),
}
"""Overrides of each row."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--work", type=Path, default=Path("/tmp/olmrl-learning"))
    parser.add_argument("--rows", nargs="+", default=list(ROWS), choices=list(ROWS))
    options = parser.parse_args()
    found: dict[str, dict[int, dict[str, Any]]] = {}
    for number in options.seeds:
        seed = arms.Seed(number, options.work, arms.Settings())
        arms.prepare(seed)
        names = {DEFAULTS: DEFAULTS} | {row: folder_of(row) for row in options.rows}
        for row, name in names.items():
            arms.grpo(seed, name, arms.TESTS_ONLY, *ROWS.get(row, ()))
        scores = arms.scored(seed, {name: seed.folder / name / "model" for name in names.values()})
        for row, name in names.items():
            means = {mode: summary(scores[name][mode]) for mode in MODES}
            pages = {mode: over_pages(scores[name][mode], scores[DEFAULTS][mode]) for mode in MODES}
            spent = {"seconds": seed.seconds[name], **spending(seed.folder / name)}
            found.setdefault(row, {})[number] = means | spent | {"tests_over_pages": pages}
        result = report(found) | {
            "seeds": options.seeds,
            "hardware": f"{os.cpu_count()} cores, {platform.processor() or platform.machine()}",
            "date": time.strftime("%Y-%m-%d"),
            "command": " ".join(sys.argv),
        }
        OUT.write_text(json.dumps(result, indent=1) + "\n", "utf-8")
        print(text_of(result), flush=True)


def folder_of(row: str) -> str:
    """Folder of a row's run."""
    return "x-" + "".join(c if c.isalnum() else "-" for c in row)


def spending(run: Path) -> dict[str, float]:
    """Tokens that a run trained on, its learner's seconds, and the first step's loss and gradient.

    Up to the first update all rows see the same completions, unless they choose other groups.
    """
    rows = [row for row in read_rows(run / "metrics.jsonl") if "tokens/trained" in row]
    return {
        "tokens": sum(row["tokens/trained"] for row in rows),
        "learner_seconds": sum(row["time/learner"] for row in rows),
        "first_loss": rows[0]["loss/policy"],
        "first_gradient": rows[0]["policy/grad_norm"],
    }


def report(found: Mapping[str, Mapping[int, Mapping[str, Any]]]) -> dict[str, Any]:
    """Means of each row, and its differences to the defaults over the seeds that have both."""
    defaults = found[DEFAULTS]
    return {
        "rows": {
            row: {
                "seeds": {str(number): values for number, values in by_seed.items()},
                "minus_defaults": {
                    mode: {
                        name: over_seeds(
                            [
                                values[mode][name] - defaults[number][mode][name]
                                for number, values in by_seed.items()
                            ]
                        )
                        for name in ("tests", "reading", "exact", "tokens")
                    }
                    for mode in MODES
                },
            }
            for row, by_seed in found.items()
        }
    }


def text_of(result: Mapping[str, Any]) -> str:
    """One line per row."""
    lines = [f"{'':<28}{'tests greedy':<28}{'tests sampled':<28}words sampled"]
    for row, values in result["rows"].items():
        gaps = values["minus_defaults"]
        cells = [
            str(Estimate(*gaps[mode][name]))
            for mode, name in (("greedy", "tests"), ("T=1", "tests"), ("T=1", "reading"))
        ]
        lines.append(f"{row:<28}" + "".join(f"{cell:<28}" for cell in cells))
    return "\n".join(lines)


if __name__ == "__main__":
    main()
