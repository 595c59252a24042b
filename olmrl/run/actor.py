"""The Ray actor between a run's Driver and its learner ranks: what SFT and GRPO share.

    Driver    view, said, requests, rows, rows_written, stop
    Learner   begin (in the subclass), say, stopping, report, all_written, finish

Every start of the learner is a new incarnation; whatever belongs to an older one is void. An async
actor runs in one thread, so code between two awaits is atomic and there are no locks: what changes
something calls `_notify`, what waits for something awaits `_until`.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from operator import itemgetter
from typing import Any

from olmrl.metrics import Measurements, merge
from olmrl.run.timeline import Span


@dataclass(frozen=True, slots=True)
class View:
    """What a Driver needs to know each turn."""

    incarnation: int
    """Starts of the learner so far; 0: none yet."""
    first_step: int
    """Steps in the weights that this incarnation began with."""
    finished: bool
    """The learner has made its last step."""
    rows: int
    """Finished rows of metrics to be taken."""
    requests: int
    """Evaluations to be taken."""
    said: int
    """Lines for the user to be taken."""
    serial: int
    """Changes whenever anything here does."""


@dataclass(frozen=True, slots=True)
class StepRow:
    """Metrics of a finished step or evaluation, merged over ranks."""

    step: int
    """Steps in the weights."""
    measured: Measurements
    spans: tuple[tuple[int, tuple[Span, ...]], ...] = ()
    """The parts of the step as each rank timed them, by rank."""
    pages: tuple[tuple[int, int, str], ...] = ()
    """Epoch, place in its order and id of each page that was trained on, where the actor knows."""
    at: float = 0.0
    """When the last rank reported it, in seconds since the epoch."""


class RunActor:
    """Base of the actors; a subclass adds how pages reach the learner.

    Args:
        world_size: Learner ranks.
    """

    def __init__(self, world_size: int) -> None:
        self._world = world_size
        self._incarnation = 0
        self._first_step = 0
        self._finished = False
        self._stopping = False
        self._requests: list[Any] = []
        self._requested: set[Any] = set()
        """All evaluations of this incarnation, including those handed over."""
        self._reports: dict[int, list[tuple[int, Measurements, tuple[Span, ...]]]] = {}
        """By step, what its ranks have reported so far; a step without an entry is complete."""
        self._rows: list[StepRow] = []
        self._said: list[str] = []
        self._serial = 0
        self._change = asyncio.Event()
        """Set and replaced whenever anything changes."""

    # -- Driver

    async def view(self, known: int = -1, timeout_s: float = 0.0) -> View:
        """Where everything stands; waits while the serial is still `known`."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while self._serial == known:
                    await self._change.wait()
        return self._view()

    async def said(self) -> list[str]:
        """What the learner has to say to the user, handed over once."""
        said, self._said = self._said, []
        return said

    async def requests(self, incarnation: int) -> list[Any]:
        """Evaluations that the learner waits for, each handed over once.

        A Driver that has not seen the newest start gets none: what it made for an older incarnation
        would be void, and the learner would wait forever.
        """
        if incarnation != self._incarnation:
            return []
        requests, self._requests = self._requests, []
        return requests

    async def rows(self, incarnation: int) -> list[StepRow]:
        """Rows of finished steps and evaluations not yet written."""
        return list(self._rows) if incarnation == self._incarnation else []

    async def rows_written(self, incarnation: int, count: int) -> None:
        """Forget the first rows: they are on disk."""
        if incarnation == self._incarnation:
            del self._rows[:count]
            self._notify()

    async def stop(self) -> None:
        """Let the learner save and end."""
        self._stopping = True
        self._notify()

    # -- Learner

    async def say(self, lines: list[str]) -> None:
        """Show the user these lines."""
        self._said += lines
        self._notify()

    async def stopping(self) -> bool:
        """Whether the run was asked to end."""
        return self._stopping

    async def report(
        self, step: int, rank: int, measured: Measurements, spans: tuple[Span, ...] = ()
    ) -> None:
        """Take one rank's measurements; the row is complete when all ranks have reported."""
        reports = self._reports.setdefault(step, [])
        reports.append((rank, measured, spans))
        if len(reports) == self._world:
            del self._reports[step]
            reports.sort(key=itemgetter(0))
            merged = merge(*(part for _, part, _ in reports))
            timed = tuple((number, laps) for number, _, laps in reports)
            self._add_row(StepRow(step, merged, timed))

    async def all_written(self) -> None:
        """Wait until all rows are on disk, so that no checkpoint is ahead of them."""
        await self._until(lambda: not self._rows and not self._reports)

    async def finish(self) -> None:
        """Say that the learner has made its last step."""
        self._finished = True
        self._notify()

    # -- for subclasses

    def _view(self) -> View:
        return View(**self._common_view())

    def _common_view(self) -> dict[str, Any]:
        return {
            "incarnation": self._incarnation,
            "first_step": self._first_step,
            "finished": self._finished,
            "rows": len(self._rows),
            "requests": len(self._requests),
            "said": len(self._said),
            "serial": self._serial,
        }

    def _begin(self, step: int, *, after: int = 0) -> int:
        """Start an incarnation: forget what belonged to older ones.

        Args:
            step: Steps in the learner's weights.
            after: Newest incarnation that a checkpoint knows.

        Returns:
            The number of the incarnation.
        """
        self._incarnation = max(self._incarnation, after) + 1
        self._first_step = step
        self._finished = False
        self._requests, self._requested = [], set()
        self._reports, self._rows = {}, []
        self._notify()
        return self._incarnation

    def _request(self, evaluation: Any) -> None:
        """Ask the Driver for an evaluation, once, however many ranks ask."""
        if evaluation not in self._requested:
            self._requested.add(evaluation)
            self._requests.append(evaluation)
            self._notify()

    def _add_row(self, row: StepRow) -> None:
        self._rows.append(replace(row, at=time.time()))
        self._notify()

    def _notify(self) -> None:
        """Wake all who wait: something has changed."""
        self._serial += 1
        self._change.set()
        self._change = asyncio.Event()

    async def _until(self, settled: Callable[[], bool]) -> bool:
        """Wait until `settled` holds.

        Returns:
            False if a newer learner begins first: the one that asked is gone, and must not take
            what belongs to its successor.
        """
        incarnation = self._incarnation
        while not settled():
            await self._change.wait()
            if incarnation != self._incarnation:
                return False
        return True
