"""What the terminal shows of a running verb: done, failed, cost."""

from __future__ import annotations

import time
from collections.abc import Mapping

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

LOG_SECONDS = 15.0
"""Seconds between lines if the output is not a terminal."""


class ProgressDisplay:
    """A live bar on a terminal, an occasional line elsewhere (stderr in both cases)."""

    def __init__(self, title: str, total: int | None) -> None:
        self.title = title
        self.console = Console(stderr=True)
        self.live = self.console.is_terminal
        self.printed = time.monotonic()
        self.bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[state]}"),
            TimeElapsedColumn(),
            console=self.console,
            disable=not self.live,
        )
        self.task = self.bar.add_task(title, total=total, state="")
        self.bar.start()

    def show(self, counts: Mapping[str, int], facts: Mapping[str, float]) -> None:
        """Show the totals so far."""
        if not self.live and time.monotonic() - self.printed < LOG_SECONDS:
            return
        state = describe(counts, facts)
        self.bar.update(self.task, completed=sum(counts.values()), state=state)
        if not self.live:
            self.printed = time.monotonic()
            self.console.print(f"{self.title}: {state}", highlight=False)

    def say(self, text: str) -> None:
        """Print one line above the bar."""
        line = f"{self.title}: {text}"  # unbroken, so that a path in it can be copied
        self.bar.console.print(line, highlight=False, markup=False, soft_wrap=True)

    def close(self) -> None:
        """Stop the bar."""
        self.bar.stop()


def describe(counts: Mapping[str, int], facts: Mapping[str, float]) -> str:
    """One line: items done, skipped and failed, followed by the verb's own totals."""
    parts = [f"{counts.get(name, 0)} {name}" for name in ("done", "skipped", "failed")]
    for name, value in sorted(facts.items()):
        parts.append(f"${value:.4f}" if name == "cost_usd" else f"{name} {value:,.0f}")
    return ", ".join(parts)
