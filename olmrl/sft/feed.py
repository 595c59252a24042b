"""The StepFeed: encoded pages from the SFT Driver to every learner rank, a few steps ahead.

One Ray actor with named channels: `train`, and one per evaluation. The Driver puts whole steps,
already shared out over ranks by cost, and waits when it is far enough ahead; ranks take theirs. A
learner that (re)starts says where it begins; what was put for an older start is void.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from olmrl.data.encoded import EncodedExample
from olmrl.data.tally import Tally
from olmrl.metrics import Measurements, flatten, merge
from olmrl.models.cost import CostModel, balance
from olmrl.types import EncodedPage, Int32Array

TRAIN = "train"


@dataclass(frozen=True, slots=True)
class Progress:
    """What a run has used of its pages; saved with the weights."""

    position: tuple[int, int] = (0, 0)
    """(epoch, index) that the next step starts from."""
    tally: Tally = field(default_factory=Tally)
    """What became of the pages before it, over all epochs."""

    def as_json(self) -> dict[str, Any]:
        """Plain JSON, for a checkpoint."""
        return {"position": list(self.position), "tally": self.tally.as_json()}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Progress:
        """What `as_json` gave.

        Raises:
            ValueError: it was written before tallies were saved.
        """
        if "tally" not in value:
            raise ValueError(
                "the checkpoint holds no tally of its pages: an older olmrl wrote it, which has to "
                "finish this run"
            )
        epoch, index = value["position"]
        return cls((epoch, index), Tally.from_json(value["tally"]))


@dataclass(frozen=True, slots=True)
class StepShare:
    """One rank's pages of a step."""

    examples: tuple[EncodedExample, ...]
    after: Progress
    """Where the run stands once the step is trained."""


def share_out(
    examples: Sequence[EncodedExample], after: Progress, ranks: int, cost: CostModel
) -> list[StepShare]:
    """Spread a step's pages over ranks by what each costs, its image included.

    Args:
        examples: pages of the step.
        after: where the run stands once they are trained.
        ranks: learner ranks.
        cost: operations of the model.
    """
    costs = [
        cost.page(len(e.page.prompt_ids), [len(e.response_ids)], e.page.image_grid_thw)
        for e in examples
    ]
    return [StepShare(tuple(examples[i] for i in share), after) for share in balance(costs, ranks)]


@dataclass(frozen=True, slots=True)
class PromptShare:
    """One rank's pages to transcribe."""

    prompts: tuple[tuple[int, EncodedPage], ...]
    """(number in the evaluation, page)."""


@dataclass(frozen=True, slots=True)
class Transcript:
    """A page as the policy read it."""

    number: int
    """Number of the page in the evaluation."""
    token_ids: Int32Array
    """[R] ids, the end token included where there is one."""
    ended: bool
    """Whether it ends with the end token; else it was cut at the most tokens."""


@dataclass(frozen=True, slots=True)
class EvaluationRequest:
    """What the learner waits for."""

    step: int
    losses: bool
    """The channels `eval/<set>/<step>`."""
    transcripts: bool
    """The channel `read/<step>`, and then the scores."""


class StepFeed:
    """Async Ray actor (num_cpus=0).

    Driver: `start`, `put`, `end`, `rows`, `rows_written`, `requests`, `transcripts`, `scored`.
    Learner: `begin`, `take`, `evaluate`, `transcribed`, `scores`, `report`, `all_written`,
    `finish`.
    """

    def __init__(self, world_size: int, ahead: int) -> None:
        self._world = world_size
        self._ahead = ahead
        self._incarnation = 0
        self._step = 0
        self._progress = Progress()
        self._steps: dict[str, dict[int, Sequence[Any]]] = {}
        self._taken: dict[tuple[str, int], int] = {}
        self._lengths: dict[str, int] = {}
        self._evaluations: list[EvaluationRequest] = []
        self._transcripts: dict[int, list[list[Transcript]]] = {}
        self._scores: dict[int, dict[str, float]] = {}
        self._reports: dict[int, list[Measurements]] = {}
        self._rows: list[tuple[int, dict[str, float]]] = []
        self._finished = False
        self._stopping = False
        self._changed = asyncio.Condition()

    # -- Driver

    async def start(self, known: int) -> tuple[int, int, Progress] | None:
        """The newest learner start beyond a known one: (incarnation, first step, progress)."""
        newer = self._incarnation > known
        return (self._incarnation, self._step, self._progress) if newer else None

    async def put(self, incarnation: int, channel: str, step: int, shares: Sequence[Any]) -> bool:
        """Offer each rank's share of a step; waits while `ahead` steps are untaken.

        Returns:
            False when it is void.
        """
        async with self._changed:
            while len(self._steps.get(channel, {})) >= self._ahead:
                if self._void(incarnation):
                    return False
                await self._changed.wait()
            if self._void(incarnation):
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

    async def requests(self, known: int) -> list[EvaluationRequest]:
        """Evaluations that the learner waits for; handed over once.

        None of them to a Driver that does not know the newest start yet: what it would feed for
        another incarnation is void, and the learner would wait for ever.
        """
        if known != self._incarnation:
            return []
        requests, self._evaluations = self._evaluations, []
        return requests

    async def transcripts(self, incarnation: int, step: int) -> list[Transcript] | None:
        """Wait for what all ranks read at a step, by number; None when it is void."""
        async with self._changed:
            while len(self._transcripts.get(step, [])) < self._world:
                if self._void(incarnation):
                    return None
                await self._changed.wait()
            found = [one for share in self._transcripts.pop(step) for one in share]
            return sorted(found, key=lambda one: one.number)

    async def scored(self, incarnation: int, step: int, figures: dict[str, float]) -> None:
        """Give the learner the scores of a step's transcripts; they make a row of metrics."""
        async with self._changed:
            if not self._void(incarnation):
                self._scores[step] = figures
                self._rows.append((step, figures))
                self._changed.notify_all()

    async def rows(self) -> list[tuple[int, dict[str, float]]]:
        """Metric rows of finished steps and evaluations that are not written yet."""
        return list(self._rows)

    async def rows_written(self, incarnation: int, count: int) -> None:
        """Forget the first rows: they are on disk."""
        async with self._changed:
            if incarnation == self._incarnation:
                del self._rows[:count]
                self._changed.notify_all()

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

    async def begin(self, step: int, progress: Progress) -> int:
        """Start feeding a step from where the run stands; returns the incarnation."""
        async with self._changed:
            self._incarnation += 1
            self._step, self._progress = step, progress
            self._steps, self._taken, self._lengths = {}, {}, {}
            self._evaluations, self._reports, self._rows = [], {}, []
            self._transcripts, self._scores = {}, {}
            self._changed.notify_all()
            return self._incarnation

    async def take(self, channel: str, step: int, rank: int) -> Any:
        """Wait for a rank's share of a step: a `StepShare`, or a `PromptShare` of pages to read.

        None, on all ranks alike, beyond the channel's end or when the run was asked to end; and
        when a newer learner begins, for then the rank that asked is gone and must not take the
        share of a living one.
        """
        async with self._changed:
            incarnation = self._incarnation
            while step not in self._steps.get(channel, {}) and not self._ended(channel, step):
                await self._changed.wait()
                if incarnation != self._incarnation:
                    return None
            if self._ended(channel, step):
                return None
            share = self._steps[channel][step][rank]
            self._taken[channel, step] = self._taken.get((channel, step), 0) + 1
            if self._taken[channel, step] == self._world:
                del self._steps[channel][step], self._taken[channel, step]
                self._changed.notify_all()
            return share

    async def evaluate(self, request: EvaluationRequest) -> None:
        """Ask the Driver to feed the evaluation channels of a step."""
        self._evaluations.append(request)

    async def transcribed(self, step: int, transcripts: list[Transcript]) -> None:
        """Hand over what one rank read."""
        async with self._changed:
            self._transcripts.setdefault(step, []).append(transcripts)
            self._changed.notify_all()

    async def scores(self, step: int) -> dict[str, float]:
        """Wait for the scores of a step's transcripts; every rank may ask."""
        async with self._changed:
            while step not in self._scores:
                await self._changed.wait()
            return self._scores[step]

    async def report(self, step: int, measured: Measurements) -> None:
        """One rank's measurements; the row is complete when all ranks reported."""
        waiting = self._reports.setdefault(step, [])
        waiting.append(measured)
        if len(waiting) == self._world:
            self._rows.append((step, flatten(merge(*self._reports.pop(step)))))

    async def all_written(self) -> None:
        """Wait until all rows are on disk, so that no checkpoint is ahead of them."""
        async with self._changed:
            await self._changed.wait_for(lambda: not self._rows and not self._reports)

    async def finish(self) -> None:
        """The learner has made its last step."""
        async with self._changed:
            self._finished = True
            self._changed.notify_all()

    # -- inside

    def _void(self, incarnation: int) -> bool:
        """Whether a newer learner, or none, is there."""
        return incarnation != self._incarnation or self._finished

    def _ended(self, channel: str, step: int) -> bool:
        if (channel, step) in self._taken:  # by one rank: then every rank gets its share
            return False
        stopped = self._stopping and channel == TRAIN
        return stopped or step >= self._lengths.get(channel, step + 1)
