"""Tiny runs that are killed, frozen, signalled and starved, continued, and judged.

    python benchmarks/chaos.py --kills 100 --seed 1 --out /tmp/chaos --minutes 8    # again to go on

Series N of a seed trains the same thing (GRPO or SFT, staleness 0 or 2, one or two ranks) and plans
the same failures; where exactly they strike depends on the machine. After every failure the run
must end or go on; once it has ended (by `--resume auto`, as often as it takes), every page of an
epoch must be closed once, no group trained twice, rows of metrics unique and complete, the W&B id
kept, and in synchronous mode the weights equal to an undisturbed run's, bit for bit. Each series is
added to results/chaos.json when it has ended. After --minutes the runs are suspended by SIGTERM,
and the next call resumes them, so that parts of minutes will do. The exit code is 1 if anything did
not hold; a condition that this machine cannot make is named in the rows and at the end.

Several series run side by side (--lanes), each with its own Ray: a run that starts leaves half of
the machine idle. Each lane keeps one Ray node for those of its runs that join one.
"""

from __future__ import annotations

import argparse
import itertools
import multiprocessing
import os
import signal
import sys
import time
import traceback
from collections import Counter
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

os.environ.update(HF_HUB_OFFLINE="1", OMP_NUM_THREADS="1", TOKENIZERS_PARALLELISM="false")
os.environ.pop("RAY_ADDRESS", None)  # its runs join Rays of their own, or none

from failures import conditions, network
from failures.conditions import Condition
from failures.kinds import KINDS
from failures.running import Node, ray_head
from failures.series import Series, locked
from failures.tiny import make_material
from fuzzing.record import append, circumstances, recorded

RESULTS = Path(__file__).parent / "results" / "chaos.json"
PLACES: tuple[type[Condition], ...] = (
    Condition,
    conditions.SmallDisk,
    conditions.OwnNode,
    network.TwoNodes,
    conditions.SlowDisk,
    conditions.FullStore,
    conditions.JumpingClock,
    Condition,
    conditions.SmallShm,
    conditions.StaleSession,
)
"""What the runs stand on, in turn."""
NAMES = sorted({place.name for place in PLACES})


def main() -> int:
    """Runs series until enough failures are recorded, or the time is over."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--kills", type=int, default=100, help="of this seed, in all calls")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=480.0, help="suspend the runs after these")
    parser.add_argument("--per-run", type=int, default=12, help="failures of one run")
    parser.add_argument("--lanes", type=int, default=2, help="series side by side")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--places", nargs="+", choices=NAMES, default=NAMES, help="to stand on")
    parser.add_argument("--out", type=Path, required=True, help="material and run directories")
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args()
    options.out = options.out.absolute()
    options.out.mkdir(parents=True, exist_ok=True)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    # a shell ignores it for what it starts in the background, and the runs would inherit that
    signal.signal(signal.SIGINT, signal.default_int_handler)
    make_material(options.out / "material")
    known = len(_mine(options))
    until = time.monotonic() + 60 * options.minutes
    try:
        could_run = _lanes(options, until)
    except KeyboardInterrupt:
        print("stopped; the next call goes on")
        return 130
    rows = _mine(options)
    _tell(options.seed, rows)
    return int(not could_run or any(row["faults"] for row in rows[known:]))


def _lanes(options: argparse.Namespace, until: float) -> bool:
    """Run the lanes, each in a process of its own; a signal to this one ends them.

    Returns:
        Whether every series could be run.
    """
    spawn = multiprocessing.get_context("spawn")
    lanes = [spawn.Process(target=lane, args=(options, until)) for _ in range(options.lanes)]
    try:
        for one in lanes:
            one.start()
        for one in lanes:
            one.join()
        return not any(one.exitcode for one in lanes)
    finally:
        for one in lanes:
            if one.is_alive():
                one.terminate()
                one.join()


def lane(options: argparse.Namespace, until: float) -> None:
    """Run series after series, those first that an earlier call has suspended.

    Args:
        options: of the command.
        until: time (monotonic) at which the run is suspended.
    """
    given_up: set[int] = set()
    with ray_head(options.out) as node:
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # Ray has set its own
        while time.monotonic() < until:
            rows = _mine(options)
            if sum(len(row["failures"]) for row in rows) >= options.kills:
                break
            known = given_up | {row["series"] for row in rows}
            number = next(n for n in itertools.count() if _free(options, n, known))
            try:
                with locked(_lock(options, number), wait=False) as mine:
                    # another lane may have ended it meanwhile
                    new = mine and number not in {row["series"] for row in _mine(options)}
                    if new and not _one(options, number, until, node):
                        break
            except KeyboardInterrupt:
                sys.exit(130)
            except Exception:  # the harness's own fault: other series can still be run
                traceback.print_exc()
                print(f"series {number}: could not be run", flush=True)
                given_up.add(number)
    sys.exit(int(bool(given_up)))


def _free(options: argparse.Namespace, number: int, known: Collection[int]) -> bool:
    """Whether no lane runs a series that is not known."""
    if number in known:
        return False
    with locked(_lock(options, number), wait=False) as mine:
        return mine


def _lock(options: argparse.Namespace, number: int) -> Path:
    return Path(options.out / f"run-{options.seed}-{number}.lock")


def _one(options: argparse.Namespace, number: int, until: float, node: Node) -> bool:
    """Run a series until it ends or the time is over; whether it ended."""
    began, load = time.monotonic(), os.getloadavg()[0]
    condition, not_made = choose(number, options.places)
    kinds = tuple(options.kinds)
    series = Series(options.seed, number, options.out, kinds, options.per_run, condition, node)
    print(f"series {number}: {series.recipe.name}, {condition.name}", flush=True)
    try:
        ended = series.run(until)
    finally:
        series.close()
    if not ended:
        print(f"series {number}: suspended; the next call goes on with it", flush=True)
        return False
    spent = {"run_seconds": round(time.monotonic() - began), "lanes": options.lanes}
    made = {"not_made": not_made} if not_made else {}
    append(options.results, series.row() | made | spent | circumstances(load))
    print(f"series {number}: " + ("; ".join(series.faults) or "nothing lost"), flush=True)
    if not series.faults:
        series.remove()
    return True


def choose(
    number: int, names: Collection[str] = NAMES
) -> tuple[type[Condition], Mapping[str, str]]:
    """What the run of a number stands on, of the places of these names.

    Returns:
        The condition, the plain one where this machine forbids another; and the one forbidden,
        with the reason.
    """
    places = [place for place in PLACES if place.name in names]
    chosen = places[number % len(places)]
    reason = network.possible() if chosen is network.TwoNodes else conditions.possible(chosen)
    return (Condition, {chosen.name: reason}) if reason else (chosen, {})


def _mine(options: argparse.Namespace) -> list[dict[str, Any]]:
    return [row for row in recorded(options.results) if row["seed"] == options.seed]


def _tell(seed: int, rows: list[dict[str, Any]]) -> None:
    """What was struck, and what this machine could not make."""
    failures = [failure for row in rows for failure in row["failures"]]
    faults = [fault for row in rows for fault in row["faults"]]
    print(f"{len(failures)} failures of seed {seed} in {len(rows)} series, {len(faults)} faults")
    counts = Counter(f"{failure['role']} {failure['kind']}" for failure in failures)
    print("  " + ", ".join(f"{what} {count}" for what, count in sorted(counts.items())))
    not_made = {what: why for row in rows for what, why in row.get("not_made", {}).items()}
    for what, why in not_made.items():
        print(f"not made on this machine, and so not passed: {what} ({why})")


if __name__ == "__main__":
    sys.exit(main())
