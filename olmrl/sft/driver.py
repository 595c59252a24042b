"""The SFT Driver: assembles steps of whole pages from the data stream and feeds the learner.

A step holds `pages_per_step` kept pages; dropped and bad pages are counted and listed, and never
shorten a step. Every page position of an epoch is consumed exactly once: the position after a step
is saved with its weights, and a restarted learner is fed from there.
"""

from __future__ import annotations

import itertools
import math
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import ray

from olmrl.config.schema import SftConfig
from olmrl.data.encode import EncoderSpec
from olmrl.data.items import ExampleNote, StreamItem
from olmrl.data.page_sets import ExampleWork, SftPages
from olmrl.data.render import BadPage
from olmrl.data.sets import PageItem
from olmrl.data.steps.sample import Dropped
from olmrl.data.streams import CLOSING_S, OrderedStream
from olmrl.data.tally import Tally
from olmrl.evaluation.samples import log_samples
from olmrl.metrics import Measurements, Sink, flatten
from olmrl.models.cost import CostModel
from olmrl.run.actor import StepRow
from olmrl.run.bad_pages import BadPages
from olmrl.run.directory import RunDirectory
from olmrl.run.driver import Driver
from olmrl.sft import scoring
from olmrl.sft.feed import TRAIN, EvaluationRequest, FeedView, PagesUsed, PromptShare, share_out

_EPOCH = "data/epoch"
"""In every row of a training step, and in no row of an evaluation."""


class _Offered(NamedTuple):
    """A step as it was offered to the learner."""

    places: list[tuple[int, int, str]]
    """Epoch, place in its order and id of its pages."""
    tally: Tally
    """What became of all pages up to its last one."""


class SftDriver(Driver[FeedView]):
    """Runs the loop of an SFT run.

    Args:
        config: The run.
        directory: Takes what the run leaves behind.
        encoder: Model and tokenizer.
        cost: Operations of the model, used to balance the ranks.
        pages: Training and evaluation sets.
        bad: Lists those that cannot be used.
        to_read: Pages that the policy reads in evaluations (`scoring.sample_pages`).
        feed: StepFeed actor.
        sinks: Where metrics go.
        on_step: Told each step's row, with the newest evaluation's figures.
        say: Prints a message to the user.
    """

    def __init__(
        self,
        config: SftConfig,
        directory: RunDirectory,
        *,
        encoder: EncoderSpec,
        cost: CostModel,
        pages: SftPages,
        bad: BadPages,
        to_read: Sequence[tuple[str, PageItem]],
        feed: Any,
        sinks: Sequence[Sink],
        on_step: Callable[[int, dict[str, float]], None],
        say: Callable[[str], None],
    ) -> None:
        super().__init__(directory, actor=feed, sinks=sinks, on_step=on_step, say=say)
        self._config = config
        self._encoder = encoder
        self._cost = cost
        self._train = pages.train
        self._evaluation = pages.evaluation
        self.tally = Tally()
        """What became of the pages up to the newest reported step."""
        self._errors: list[BaseException] = []
        self._threads: list[threading.Thread] = []
        self._streams: dict[int, OrderedStream] = {}
        """Those that threads iterate over, by identity."""
        self._scores: dict[str, float] = {}
        self._to_read = tuple(to_read)
        self._prepared: list[scoring.EvaluationPage] | None = None
        """The pages to read, rendered and encoded once for all evaluations of the run."""
        self._records: list[tuple[int, dict[str, Any]]] = []
        """Evaluations whose samples are not logged yet."""
        self._offered: dict[int, _Offered] = {}
        """Steps offered to the learner and not yet reported."""
        self._trained = 0
        """The newest reported step."""
        self._ended: dict[int, Tally] = {}
        """By the last step before the pages ran out: the final tally, with pages lost after it."""
        self._bad = bad
        self._evaluated: dict[int, Measurements] = {}
        """By step, what became of its evaluation pages; kept until its losses are logged."""
        self._empty: set[str] = set()
        """Evaluation sets without a page left."""

    def _begin(self, view: FeedView) -> None:
        if view.incarnation > 0:
            self.tally, self._trained = view.progress.tally, view.first_step
            self._in_background(
                self._feed_training, view.incarnation, view.first_step, view.progress
            )

    def _evaluate(self, request: EvaluationRequest) -> None:
        if request.losses:
            self._in_background(self._feed_evaluation, self._incarnation, request.step)
        if request.pages:
            self._in_background(self._score_pages, self._incarnation, request.step)

    def _turn(self, view: FeedView) -> None:
        if self._errors:
            raise self._errors[0]

    def _close(self) -> None:
        self._log_samples()
        self.tally = self._ended.get(self._trained, self.tally)
        self._settle()

    def _abandon(self) -> None:
        # threads that wait for room in the feed end with it
        ray.kill(self._actor)
        self._settle()

    # -- feeding (in threads of its own, as `put` waits while the learner is behind)

    def _in_background(self, work: Callable[..., None], *arguments: Any) -> None:
        def guarded() -> None:
            try:
                work(*arguments)
            except BaseException as error:
                self._errors.append(error)

        thread = threading.Thread(target=guarded, name=work.__name__, daemon=True)
        self._threads = [*filter(threading.Thread.is_alive, self._threads), thread]
        thread.start()

    def _items(self, stream: OrderedStream) -> Iterator[StreamItem]:
        """Iterate over a stream until `_settle` ends it."""
        self._streams[id(stream)] = stream
        try:
            yield from stream
        finally:
            del self._streams[id(stream)]

    def _settle(self) -> None:
        """End the threads: one that called Ray after the run would end the process by itself."""
        for stream in list(self._streams.values()):
            stream.end()
        until = time.monotonic() + CLOSING_S
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))

    def _feed_training(self, incarnation: int, step: int, progress: PagesUsed) -> None:
        seed = self._config.training.seed(self._config.run)
        max_tokens = self._config.data.max_tokens
        stream = OrderedStream(
            ExampleWork(self._train, self._encoder, max_tokens, seed, self._bad.not_again),
            seed=seed,
            start_epoch=progress.position[0],
            start_index=progress.position[1],
            epochs=None if self._config.run.steps else math.ceil(self._config.run.epochs),
            prefetch=self._config.data.prefetch_pages,
            task_resources=self._config.data.resources,
        )
        kept: list[StreamItem] = []
        places: list[tuple[int, int, str]] = []
        lost = Tally()  # since the last kept page or the start of the epoch
        size = self._config.training.pages_per_step
        after, tally = progress.position, progress.tally.copy()
        for item in self._items(stream):
            if self._config.run.is_past_end(item.epoch, item.index, len(self._train.items)):
                break
            after = self._after(item.epoch, item.index)
            tally.add(item.note)
            lost = Tally() if item.index == 0 else lost
            if not self._keep(item.note):
                lost.add(item.note)
                if lost.total >= len(self._train.items):
                    lost.require_some()
                continue
            lost = Tally()
            kept.append(item)
            places.append((item.epoch, item.index, item.note.page_id))
            if len(kept) == size:
                if not self._offer(incarnation, step, kept, places, PagesUsed(after, tally.copy())):
                    return
                step, kept, places = step + 1, [], []
        if kept and self._offer(incarnation, step, kept, places, PagesUsed(after, tally.copy())):
            step += 1
        tally.require_some()
        self._ended[step] = tally
        ray.get(self._actor.end.remote(incarnation, TRAIN, step))

    def _offer(
        self,
        incarnation: int,
        step: int,
        items: list[StreamItem],
        places: list[tuple[int, int, str]],
        after: PagesUsed,
    ) -> bool:
        self._offered[step + 1] = _Offered(places, after.tally)
        return self._put(incarnation, TRAIN, step, items, after)

    def _feed_evaluation(self, incarnation: int, step: int) -> None:
        size = self._config.training.pages_per_step
        counted: Measurements = {}
        for pages in self._evaluation:
            channel = f"eval/{pages.name}/{step}"
            stream = OrderedStream(
                ExampleWork(
                    pages,
                    self._encoder,
                    self._config.data.max_tokens,
                    not_again=self._bad.not_again,
                ),
                seed=None,
                epochs=1,
                prefetch=self._config.data.prefetch_pages,
                task_resources=self._config.data.resources,
            )
            tally = Tally()
            kept = (item for item in self._items(stream) if self._keep(tally.counted(item.note)))
            chunks = 0
            while chunk := list(itertools.islice(kept, size)):
                if not self._put(incarnation, channel, chunks, chunk, PagesUsed()):
                    return
                chunks += 1
            counted |= tally.measurements(f"data/eval/{pages.name}")
            if not tally.kept:
                self._explain_empty(pages.name, tally)
            self._evaluated[step] = counted
            ray.get(self._actor.end.remote(incarnation, channel, chunks))

    def _explain_empty(self, name: str, tally: Tally) -> None:
        """Say, once, that an evaluation set has no page left.

        Raises:
            ValueError: the best checkpoint cannot be chosen without it.
        """
        if name in self._empty:
            return
        self._empty.add(name)
        problem = f"evaluation set {name}: {tally.summary()}"
        metric = self._config.evaluation.best_metric
        all_empty = metric == "eval/loss" and len(self._empty) == len(self._evaluation)
        if all_empty or metric == f"eval/{name}/loss":
            raise ValueError(f"evaluation.best_metric: {metric} cannot be measured; {problem}")
        self._say(f"{problem}\nit has no loss, and eval/loss is the mean of the other sets")

    def _score_pages(self, incarnation: int, step: int) -> None:
        if self._prepared is None:
            self._prepared = scoring.prepare(self._to_read, self._encoder, self._directory)
        pages = self._prepared
        prompts = [(str(number), one.block) for number, one in enumerate(pages)]
        ranks = self._config.learner.workers
        shares = [PromptShare(tuple(prompts[rank::ranks])) for rank in range(ranks)]
        ray.get(self._actor.put.remote(incarnation, f"read/{step}", 0, shares))
        readings = ray.get(self._actor.readings.remote(incarnation, step))
        if readings is None:
            return
        scored = scoring.score(step, pages, readings, self._encoder, self._directory)
        self._directory.write_evaluation(step, scored.record)
        self._records.append((step, scored.record))
        ray.get(self._actor.scored.remote(incarnation, step, scored.figures))

    def _put(
        self,
        incarnation: int,
        channel: str,
        step: int,
        items: list[StreamItem],
        after: PagesUsed,
    ) -> bool:
        shares = share_out(items, after, self._config.learner.workers, self._cost)
        return bool(ray.get(self._actor.put.remote(incarnation, channel, step, shares)))

    def _after(self, epoch: int, index: int) -> tuple[int, int]:
        return (epoch, index + 1) if index + 1 < len(self._train.items) else (epoch + 1, 0)

    # -- pages that are not trained on

    def _keep(self, note: ExampleNote | Dropped | BadPage) -> bool:
        if isinstance(note, Dropped):
            self._directory.dropped_page(
                note.pdf_path, note.page_number, step=note.step, rule=note.rule
            )
        elif isinstance(note, BadPage):
            self._bad.add(note)
        return isinstance(note, ExampleNote)

    # -- metrics

    def _write_row(self, row: StepRow) -> None:
        step, trained = row.step, _EPOCH in row.measured
        self._log_samples(before=step)
        if trained:
            offered = self._offered.pop(step)
            self.tally, self._trained = offered.tally, step
            self._directory.write_step(step, offered.places)
        figures = flatten(row.measured) | flatten(self.tally.measurements("data"))
        if trained:
            self._write(step, figures)
            self._on_step(step, self._scores | figures)
        else:
            figures |= flatten(self._evaluated.pop(step, {}))
            self._write_evaluation(step, figures)
            self._scores |= {k: v for k, v in figures.items() if k.startswith("eval/")}

    def _log_samples(self, before: float = math.inf) -> None:
        """Log the samples of earlier steps; W&B only takes steps in order."""
        while self._records and self._records[0][0] < before:
            step, record = self._records.pop(0)
            log_samples(self._sinks, step, self._directory, record)
