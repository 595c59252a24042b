"""Tiny runs that are killed, frozen, signalled and starved, continued, and judged.

    python benchmarks/chaos.py --kills 100 --seed 1 --out /tmp/chaos --minutes 8    # again to go on

Series N of a seed trains the same thing (GRPO or SFT, staleness 0 or 2, one or two ranks) and plans
the same failures; where exactly they strike depends on the machine. After every failure the run
must end or go on; once it has ended (by `--resume auto`, as often as it takes), every page of an
epoch must be closed once, no group trained twice, rows of metrics unique and complete, the W&B id
kept, and in synchronous mode the weights equal to an undisturbed run's, bit for bit. Each series is
added to results/chaos.json when it has ended. After --minutes the run is suspended by SIGTERM, and
the next call resumes it, so that parts of minutes will do. The exit code is 1 if anything did not
hold.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import sys
import time
from pathlib import Path

os.environ.update(HF_HUB_OFFLINE="1", OMP_NUM_THREADS="1", TOKENIZERS_PARALLELISM="false")

from failures.conditions import JOINED, OWN, Condition, possible
from failures.kinds import KINDS
from failures.running import ray_head
from failures.series import Series
from failures.tiny import make_material
from fuzzing.record import append, circumstances

RESULTS = Path(__file__).parent / "results" / "chaos.json"


def main() -> int:
    """Runs series until enough failures are recorded, or the time is over."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--kills", type=int, default=100, help="of this seed, in all calls")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=480.0, help="suspend the run after these")
    parser.add_argument("--per-run", type=int, default=6, help="failures of one run")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--out", type=Path, required=True, help="material and run directories")
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args()
    out = options.out.absolute()
    out.mkdir(parents=True, exist_ok=True)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    make_material(out / "material")
    until = time.monotonic() + 60 * options.minutes
    bad = 0
    while True:
        rows = json.loads(options.results.read_text("utf-8")) if options.results.exists() else []
        mine = [row for row in rows if row["seed"] == options.seed]
        done = sum(len(row["failures"]) for row in mine)
        if done >= options.kills or time.monotonic() > until:
            break
        number, began, load = len(mine), time.monotonic(), os.getloadavg()[0]
        # every third run has a Ray node of its own, which may be killed
        own = number % 3 == 2
        condition = _condition(OWN if own else JOINED, number)
        with contextlib.nullcontext() if own else ray_head() as address:
            series = Series(
                options.seed, number, out, tuple(options.kinds), options.per_run, condition, address
            )
            what = f"{series.recipe.name}, {condition.name}"
            print(f"series {number}, {what} ({done} failures so far)", flush=True)
            try:
                ended = series.run(until)
            finally:
                series.close()
        if not ended:
            print("  suspended; the next call goes on with it", flush=True)
            break
        spent = {"run_seconds": round(time.monotonic() - began)}
        append(options.results, series.row() | spent | circumstances(load))
        bad += len(series.faults)
        print("  " + ("; ".join(series.faults) or "nothing lost"), flush=True)
    print(f"{done} failures of seed {options.seed} in {len(mine)} series")
    return int(bad > 0)


def _condition(choices: tuple[type[Condition], ...], number: int) -> type[Condition]:
    """What the run of a number stands on; the plain one where this machine forbids another."""
    chosen = choices[number % len(choices)]
    reason = possible(chosen)
    if reason:
        print(f"left out: {chosen.name} ({reason})", flush=True)
    return Condition if reason else chosen


if __name__ == "__main__":
    sys.exit(main())
