"""The measuring kit: what a GPU shows of olmrl in a few minutes, most valuable first.

    python benchmarks/gpu/kit.py --budget-s 480 --out DIR            on a machine with a GPU
    python benchmarks/gpu/kit.py --rehearse --out DIR                the same code on a CPU, tiny

Every stage runs in a process of its own, within its share of the time that is left. DIR/kit.json is
written anew after each row, so whatever ends the kit, what is done is there; stages that are done
are not run again in the same DIR. DIR/kit.log holds what the stages print.

Exit code 0: all stages are done, or left out for a reason that is named; 1: a stage failed or found
something wrong; 2: it could not begin; 3: time ran out before all were done.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.util
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]

DONE, FAILED, SKIPPED = "done", "failed", "skipped"
OUT_OF_TIME, NOT_BEGUN = "out of time", "not begun"
LEAST_S = 3.0
"""A stage that would get less is not begun."""
CORE = ("torch", "transformers", "numpy", "PIL", "pydantic", "yaml")
"""Packages, by import name, of the learner's core and of whatever is built on it."""
RUN = ("ray", "pypdfium2", "reportlab", "rapidfuzz", "psutil", "pyarrow", "accelerate", "quickjs")


@dataclass(frozen=True)
class Stage:
    """One stage."""

    module: str
    title: str
    weight: float
    """Its share of the time left, among the stages that are still to come."""
    needs: tuple[str, ...] = CORE


STAGES = {
    "a": Stage("stage_kernels", "the machine; attention kernels against a reference", 75),
    "b": Stage("stage_families", "page-once equals dense, per family", 90),
    "c": Stage("stage_learner", "GRPO learner step, 7B width", 180),
    "d": Stage("stage_sft", "SFT step, 8k and 16k tokens", 75),
    "e": Stage("stage_optimizer", "optimizer step", 45),
    "f": Stage("stage_images", "pixels to features", 30),
    "g": Stage("stage_sync", "weights to another process", 30),
    "h": Stage("stage_grpo", "whole GRPO through Ray, killed and resumed", 65, (*CORE, *RUN)),
}

PROBE = """
import json, torch
found = torch.cuda.is_available()
print(json.dumps({"card": torch.cuda.get_device_name() if found else None}))
"""


class Refused(Exception):
    """The kit cannot begin; the message is for the person who called it."""


class Results:
    """DIR/kit.json: whole after each change."""

    def __init__(self, folder: Path, about: dict[str, Any]) -> None:
        self.path = folder / "kit.json"
        self.log = folder / "kit.log"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self.log.touch()
            known = json.loads(self.path.read_text("utf-8")) if self.path.exists() else {}
        except OSError as error:
            raise Refused(f"--out {folder}: cannot be written ({error.strerror})") from error
        except ValueError as error:
            raise Refused(f"{self.path}: not JSON ({error}); choose another --out") from error
        for key in ("device", "card"):
            if known and known.get(key) != about[key]:
                raise Refused(
                    f"{self.path} holds results of {known.get('card') or known.get('device')}, "
                    f"this is {about['card'] or about['device']}; choose another --out"
                )
        self._data = {**about, "stages": known.get("stages", {})}

    def stage(self, key: str) -> dict[str, Any]:
        """What is known of a stage."""
        found: dict[str, Any] = self._data["stages"].get(key, {})
        return found

    def put(self, key: str, **changes: Any) -> None:
        """Change a stage's entry and write the file."""
        self._data["stages"][key] = self.stage(key) | changes
        self._data["stages"] = dict(sorted(self._data["stages"].items()))
        whole = self.path.with_suffix(".new")
        whole.write_text(json.dumps(self._data, indent=1) + "\n", "utf-8")
        os.replace(whole, self.path)


def main(words: Sequence[str] | None = None) -> int:
    """Run the stages that were asked for; see the module for the exit code."""
    options = parse(words)
    reach_modules()
    try:
        keys = chosen(options.stages)
        card = None if options.rehearse else find_card()
        results = Results(options.out, describe(options, card))
    except Refused as error:
        print(f"kit.py: {error}", file=sys.stderr)
        return 2
    processes = context(options.rehearse)
    end = time.monotonic() + options.budget_s
    for number, key in enumerate(keys):
        if results.stage(key).get("status") == DONE:
            print(f"{key}  done before", flush=True)
            continue
        rest = sum(STAGES[k].weight for k in keys[number:])
        left = end - time.monotonic()
        run_one(key, results, options, processes, left * STAGES[key].weight / rest)
    return summary(keys, results)


def reach_modules() -> None:
    """Let this process, and all that it starts, import olmrl and the stages from this tree."""
    paths = [str(HERE), str(ROOT)]
    sys.path[:0] = [path for path in paths if path not in sys.path]
    known = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    os.environ["PYTHONPATH"] = os.pathsep.join([*paths, *(p for p in known if p not in paths)])


def parse(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="for results")
    parser.add_argument("--budget-s", type=float, default=480, help="seconds for all stages")
    parser.add_argument("--stages", default=",".join(STAGES), help="letters, e.g. c,d")
    parser.add_argument("--rehearse", action="store_true", help="tiny shapes on the CPU")
    parser.add_argument(
        "--memory-gib", type=float, help="what a stage may hold on the device (default: all free)"
    )
    return parser.parse_args(words)


def chosen(text: str) -> list[str]:
    """Keys of the stages to run, in order of worth."""
    asked = [key.strip() for key in text.split(",") if key.strip()]
    unknown = [key for key in asked if key not in STAGES]
    if unknown or not asked:
        known = ", ".join(f"{key} ({stage.title})" for key, stage in STAGES.items())
        raise Refused(
            f"--stages {text}: no stage {', '.join(unknown) or 'is named'}; there are {known}"
        )
    return [key for key in STAGES if key in asked]


def find_card() -> str:
    """The card's name, asked in a process of its own, as stages start theirs without CUDA."""
    done = subprocess.run(
        [sys.executable, "-c", PROBE], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise Refused(f"torch cannot be asked for a GPU: {done.stderr.strip().splitlines()[-1]}")
    card: str | None = json.loads(done.stdout.splitlines()[-1])["card"]
    if card is None:
        raise Refused("torch finds no GPU here; --rehearse runs every stage on the CPU, tiny")
    return card


def describe(options: argparse.Namespace, card: str | None) -> dict[str, Any]:
    """What the results are of."""
    return {
        "kind": "rehearsal on a CPU: shapes are tiny, its figures mean nothing"
        if options.rehearse
        else "measured",
        "device": "cpu" if options.rehearse else "cuda",
        "card": card,
        "date": datetime.date.today().isoformat(),
        "command": " ".join(["python", "benchmarks/gpu/kit.py", *sys.argv[1:]]),
        "commit": commit(),
    }


def commit() -> str | None:
    """The commit that was measured, where git can tell."""
    try:
        done = subprocess.run(
            ["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False, cwd=ROOT
        )
    except FileNotFoundError:
        return None
    return done.stdout.strip() or None


def missing(needs: Sequence[str]) -> list[str]:
    """Packages that are not installed, by import name."""
    return [name for name in needs if importlib.util.find_spec(name) is None]


def run_one(
    key: str, results: Results, options: argparse.Namespace, processes: Any, limit_s: float
) -> None:
    """Run a stage within its limit, and record how it ended."""
    stage = STAGES[key]
    lacking = missing(stage.needs)
    about = {"title": stage.title, "rows": [], "limit_s": round(limit_s, 1), "seconds": 0.0}
    if lacking:
        reason = f"not installed: {', '.join(lacking)}"
        results.put(key, **about, status=SKIPPED, why=reason, missing=lacking)
    elif limit_s < LEAST_S:
        results.put(key, **about, status=NOT_BEGUN, why=f"only {max(0.0, limit_s):.1f} s were left")
    else:
        results.put(key, **about, status=OUT_OF_TIME, why="it is running, or the kit was ended")
        started = time.monotonic()
        ended = in_process(key, results, options, processes, limit_s)
        results.put(key, **ended, seconds=round(time.monotonic() - started, 1))
    entry = results.stage(key)
    print(f"{key}  {entry['seconds']:6.1f} s  {entry['status']}  {entry['why']}", flush=True)


def in_process(
    key: str, results: Results, options: argparse.Namespace, processes: Any, limit_s: float
) -> dict[str, Any]:
    """How a stage went, which is ended with all that it started at its limit."""
    mine, its = processes.Pipe(duplex=False)
    deadline = time.monotonic() + limit_s
    memory = None if options.memory_gib is None else options.memory_gib * 2.0**30
    device = "cpu" if options.rehearse else "cuda"
    from stage import run_stage

    process = processes.Process(
        target=run_stage,
        args=(STAGES[key].module, device, memory, deadline, its, str(results.log)),
    )
    process.start()
    its.close()
    why = f"ended after its {limit_s:.0f} s; the rows so far are kept"
    ended: dict[str, Any] = {"status": OUT_OF_TIME, "why": why}
    rows: list[dict[str, Any]] = []
    try:
        while mine.poll(max(0.0, deadline - time.monotonic())):
            word, value = mine.recv()
            if word != "row":
                ended = {"status": word, **value}
                break
            rows.append(value)
            results.put(key, rows=rows)
    except EOFError:
        process.join(1)
        why = f"its process ended with exit code {process.exitcode}"
        ended = {"status": FAILED, "why": why}
    finally:
        end_group(process)
    return ended


def end_group(process: Any) -> None:
    """End a stage's process and what it started."""
    process.join(1 if process.is_alive() else 0)
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        # all have ended, or it has not yet got as far as its own process group
        process.kill()
    process.join()


def context(rehearse: bool) -> Any:
    """How processes are started.

    On a GPU each is fresh: importing the learner begins to use CUDA (seen on an H200), and a copy
    of such a process cannot. In a rehearsal they are copies of one process that has imported
    everything, which saves the imports of all but one.
    """
    if not rehearse:
        return multiprocessing.get_context("spawn")
    made = multiprocessing.get_context("forkserver")
    made.set_forkserver_preload(
        [stage.module for stage in STAGES.values() if not missing(stage.needs)]
    )
    first = made.Process(target=int)  # returns once all is imported, which is no stage's time
    first.start()
    first.join()
    return made


def summary(keys: Sequence[str], results: Results) -> int:
    """Print what is where; the exit code."""
    by_status: dict[str, list[str]] = {}
    for key in keys:
        by_status.setdefault(results.stage(key)["status"], []).append(key)
    text = "; ".join(f"{status}: {', '.join(which)}" for status, which in by_status.items())
    print(f"{text}. Results: {results.path}")
    if FAILED in by_status:
        return 1
    return 3 if by_status.keys() & {OUT_OF_TIME, NOT_BEGUN} else 0


if __name__ == "__main__":
    sys.exit(main())
