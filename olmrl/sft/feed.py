"""The StepFeed: the SFT Driver tells every learner rank its pages, a few steps ahead.

One Ray actor with named channels: `train`, and one per evaluation. The Driver puts whole steps,
already shared out over ranks by cost, and waits when it is far enough ahead; ranks take theirs.
What travels here are references: pages stay in the object store until a rank fetches them. A
learner that (re)starts says where it begins; whatever was put for an older start is void. Besides
what every run has (`run.actor`):

    Driver   -> put, end, readings, scored
    Learner  -> begin, take, evaluate, have_read, scores
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from olmrl.data.items import ExampleNote, StreamItem, measure_pages
from olmrl.data.tally import Tally
from olmrl.evaluation.reading import PageReading
from olmrl.metrics import Last, Measurements
from olmrl.models.cost import CostModel, balance
from olmrl.run.actor import RunActor, StepRow, View

TRAIN = "train"


@dataclass(frozen=True, slots=True)
class PagesUsed:
    """How far a run has gone through its pages; saved with the weights."""

    position: tuple[int, int] = (0, 0)
    """(epoch, index) where the next step starts."""
    tally: Tally = field(default_factory=Tally)
    """What became of the pages before it, over all epochs."""

    def as_json(self) -> dict[str, Any]:
        """Plain JSON, for a checkpoint."""
        return {"position": list(self.position), "tally": self.tally.as_json()}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> PagesUsed:
        """What `as_json` gave.

        Raises:
            ValueError: it has no tally.
        """
        if "tally" not in value:
            raise ValueError(
                "the checkpoint has no tally of its pages: an older olmrl wrote it; finish the run "
                "with that version"
            )
        epoch, index = value["position"]
        return cls((epoch, index), Tally.from_json(value["tally"]))


@dataclass(frozen=True, slots=True)
class StepShare:
    """One rank's pages of a step."""

    examples: tuple[Any, ...]
    """ObjectRefs of the blocks of its `EncodedExample`s."""
    after: PagesUsed
    """Where the run stands after the step."""
    moved: Measurements
    """Bytes of its pages, and how often their images were processed."""


def share_out(
    items: Sequence[StreamItem], after: PagesUsed, ranks: int, cost: CostModel
) -> list[StepShare]:
    """Spread a step's pages over ranks by cost, images included.

    Args:
        items: pages of the step, of a stream of `ExampleWork`.
        after: where the run stands once they are trained.
        ranks: learner ranks.
        cost: operations of the model.
    """
    notes: list[ExampleNote] = [item.note for item in items]
    costs = [cost.page(n.prompt_tokens, [n.response_tokens], n.image_grid_thw) for n in notes]
    shares = [[items[k] for k in share] for share in balance(costs, ranks)]
    return [
        StepShare(tuple(i.payload for i in mine), after, measure_pages(mine)) for mine in shares
    ]


@dataclass(frozen=True, slots=True)
class PromptShare:
    """One rank's share of the pages to read."""

    prompts: tuple[tuple[str, Any], ...]
    """(number in the evaluation, ObjectRef of the block of the `EncodedPage`)."""


@dataclass(frozen=True, slots=True)
class EvaluationRequest:
    """What the learner asks the Driver to evaluate."""

    step: int
    losses: bool
    """Feed the channels `eval/<set>/<step>`."""
    pages: bool
    """Feed the channel `read/<step>`, then score what was read."""


@dataclass(frozen=True, slots=True)
class FeedView(View):
    """What the Driver of an SFT run needs to know in addition."""

    progress: PagesUsed
    """Where the run stood when this incarnation began."""


class StepFeed(RunActor):
    """Async Ray actor (num_cpus=0); see the module docstring for who calls what.

    Args:
        world_size: Learner ranks.
        ahead: Steps that a channel may hold.
    """

    def __init__(self, world_size: int, ahead: int) -> None:
        super().__init__(world_size)
        self._ahead = ahead
        self._progress = PagesUsed()
        self._steps: dict[str, dict[int, Sequence[Any]]] = {}
        self._taken: dict[tuple[str, int], int] = {}
        self._lengths: dict[str, int] = {}
        self._readings: dict[int, list[list[PageReading]]] = {}
        self._scores: dict[int, dict[str, float]] = {}

    # -- Driver

    async def put(self, incarnation: int, channel: str, step: int, shares: Sequence[Any]) -> bool:
        """Offer each rank's share of a step; waits while `ahead` steps are untaken.

        Returns:
            False if it is void.
        """
        await self._until(
            lambda: self._void(incarnation) or len(self._steps.get(channel, {})) < self._ahead
        )
        if self._void(incarnation):
            return False
        self._steps.setdefault(channel, {})[step] = shares
        self._notify()
        return True

    async def end(self, incarnation: int, channel: str, steps: int) -> None:
        """Say how many steps a channel holds in all."""
        if incarnation == self._incarnation:
            self._lengths[channel] = steps
            self._notify()

    async def readings(self, incarnation: int, step: int) -> list[PageReading] | None:
        """Wait for what all ranks read at a step, in page order; None if it is void."""
        await self._until(
            lambda: self._void(incarnation) or len(self._readings.get(step, [])) == self._world
        )
        if self._void(incarnation):
            return None
        found = [one for share in self._readings.pop(step) for one in share]
        return sorted(found, key=lambda one: int(one.name))

    async def scored(self, incarnation: int, step: int, figures: dict[str, float]) -> None:
        """Give the learner the scores of what it read, and write them as a row of metrics."""
        if not self._void(incarnation):
            self._scores[step] = figures
            self._add_row(StepRow(step, {name: Last(value) for name, value in figures.items()}))

    # -- Learner

    async def begin(self, step: int, progress: PagesUsed) -> int:
        """Start feeding from a step and the run's progress; returns the incarnation."""
        self._progress = progress
        self._steps, self._taken, self._lengths = {}, {}, {}
        self._readings, self._scores = {}, {}
        return self._begin(step)

    async def take(self, channel: str, step: int, rank: int) -> Any:
        """Wait for a rank's share of a step: a `StepShare`, or a `PromptShare` of pages to read.

        None, on all ranks alike, beyond the channel's end or when the run was asked to end, and
        None when a newer learner begins.
        """
        current = await self._until(
            lambda: step in self._steps.get(channel, {}) or self._ended(channel, step)
        )
        if not current or self._ended(channel, step):
            return None
        share = self._steps[channel][step][rank]
        self._taken[channel, step] = self._taken.get((channel, step), 0) + 1
        if self._taken[channel, step] == self._world:
            del self._steps[channel][step], self._taken[channel, step]
            self._notify()
        return share

    async def evaluate(self, request: EvaluationRequest) -> None:
        """Ask the Driver to feed the evaluation channels of a step."""
        self._request(request)

    async def have_read(self, step: int, readings: list[PageReading]) -> None:
        """Hand over what one rank read."""
        self._readings.setdefault(step, []).append(readings)
        self._notify()

    async def scores(self, step: int) -> dict[str, float]:
        """Wait for the scores of what was read at a step; every rank may ask."""
        await self._until(lambda: step in self._scores)
        return self._scores.get(step, {})

    # -- inside

    def _view(self) -> FeedView:
        return FeedView(**self._common_view(), progress=self._progress)

    def _void(self, incarnation: int) -> bool:
        """Whether the learner has finished, or a newer one has begun."""
        return incarnation != self._incarnation or self._finished

    def _ended(self, channel: str, step: int) -> bool:
        if (channel, step) in self._taken:  # one rank has its share, so every rank gets one
            return False
        stopped = self._stopping and channel == TRAIN
        return stopped or step >= self._lengths.get(channel, step + 1)
