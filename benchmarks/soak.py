"""Long runs on a small machine: does anything grow that should not?

    python benchmarks/soak.py --minutes 120 --out /tmp/soak      # a GRPO run with its hf engine
    python benchmarks/soak.py --steps 10000 --out /tmp/soak      # buffer, ledger, checkpoints

The first samples memory and open files of every role, Ray's object store and the run directory
every 5 s; the second makes scripted steps through the real buffer, ledger, checkpoints and run
directory, and loses the learner every 1,000. For each series: where it stood after the warm-up (the
first fifth) and at the end, and its slope after it with a 95 % interval. Results are added to
results/soak.json, with the length that it really had; all samples stay in OUT.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
import sys
import time
from pathlib import Path
from typing import Any

os.environ.update(HF_HUB_OFFLINE="1", OMP_NUM_THREADS="1", TOKENIZERS_PARALLELISM="false")

import numpy as np
from fuzzing.record import append, circumstances
from soaking.slopes import slope

from olmrl import storage

RESULTS = Path(__file__).parent / "results" / "soak.json"
_WARM_UP = 0.2
"""Share of the samples that is left out."""


def main() -> int:
    """Runs one of the two; the exit code is 1 if something was lost."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--minutes", type=float, help="of a run with an engine, from its first step")
    what.add_argument("--steps", type=int, help="of scripted groups")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, required=True, help="material and run directories")
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args()
    out = options.out.absolute()
    out.mkdir(parents=True, exist_ok=True)
    load = os.getloadavg()[0]
    row = _scripted(out, options) if options.steps else _live(out, options.minutes)
    append(options.results, row | circumstances(load))
    for name, one in row["series"].items():
        stood = f"{one['after_warm_up']:>10.1f} -> {one['end']:>10.1f}"
        print(f"{name:<24} {stood}  slope {one['slope']} [{one['low']}, {one['high']}]")
    print(*(row["faults"] or ["nothing lost"]), sep="\n")
    return int(bool(row["faults"]))


def _scripted(out: Path, options: argparse.Namespace) -> dict[str, Any]:
    # Deferred: torch.
    from soaking.scripted import Scripted, closed_once, folder_mib

    folder = out / "scripted"
    shutil.rmtree(folder, ignore_errors=True)
    began = time.monotonic()
    scripted = Scripted(folder, options.seed)
    made = asyncio.run(scripted.run(options.steps, began + 24 * 3600, print))
    storage.write_jsonl(out / "scripted_samples.jsonl", scripted.samples)
    return {
        "mode": "scripted",
        "seed": options.seed,
        "steps": made,
        "seconds": round(time.monotonic() - began),
        "slopes_per": "1,000 steps",
        "run_directory_mib": round(folder_mib(folder), 1),
        "series": _series(scripted.samples, "step", 1000.0),
        "faults": closed_once(folder, made),
    }


def _live(out: Path, minutes: float) -> dict[str, Any]:
    from failures.tiny import make_material
    from soaking.live import watch

    make_material(out / "material")
    folder = out / "live"
    shutil.rmtree(folder, ignore_errors=True)
    kept = out / "live_samples.jsonl"
    samples, faults, seconds = watch(out / "material", folder, minutes, kept, print)
    return {
        "mode": "live",
        "recipe": "grpo-k1-1, engine hf",
        "steps": int(samples[-1]["step"]) if samples else 0,
        "seconds": round(seconds),
        "slopes_per": "hour",
        "series": _series(samples, "seconds", 3600.0),
        "faults": faults,
    }


def _series(samples: list[dict[str, float]], along: str, unit: float) -> dict[str, Any]:
    kept = samples[int(len(samples) * _WARM_UP) :]
    names = sorted({name for sample in kept for name in sample} - {along, "step"})
    found = {}
    for name in names:
        have = [sample for sample in kept if name in sample]
        if len(have) < 12:
            continue
        x = np.array([sample[along] / unit for sample in have])
        y = np.array([sample[name] for sample in have])
        grown = slope(x, y)
        found[name] = {
            "after_warm_up": round(float(y[0]), 2),
            "end": round(float(y[-1]), 2),
            "largest": round(float(y.max()), 2),
            "slope": round(grown.value, 4),
            "low": round(grown.low, 4),
            "high": round(grown.high, 4),
        }
    return found


if __name__ == "__main__":
    sys.exit(main())
