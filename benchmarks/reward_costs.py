"""What each reward costs: CPU milliseconds per completion, on pages like those of a GRPO step.

    .venv/bin/python benchmarks/reward_costs.py [--pages 18] [--variants 28]

The pages of `rewards_workload` with their truth as reference. Each reward starts with empty caches,
also of rendered formulas, and gets whole groups, page by page; pages to which it does not apply
are left out. Results: benchmarks/results/reward_costs.json and a row in benchmarks/README.md.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from rewards_workload import make_workload

HERE = Path(__file__).resolve().parent
RUNS = {
    "bench + front_matter + eos (default)": ("bench", "front_matter", "eos"),
    **{
        name: (name,)
        for name in (
            *("bench", "edit_distance", "medoid", "rect_tables"),
            *("teds", "formula", "validity", "reading_order", "cer", "wer"),
        )
    },
    "default + teds + formula + validity + reading_order": (
        *("bench", "front_matter", "eos", "teds", "formula", "validity", "reading_order"),
    ),
}
HEAD = (
    "---\nprimary_language: en\nis_rotation_valid: True\nrotation_correction: 0\n"
    "is_table: False\nis_diagram: False\n---\n"
)


def measure(names, options):
    """Milliseconds of CPU per completion, and the completions measured."""
    from olmrl.config.schema import RewardConfig
    from olmrl.rewards import UnscorablePage, build_all
    from olmrl.rewards.scoring import applicable, score_completions
    from olmrl.types import Completion, Page

    rewards = build_all(RewardConfig(name=name) for name in names)
    seconds, completions = 0.0, 0
    for work in make_workload(options.pages, options.variants, options.seed):
        rows = tuple(work.tests)
        page = Page(work.name, "", 1, HEAD + work.truth, rows, ("tests.jsonl",) * len(rows))
        ids = np.zeros(1, np.int32)
        group = [
            Completion("g", i, ids, np.zeros(1, np.float32), (), "stop", HEAD + text, ids)
            for i, text in enumerate(work.variants)
        ]
        started = time.process_time()
        try:
            chosen = applicable(rewards, page)
        except UnscorablePage:
            continue
        results = score_completions(chosen, page, group)
        seconds += time.process_time() - started
        assert not any(r.failed for mine in results for r in mine.values())
        completions += len(group)
    return {"ms": 1e3 * seconds / completions, "completions": completions}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pages", type=int, default=18)
    parser.add_argument("--variants", type=int, default=28)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--run", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.run:
        print(json.dumps(measure(RUNS[options.run], options)))
        return
    load = os.getloadavg()[0]
    costs = {}
    for name in RUNS:
        with tempfile.TemporaryDirectory() as cache:
            environment = {**os.environ, "PYTHONPATH": str(HERE.parent), "OLMRL_CACHE": cache}
            command = [sys.executable, __file__, *sys.argv[1:], "--run", name]
            run = subprocess.run(
                command, env=environment, capture_output=True, text=True, check=True
            )
        costs[name] = json.loads(run.stdout)
        print(f"{costs[name]['ms']:7.2f} ms  {name}")
    result = {
        "cpu_ms_per_completion": {name: cost["ms"] for name, cost in costs.items()},
        "completions": {name: cost["completions"] for name, cost in costs.items()},
        "hardware": {
            "machine": platform.machine(),
            "cores": os.cpu_count(),
            "load_average_at_start": load,
        },
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "python": platform.python_version(),
        "command": " ".join(["python", "benchmarks/reward_costs.py", *sys.argv[1:]]),
    }
    (HERE / "results" / "reward_costs.json").write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
