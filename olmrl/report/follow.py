"""A run directory that another process writes to: each look reads only what is new.

    RunView.update    metrics.jsonl from where it ended, evaluations and groups that it has not seen

Nothing is written here. A line or a file that is being written is left for the next look.
"""

from __future__ import annotations

import json
import os
import time
from array import array
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from olmrl.config.load import parse_yaml
from olmrl.progress import in_words
from olmrl.report.groups import GroupFile, summarize
from olmrl.run.directory import RunDirectory
from olmrl.run.lock import holder

GROUPS = 500
"""Newest recorded groups that are looked at."""
_BLOCK = 1 << 24
_TAIL = 64
"""Bytes before the place where reading goes on, by which a rewritten file is known."""


class MetricsFile:
    """The columns of a metrics.jsonl that grows."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.columns: dict[str, tuple[array[float], array[float]]] = {}
        """By metric: steps and values."""
        self.rows = 0
        self.last_step = 0
        self._inode, self._offset, self._tail = 0, 0, b""

    def update(self) -> bool:
        """Read what is new; returns whether anything was.

        A resumed run writes the file anew without the steps that it repeats; it is then read from
        its beginning.
        """
        try:
            with self._path.open("rb") as stream:
                if not self._continues(stream):
                    self._forget()
                    self._inode = os.fstat(stream.fileno()).st_ino
                return self._read(stream)
        except FileNotFoundError:
            changed = self._offset > 0
            self._forget()
            return changed

    def _continues(self, stream: Any) -> bool:
        facts = os.fstat(stream.fileno())
        if facts.st_ino != self._inode or facts.st_size < self._offset:
            return False
        stream.seek(self._offset - len(self._tail))
        return bool(stream.read(len(self._tail)) == self._tail)

    def _forget(self) -> None:
        self.columns, self.rows, self.last_step = {}, 0, 0
        self._offset, self._tail = 0, b""

    def _read(self, stream: Any) -> bool:
        stream.seek(self._offset)
        rest, found = b"", False
        while block := stream.read(_BLOCK):
            whole, newline, rest = (rest + block).rpartition(b"\n")
            if newline:
                found = True
                self._offset += len(whole) + 1
                self._tail = (self._tail + whole + newline)[-_TAIL:]
                for line in whole.split(b"\n"):
                    self._take(line)
        return found

    def _take(self, line: bytes) -> None:
        try:
            row = json.loads(line)
            step = float(row["step"])
        except (ValueError, TypeError, KeyError, RecursionError):  # what a killed run left behind
            return
        self.rows += 1
        self.last_step = max(self.last_step, int(step))
        for name, value in row.items():
            if name != "step" and isinstance(value, int | float):
                steps, values = self.columns.setdefault(name, (array("d"), array("d")))
                steps.append(step)
                values.append(value)


def run_views(directories: Sequence[RunDirectory]) -> list[RunView]:
    """Views of several runs, each under as much of its path as tells it from the others.

    `olmrl init` calls each run's folder `run`: the folder above it says which one it is.
    """
    parts = [directory.path.absolute().parts for directory in directories]
    size = 2 if any(part[-1] == "run" for part in parts) else 1
    while len({part[-size:] for part in parts}) < len(set(parts)):
        size += 1
    names = ["/".join(part[-size:]).lstrip("/") for part in parts]
    return [RunView(*both) for both in zip(directories, names, strict=True)]


class RunView:
    """What a run has written so far."""

    def __init__(self, directory: RunDirectory, name: str | None = None) -> None:
        """Look at nothing yet; without a name it is called as its folder is."""
        self.directory = directory
        self.name = name or directory.path.name
        self.metrics = MetricsFile(directory.metrics)
        self.evaluations: list[dict[str, Any]] = []
        """By step."""
        self.groups: list[GroupFile] = []
        """The newest `GROUPS`, newest first."""
        self.recorded_groups = 0
        self._config: tuple[str, Mapping[str, Any]] | None = None
        """Its text, and what that says."""
        self._known: dict[str, tuple[tuple[int, int], Any]] = {}
        """By file: its time and size, and what was read of it."""

    def update(self) -> None:
        """Look again."""
        self.metrics.update()
        self.evaluations = [value for _, value in self._files("evaluations", _evaluation)]
        self.groups = sorted(
            (group for _, group in self._files("rollouts", summarize, GROUPS)),
            key=lambda group: (group.step, group.name),
            reverse=True,
        )

    def group(self, name: str) -> dict[str, Any] | None:
        """A recorded group by the name of its file; None if there is none."""
        if name not in {group.name for group in self.groups}:
            return None
        value = _read_json(self.directory.path / "rollouts" / name)
        return value if isinstance(value, dict) else None

    @property
    def config(self) -> Mapping[str, Any]:
        """The run's configuration, as it was written."""
        text = self.config_text
        if self._config is None or self._config[0] != text:
            self._config = text, parse_yaml(text, str(self.directory.path / "config.yaml"))
        return self._config[1]

    @property
    def config_text(self) -> str:
        """The text of config.yaml."""
        return (self.directory.path / "config.yaml").read_text("utf-8")

    def status(self) -> str:
        """What the run is doing, in a sentence."""
        live = holder(self.directory.path)
        if live is not None:
            return f"running: {self._steps()} (process {live['pid']} on {live['host']})"
        if self._stopped() or not self.metrics.rows:
            return f"not running: {self.record()}"
        written = time.time() - self.directory.metrics.stat().st_mtime
        return f"not running: {self._steps()}, last written {in_words(round(written))} ago"

    def record(self) -> str:
        """What the run has done, in words that stay true."""
        stopped = self._stopped()
        if stopped:
            return f"stopped at {self._steps()}: {stopped}"
        if not self.metrics.rows:
            return "no step is finished"
        written = time.gmtime(self.directory.metrics.stat().st_mtime)
        return f"{self._steps()}, {time.strftime('%Y-%m-%d %H:%M UTC', written)}"

    def _steps(self) -> str:
        total = (self.config.get("run") or {}).get("steps")
        step = self.metrics.last_step
        return f"step {step} of {total}" if total else f"step {step}"

    def _stopped(self) -> str:
        """Why a guard ended the run; empty if none did."""
        path = self.directory.path / "stopped.txt"
        return path.read_text("utf-8").strip() if path.exists() else ""

    def _files(
        self, folder: str, reduce: Any, most: int | None = None
    ) -> Iterator[tuple[str, Any]]:
        """(Name, what `reduce` makes of it) of the newest JSON files of a folder, by name."""
        try:
            entries = sorted(
                (e for e in os.scandir(self.directory.path / folder) if e.name.endswith(".json")),
                key=lambda entry: entry.name,
            )
        except FileNotFoundError:
            return
        if folder == "rollouts":
            self.recorded_groups = len(entries)
        entries = entries[-most:] if most else entries
        kept = {f"{folder}/{entry.name}" for entry in entries}
        for key in [k for k in self._known if k.startswith(f"{folder}/") and k not in kept]:
            del self._known[key]
        for entry in entries:
            try:
                facts = entry.stat()
            except FileNotFoundError:  # a resumed run removes what it repeats
                continue
            key, stamp = f"{folder}/{entry.name}", (facts.st_mtime_ns, facts.st_size)
            if key not in self._known or self._known[key][0] != stamp:
                value = _read_json(Path(entry.path))
                if not isinstance(value, dict):
                    continue
                try:
                    self._known[key] = stamp, reduce(value | {"name": entry.name})
                except (KeyError, TypeError, ValueError):  # not one of ours
                    continue
            yield entry.name, self._known[key][1]


def _evaluation(value: dict[str, Any]) -> dict[str, Any]:
    """An evaluation as it was written.

    Raises:
        KeyError: not one of ours.
    """
    return value | {"step": int(value["step"]), "scores": dict(value["scores"])}


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
