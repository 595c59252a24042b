"""What a run prints: progress, a line per step, what improved."""

from __future__ import annotations

import math
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console as RichConsole
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from olmrl.config.schema import LoggingConfig
from olmrl.metrics import Sink
from olmrl.printable import printable
from olmrl.run.directory import RunDirectory
from olmrl.run.sinks import WandbSink, open_sinks
from olmrl.run.stop import StopRequest

_LINE_EVERY_S = 0.5
_PLAIN_LINE_EVERY_S = 10.0
"""Shortest time between two lines of steps on a terminal, and in a file or log."""
_REASONS = 3
"""Reasons for bad pages shown at the end."""
_MODES = ("greedy", "sampled")
_SHOWN_SCORES = ("pass_rate", "reading", "page_exact", "ended")


class Console:
    """Progress on a terminal (a bar and one line per step), plain lines elsewhere."""

    def __init__(self, directory: RunDirectory, stop: StopRequest) -> None:
        self.stop = stop
        self._out = RichConsole(highlight=False, soft_wrap=True)
        self._directory = directory
        self._sinks: list[Sink] = []
        self._begun = threading.Event()
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=self._out,
            transient=True,
            disable=not self._out.is_terminal,
        )

    def say(self, text: str) -> None:
        """Print a line (above the progress bar, if there is one)."""
        self._out.print(printable(text), markup=False)

    def sinks(self, logging_config: LoggingConfig) -> list[Sink]:
        """Open the metric sinks: metrics.jsonl always, others when asked."""
        self._sinks = open_sinks(self._directory, logging_config)
        return self._sinks

    def step_line(
        self, title: str, total: int, columns: Mapping[str, tuple[str, str]]
    ) -> Callable[[int, Mapping[str, float]], None]:
        """Start a bar; returns a function that prints one line per step.

        Steps that follow each other within half a second (ten seconds where there is no terminal)
        share a line; metrics.jsonl has them all.

        Args:
            title: label of the bar.
            total: steps expected.
            columns: label -> (metric name, format).
        """
        self.say("loading the model; the first step is the slowest")
        self._progress.start()
        task = self._progress.add_task(title, total=total)
        pause = _LINE_EVERY_S if self._out.is_terminal else _PLAIN_LINE_EVERY_S
        started = time.monotonic()
        printed = -math.inf
        if not self._out.is_terminal:
            threading.Thread(target=self._wait, args=(started,), daemon=True).start()

        def show(step: int, row: Mapping[str, float]) -> None:
            nonlocal printed
            self._begun.set()
            self._progress.update(task, completed=step)
            now = time.monotonic()
            if now - printed < pause and step != total:
                return
            printed = now
            figures = "  ".join(
                f"{label} {row[name]:{form}}"
                for label, (name, form) in columns.items()
                if row.get(name) is not None
            )
            self.say(f"step {step:>4}/{total}  {figures}  [{now - started:.0f} s]")

        return show

    def _wait(self, started: float) -> None:
        """Say that the run is alive until its first step is done."""
        while not self._begun.wait(_PLAIN_LINE_EVERY_S):
            self.say(f"waiting for the first step  [{time.monotonic() - started:.0f} s]")

    def summary(self, directory: RunDirectory, report: Path) -> None:
        """Say what improved, from what to what, and where the report is.

        W&B takes its artifacts.
        """
        self._progress.stop()
        for sink in self._sinks:
            if isinstance(sink, WandbSink):
                sink.keep(directory)
        evaluations = directory.evaluations()
        if len(evaluations) > 1:
            first, last = evaluations[0]["scores"], evaluations[-1]["scores"]
            shown = [f"{mode}/{score}" for mode in _MODES for score in _SHOWN_SCORES]
            shown.append("reported/pass_rate")
            for name in ("edit_similarity", *shown):
                if name in first and name in last:
                    change = last[name] - first[name]
                    self.say(
                        f"held-out {name:<20} {first[name]:.3f} -> {last[name]:.3f} ({change:+.3f})"
                    )
            chosen = best_choice(evaluations)
            if chosen is not None:
                self.say(chosen)
        self._say_bad_pages(directory)
        self.say(f"model: {directory.path / 'model'}")
        self.say(f"report: {report}")

    def _say_bad_pages(self, directory: RunDirectory) -> None:
        reasons = Counter(str(row["reason"]) for row in directory.bad_pages())
        if not reasons:
            return
        many = "1 bad page" if reasons.total() == 1 else f"{reasons.total()} bad pages"
        self.say(f"{many} left out; all: {directory.path / 'bad_pages.jsonl'}")
        for reason, count in reasons.most_common(_REASONS):
            self.say(f"  {count} x {reason}")

    def close(self) -> None:
        """Stop the bar and close the sinks."""
        self._begun.set()
        self._progress.stop()
        for sink in self._sinks:
            sink.close()
            if isinstance(sink, WandbSink) and sink.failures:
                missed = f"W&B missed {sink.failures} rows or artifacts"
                self.say(f"{missed}; {self._directory.path} has them all")
        self._sinks = []


def best_choice(evaluations: Sequence[Mapping[str, Any]]) -> str | None:
    """Which weights were best by the pages that choose, and what the other pages say of them.

    Args:
        evaluations: as in `evaluations/`, of a run whose held-out pages were halved.
    """
    name = "selection/pass_rate"
    known = [one for one in evaluations if one["step"] > 0 and name in one["scores"]]
    if not known:
        return None
    best = max(known, key=lambda one: one["scores"][name])
    rates = [
        f"{best['scores'].get(f'{half}/pass_rate', math.nan):.3f} +- "
        f"{best['scores'].get(f'{half}/pass_rate_error', math.nan):.3f}"
        for half in ("selection", "reported")
    ]
    return (
        f"best weights: step {best['step']}, chosen by a pass rate of {rates[0]} (standard error); "
        f"on the other half of the held-out pages {rates[1]}"
    )
