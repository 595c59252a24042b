"""What a fuzzing run counts, and where it keeps what it found."""

from __future__ import annotations

import datetime
import fcntl
import hashlib
import json
import os
import platform
import resource
import subprocess
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any


class Part:
    """One kind of input: how to make the input of a number, and what reads it.

    Args:
        seed: of the run.
        folder: for what is found.
    """

    name = ""
    deadline_s = 10.0
    """Longest time for one input in one target; more is a hang."""
    clock = staticmethod(time.monotonic)
    """What that time is measured by."""

    def __init__(self, seed: int, folder: Path) -> None:
        self.seed = seed
        self.folder = folder
        self.inputs = 0
        self.seconds = 0.0
        self.refused: Counter[str] = Counter()
        """Inputs that a target refused with its own error, by target."""
        self.crashes: Counter[str] = Counter()
        """Other errors, by target and kind."""
        self.hangs: Counter[str] = Counter()
        self.held: Counter[str] = Counter()
        """Crashes and hangs of parsers that the fence turned into a bad page, by target."""
        self._target = ""
        self._began = 0.0
        self._current: bytes = b""

    def make(self, index: int) -> bytes:
        """The input of a number."""
        raise NotImplementedError

    def targets(self, data: bytes) -> Iterator[str]:
        """Runs the targets; yields the name of each before it runs."""
        raise NotImplementedError

    def close(self) -> None:
        """Lets go of processes."""

    def run(self, first: int, until: float, most: int | None = None) -> None:
        """Goes through the inputs from a number on, until a time (monotonic) or a count."""
        started, index = time.monotonic(), first
        while time.monotonic() < until and (most is None or index < first + most):
            self.one(index)
            index += 1
            self.seconds = time.monotonic() - started

    def one(self, index: int) -> None:
        """Makes one input and gives it to all targets."""
        self._current = self.make(index)
        runs = self.targets(self._current)
        self._target, self._began = "setup", self.clock()
        while True:
            try:
                target = next(runs, None)
            except Exception as error:  # what a target raises is what is looked for
                self._crash(index, error)
                break
            self._late(index)
            if target is None:
                break
            self._target, self._began = target, self.clock()
        self.inputs += 1

    def contained(self, target: str, reason: str) -> None:
        """Notes a parser's death or delay that did not reach the caller."""
        self.held[f"{target}: {reason}"] += 1
        self._keep(f"held {target}: {reason}", reason)

    def row(self) -> dict[str, Any]:
        """The figures."""
        own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
        return {
            "part": self.name,
            "seed": self.seed,
            "inputs": self.inputs,
            "seconds": round(self.seconds, 1),
            "crashes": dict(self.crashes),
            "hangs": dict(self.hangs),
            "held_by_the_fence": dict(self.held),
            "refused": dict(self.refused),
            "peak_mib": {"own": own >> 10, "largest_child": children >> 10},
        }

    def _crash(self, index: int, error: Exception) -> None:
        place = traceback.extract_tb(error.__traceback__)[-1]
        kind = f"{self._target}: {type(error).__name__} at {Path(place.filename).name}:{place.name}"
        self.crashes[kind] += 1
        self._keep(f"crash {kind}", f"input {index}\n{''.join(traceback.format_exception(error))}")

    def _late(self, index: int) -> None:
        took = self.clock() - self._began
        if took > self.deadline_s:
            self.hangs[self._target] += 1
            self._keep(f"hang {self._target}", f"input {index}: {took:.1f} s")

    def _keep(self, kind: str, note: str) -> None:
        """Writes an input that did something, once for each kind."""
        digest = hashlib.sha256(kind.encode()).hexdigest()[:10]
        path = self.folder / f"{self.name}-{digest}"
        if not path.exists():
            path.write_bytes(self._current)
            path.with_suffix(".txt").write_text(f"{kind}\n{note}\n", encoding="utf-8")


def circumstances(load: float | None = None) -> dict[str, object]:
    """Date, commit and hardware of a row; `load` is the machine's now, unless given."""
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        check=False,
    ).stdout.strip()
    load = os.getloadavg()[0] if load is None else load
    return {
        "date": datetime.date.today().isoformat(),
        "commit": commit,
        "hardware": f"{platform.machine()}, {os.cpu_count()} cores, load {load:.1f}",
    }


def recorded(results: Path) -> list[dict[str, Any]]:
    """Rows of a results file; none if there is no file."""
    return list(json.loads(results.read_text("utf-8"))) if results.exists() else []


def append(results: Path, row: dict[str, Any]) -> None:
    """Adds a row to the results file; several processes may do so at once."""
    folder = os.open(results.parent, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        rows = [*recorded(results), row]
        whole = results.with_suffix(".new")
        whole.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
        whole.replace(results)
    finally:
        os.close(folder)
