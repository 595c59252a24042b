"""What a command shows of work that takes long: a bar at a terminal, lines elsewhere.

    for page in track(pages, "pages", total=len(pages)): ...
    with waiting("loading the model"): ...

The bar comes after two seconds, lines every ten. All of it goes to stderr: stdout holds results.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar

from olmrl.printable import on_one_line

SOON_S = 2.0
"""Seconds before a bar is shown."""
EVERY_S = 10.0
"""Seconds between lines where there is no terminal."""
_TICK_S = 0.2
T = TypeVar("T")


class Progress:
    """How far some work is.

    Args:
        title: What is counted, or done.
        total: How many there are, if that is known.
    """

    def __init__(self, title: str, total: int | None = None) -> None:
        self.title = title
        self.total = total
        self.console = Console(stderr=True)
        self.live = self.console.is_terminal
        self._started = time.monotonic()
        self._due = self._started + (SOON_S if self.live else EVERY_S)
        self._bar = Bar(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[state]}", markup=False),
            TimeElapsedColumn(),
            console=self.console,
            disable=not self.live,
        )
        self._task = self._bar.add_task(title, total=total, state="")

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def expect(self, total: int) -> None:
        """Say how many there are, once that is known."""
        self.total = total
        self._bar.update(self._task, total=total)

    def update(self, done: int, state: str | None = None) -> None:
        """Show how much is done; `state` is said in place of the count."""
        if state is None:
            state = f"{done:,} of {self.total:,}" if self.total else f"{done:,}"
        self._bar.update(self._task, completed=done, state=state)
        now = time.monotonic()
        if now < self._due:
            return
        if self.live:
            self._bar.start()
        else:
            # Of fixed steps, so that slow work does not drift to ever rarer lines.
            self._due += EVERY_S * max(1, (now - self._due) // EVERY_S)
            self.say(f"{state}  [{now - self._started:.0f} s]")

    def say(self, text: str) -> None:
        """Print one line, above the bar if there is one."""
        line = f"{self.title}: {on_one_line(text)}"  # unbroken, so that a path in it can be copied
        self._bar.console.print(line, highlight=False, markup=False, soft_wrap=True)

    def close(self) -> None:
        """Stop the bar."""
        self._bar.stop()


def track(items: Iterable[T], title: str, total: int | None = None) -> Iterator[T]:
    """The items, counted as they are taken.

    Args:
        items: What is worked on.
        title: What they are.
        total: How many there are, if that is known.
    """
    with Progress(title, total) as shown:
        for done, item in enumerate(items):
            shown.update(done)
            yield item


@contextmanager
def waiting(title: str) -> Iterator[None]:
    """Show that work which cannot be counted goes on."""
    over = threading.Event()
    with Progress(title) as shown:

        def tick() -> None:
            while not over.wait(_TICK_S):
                shown.update(0, "working")

        thread = threading.Thread(target=tick, daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()


def in_words(seconds: float) -> str:
    """A length of time, rounded: `40 s`, `12 minutes`, `3 hours`, `9 days`."""
    for size, word in ((86400, "days"), (3600, "hours"), (60, "minutes")):
        if seconds >= 2 * size:
            return f"{seconds / size:,.0f} {word}"
    return f"{max(0.0, seconds):.0f} s"
