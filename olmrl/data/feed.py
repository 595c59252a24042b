"""The StepFeed: encoded pages from the SFT Driver to every learner rank, a few steps ahead.

One Ray actor with named channels: `train`, and one per evaluation. The Driver puts whole steps,
already shared out over ranks by cost, and waits when it is far enough ahead; ranks take theirs. A
learner that (re)starts says where it begins; what was put for an older start is void.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from olmrl.data.example import EncodedExample
from olmrl.metrics import Measurements, flatten, merge

TRAIN = "train"


@dataclass(frozen=True, slots=True)
class StepShare:
    """One rank's pages of a step."""

    examples: tuple[EncodedExample, ...]
    position: tuple[int, int]
    """(epoch, index) that the next step starts from; saved with the weights."""


class StepFeed:
    """Async Ray actor (num_cpus=0).

    Driver: `start`, `put`, `end`, `take_rows`, `requests`. Learner: `begin`, `take`, `evaluate`,
    `report`, `finish`.
    """

    def __init__(self, world_size: int, ahead: int) -> None:
        self._world = world_size
        self._ahead = ahead
        self._incarnation = 0
        self._step = 0
        self._position: tuple[int, int] = (0, 0)
        self._steps: dict[str, dict[int, list[StepShare]]] = {}
        self._taken: dict[tuple[str, int], int] = {}
        self._lengths: dict[str, int] = {}
        self._evaluations: list[int] = []
        self._reports: dict[int, list[Measurements]] = {}
        self._rows: list[tuple[int, dict[str, float]]] = []
        self._finished = False
        self._stopping = False
        self._changed = asyncio.Condition()

    # -- Driver

    async def start(self, known: int) -> tuple[int, int, tuple[int, int]] | None:
        """The newest learner start beyond a known one: (incarnation, first step, position)."""
        newer = self._incarnation > known
        return (self._incarnation, self._step, self._position) if newer else None

    async def put(self, incarnation: int, channel: str, step: int, shares: list[StepShare]) -> bool:
        """Offer a step; waits while `ahead` steps are untaken; False when it is void."""
        async with self._changed:
            while len(self._steps.get(channel, {})) >= self._ahead:
                if incarnation != self._incarnation or self._finished:
                    return False
                await self._changed.wait()
            if incarnation != self._incarnation or self._finished:
                return False
            self._steps.setdefault(channel, {})[step] = shares
            self._changed.notify_all()
            return True

    async def end(self, incarnation: int, channel: str, steps: int) -> None:
        """Say that a channel holds exactly so many steps."""
        async with self._changed:
            if incarnation == self._incarnation:
                self._lengths[channel] = steps
                self._changed.notify_all()

    async def requests(self) -> list[int]:
        """Steps for which the learner waits for an evaluation; handed over once."""
        requests, self._evaluations = self._evaluations, []
        return requests

    async def take_rows(self) -> list[tuple[int, dict[str, float]]]:
        """Metric rows of finished steps."""
        rows, self._rows = self._rows, []
        return rows

    async def finished(self) -> bool:
        """Whether the learner is done."""
        return self._finished

    async def stop(self) -> None:
        """Let the learner save and end: training steps that no rank has taken are void."""
        async with self._changed:
            self._stopping = True
            self._changed.notify_all()

    async def stopping(self) -> bool:
        """Whether the run was asked to end."""
        return self._stopping

    # -- Learner

    async def begin(self, step: int, position: tuple[int, int]) -> int:
        """Start feeding a step from a page position; returns the incarnation."""
        async with self._changed:
            self._incarnation += 1
            self._step, self._position = step, position
            self._steps, self._taken, self._lengths = {}, {}, {}
            self._evaluations, self._reports = [], {}
            self._changed.notify_all()
            return self._incarnation

    async def take(self, channel: str, step: int, rank: int) -> StepShare | None:
        """Wait for a rank's share of a step.

        None, on all ranks alike, beyond the channel's end or when the run was asked to end.
        """
        async with self._changed:
            while not self._started(channel, step):
                if self._ended(channel, step):
                    return None
                if step in self._steps.get(channel, {}):
                    break
                await self._changed.wait()
            share = self._steps[channel][step][rank]
            self._taken[channel, step] = self._taken.get((channel, step), 0) + 1
            if self._taken[channel, step] == self._world:
                del self._steps[channel][step], self._taken[channel, step]
                self._changed.notify_all()
            return share

    async def evaluate(self, step: int) -> None:
        """Ask the Driver to feed the evaluation channels of a step."""
        self._evaluations.append(step)

    async def report(self, step: int, measured: Measurements) -> None:
        """One rank's measurements; the row is complete when all ranks reported."""
        waiting = self._reports.setdefault(step, [])
        waiting.append(measured)
        if len(waiting) == self._world:
            self._rows.append((step, flatten(merge(*self._reports.pop(step)))))

    async def finish(self) -> None:
        """The learner has made its last step."""
        async with self._changed:
            self._finished = True
            self._changed.notify_all()

    # -- inside

    def _started(self, channel: str, step: int) -> bool:
        """Whether a rank has taken its share already: then every rank gets its own."""
        return (channel, step) in self._taken

    def _ended(self, channel: str, step: int) -> bool:
        stopped = self._stopping and channel == TRAIN
        return stopped or step >= self._lengths.get(channel, step + 1)
