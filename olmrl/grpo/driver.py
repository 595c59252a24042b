"""The GRPO Driver: moves pages to engines, completions to scorers, groups to the learner.

    PageFeed --page--> RolloutPool --completion--> ScorerPool --group--> RolloutBuffer --> learner

    issue     takes pages, longest first among those that the ledger's staleness bound admits;
              unblocked by `published`
    collect   takes completions and scored groups, never waits
    evaluate  starts the HeldoutEvaluator on the same engines while the learner waits

Nothing here decides what is trained: the ledger does. After a learner restart the Driver forgets
its work in flight and continues from the ledger's position.
"""

from __future__ import annotations

import time
import zlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import ray

from olmrl.config.schema import GrpoConfig
from olmrl.data.encode import EncoderSpec
from olmrl.data.items import StreamItem, measure_pages
from olmrl.data.page import PageSource
from olmrl.data.payload import unpack_block
from olmrl.data.render import BadPage
from olmrl.data.streams import OrderedStream, PageWork
from olmrl.evaluation.heldout import Evaluated, HeldoutEvaluator, training_sampling
from olmrl.evaluation.samples import log_samples
from olmrl.grpo.buffer import BufferView
from olmrl.grpo.lengths import expected_tokens, longest_first
from olmrl.grpo.page_feed import PageFeed
from olmrl.grpo.refills import fractions, no_signal
from olmrl.grpo.scaling import standardise
from olmrl.metrics import Measurements, Sink, flatten, merge
from olmrl.rewards.overlong import shape
from olmrl.rewards.pool import ScorerPool, ScoringFailure
from olmrl.rollout.pool import RolloutPool
from olmrl.rollout.requests import GenerationFailure
from olmrl.run.actor import StepRow
from olmrl.run.bad_pages import BadPages
from olmrl.run.directory import RunDirectory
from olmrl.run.driver import Driver
from olmrl.run.events import EventLog
from olmrl.run.timeline import GroupLanes, Timeline
from olmrl.types import Completion, Page, PolicyVersion, PromptGroup, UInt8Array

_RENDERING_S = 0.1
"""Longest sleep while groups wait for pages: no signal says that a page has been rendered."""


@dataclass(slots=True)
class _Group:
    """A group in the ledger that is on its way to the learner."""

    group_id: str
    page: Any
    """ObjectRef of the Page, for scorers."""
    block: Any
    """ObjectRef of the block of its EncodedPage, for engines and learner."""
    seeds: tuple[int, ...]
    expected: float | None
    """Expected mean tokens of a completion; None: unknown."""
    issued: float = 0.0
    """When engines were asked for it, in seconds since the epoch."""
    generated: float = 0.0
    """When its newest completion arrived, in seconds since the epoch."""


class GrpoDriver(Driver[BufferView]):
    """Runs the loop of a GRPO run; `grpo.training` makes, starts and closes its parts."""

    def __init__(
        self,
        config: GrpoConfig,
        directory: RunDirectory,
        *,
        sources: Sequence[PageSource],
        encoder: EncoderSpec,
        pool: RolloutPool,
        scorers: ScorerPool,
        heldout: HeldoutEvaluator,
        buffer: Any,
        sinks: Sequence[Sink],
        on_step: Callable[[int, dict[str, float]], None],
        say: Callable[[str], None],
    ) -> None:
        super().__init__(directory, actor=buffer, sinks=sinks, on_step=on_step, say=say)
        self.ended_by: str | None = None
        """Why the run was ended early, if no batch could be filled."""
        self._refills_shown = 0
        """Dropped groups of the next batch that rows of metrics tell of."""
        self._config = config
        self._sources = sources
        self._encoder = encoder
        self._moved: Measurements = {}
        """Of the pages issued since the last row."""
        self._pool = pool
        self._scorers = scorers
        self._heldout = heldout
        self._feed: PageFeed | None = None
        self._groups: dict[str, _Group] = {}
        self._log_file = EventLog(directory.path, "driver")
        self._timeline = Timeline(directory.path / "timeline.json", config.logging.timeline_steps)
        self._lanes = {"engines": GroupLanes(), "scorers": GroupLanes()}
        self._recorded: Counter[int] = Counter()
        """By step, number of its groups in rollouts/."""
        self._bad = BadPages(directory, sources, config.data.max_bad_fraction)
        self._ended = False
        self._waiting_for_pages = False
        self._step_started = time.time()
        self._page_wait_s = 0.0
        """Seconds of the current step in which groups waited for their pages to be rendered."""
        self._sampling = training_sampling(config)

    def _turn(self, view: BufferView) -> None:
        self._page_wait_s += self._slept_s * self._waiting_for_pages
        if not self._stopping:
            self._waiting_for_pages = self._issue(view.issuable)
        self._collect(view)
        for event in self._pool.take_events():
            self._log_file.write(version=view.version, **event)
        self._watch_refills(view)
        self._share_gpus(view)

    def _awaited(self) -> list[Any]:
        parts = (self._pool, self._scorers, self._heldout)
        return [ref for part in parts for ref in part.awaited]

    def _longest_sleep(self) -> float:
        return _RENDERING_S if self._waiting_for_pages else super()._longest_sleep()

    def _may_end(self) -> bool:
        return self._stopping or not self._heldout.running

    def _close(self) -> None:
        if self._feed is not None:
            self._feed.close()

    def _abandon(self) -> None:
        self._close()

    # -- pages out

    def _begin(self, view: BufferView) -> None:
        forgotten = list(self._groups)
        self._pool.abort(forgotten)
        for group_id in forgotten:
            self._scorers.forget(group_id)
        self._heldout.forget()
        self._groups, self._ended = {}, False
        self._recorded = self._directory.rollouts_by_step()
        if self._feed is not None:
            self._feed.close()
        if view.incarnation > 0:  # at 0, pages are rendered while the learner is still starting
            self._log_file.write("learner begins", view.version, forgotten_groups=len(forgotten))
        epoch, index = ray.get(self._actor.next_position.remote(len(self._sources)))
        stream = OrderedStream(
            PageWork(
                tuple(self._sources),
                self._config.data.longest_side,
                self._encoder,
                self._bad.not_again,
            ),
            seed=self._config.run.seed,
            start_epoch=epoch,
            start_index=index,
            prefetch=self._config.data.prefetch_pages,
            task_cpus=self._config.data.render_cpus,
            task_resources=self._config.data.resources,
        )
        self._feed = PageFeed(stream, self._config.data.prefetch_pages)

    def _issue(self, issuable: int) -> bool:
        """Issue as many groups as allowed; returns whether only rendered pages were lacking."""
        opened: list[_Group] = []
        waiting = self._open(issuable, opened)
        for place in longest_first([group.expected for group in opened]):
            group = opened[place]
            self._groups[group.group_id] = group
            group.issued = group.generated = time.time()
            self._pool.submit(
                group.group_id,
                group.block,
                self._sampling,
                group.seeds,
                needed=self._config.rollout.group_size,
            )
        return waiting

    def _open(self, issuable: int, opened: list[_Group]) -> bool:
        """Enter the next rendered pages into the ledger; returns whether it ran out of them."""
        assert self._feed is not None
        while len(opened) < issuable and not self._ended:
            item = self._feed.take()
            if item is None:
                return True
            if self._config.run.is_past_end(item.epoch, item.index, len(self._sources)):
                self._ended = True
                ray.get(self._actor.end_of_pages.remote())
            elif isinstance(item.note, BadPage):
                self._skip(item.epoch, item.index, item.note)
            else:
                group = self._open_group(item)
                if group is not None:
                    opened.append(group)
        return False

    def _open_group(self, item: StreamItem) -> _Group | None:
        page: Page = item.note
        place = item.epoch, item.index
        issued = ray.get(self._actor.issue.remote(self._incarnation, *place, page.page_id))
        if issued is None:
            return None
        self._moved = merge(self._moved, measure_pages([item]))
        group_id, seen = issued
        expected = expected_tokens(page, seen)
        return _Group(group_id, ray.put(page), item.payload, self._seeds(*place), expected)

    def _seeds(self, epoch: int, index: int) -> tuple[int, ...]:
        size = self._config.rollout.group_size + self._config.rollout.oversample
        return tuple(
            zlib.crc32(f"{self._config.run.seed}/{epoch}/{index}/{g}".encode()) for g in range(size)
        )

    def _skip(self, epoch: int, index: int, bad: BadPage) -> None:
        ray.get(self._actor.skip_page.remote(epoch, index, "bad_page"))
        self._bad.add(bad)

    # -- completions and groups back

    def _evaluate(self, request: PolicyVersion) -> None:
        self._heldout.start(request)

    def _collect(self, view: BufferView) -> None:
        for item in self._pool.poll(0.0):
            if self._heldout.owns(item.group_id):
                self._heldout.take(item)
            elif isinstance(item, GenerationFailure):
                self._give_up(item.group_id, "generation_failed", item.reason)
            else:
                self._take_completion(item)
        for scored in self._scorers.poll(0.0):
            if isinstance(scored, ScoringFailure):
                self._give_up(scored.group_id, "scoring_failed", scored.reason)
            else:
                self._take_group(scored, view)
        evaluated = self._heldout.poll()
        if evaluated is not None:
            self._take_evaluated(evaluated)

    def _take_completion(self, completion: Completion) -> None:
        group = self._groups.get(completion.group_id)
        if group is None:
            return
        group.generated = time.time()
        self._scorers.submit(group.group_id, group.page, completion)

    def _take_group(self, group: PromptGroup, view: BufferView) -> None:
        opened = self._groups.pop(group.group_id, None)
        if opened is None:
            return
        self._draw(opened, group.page_id, view)
        group = replace(group, page=opened.block)
        algorithm = self._config.algorithm
        if algorithm.overlong == "shape":
            group = shape(group, self._sampling.max_tokens, algorithm.overlong_buffer)
        if algorithm.reward_scaling == "per_reward":
            group = standardise(group, {r.name: r.weight for r in self._config.rewards})
        zero = algorithm.drops_zero_variance
        fate = ray.get(self._actor.add.remote(group, zero))
        if fate != "void":
            self._record(view.version.step, group, opened, fate)

    def _record(self, step: int, group: PromptGroup, opened: _Group, fate: str) -> None:
        """Write the first groups of a step, counting those written before a restart."""
        if self._recorded[step] < self._config.logging.rollout_groups:
            self._recorded[step] += 1
            image = self._directory.page_image(group.page_id, partial(self._picture, opened.block))
            self._directory.write_group(step, group, ray.get(opened.page), image, fate)

    def _picture(self, block: Any) -> UInt8Array:
        return self._encoder.build().picture(unpack_block(ray.get(block)))

    def _draw(self, group: _Group, page_id: str, view: BufferView) -> None:
        if not self._timeline.wants(view.version.step + 1):
            return
        generated = group.generated
        parts = {"engines": (group.issued, generated), "scorers": (generated, time.time())}
        for track, (start, end) in parts.items():
            lane = self._lanes[track].lane(start, end)
            self._timeline.add(track, (page_id, start, end), lane=lane)

    def _give_up(self, group_id: str, reason: str, detail: str) -> None:
        if self._groups.pop(group_id, None) is None:
            return
        self._directory.dropped_group(group_id, reason, detail)
        ray.get(self._actor.drop.remote(group_id, reason))

    def _watch_refills(self, view: BufferView) -> None:
        """Write a row for each batch's worth of dropped groups; end a run without a signal."""
        count = sum(view.dropped.values())
        self._refills_shown = min(self._refills_shown, count)
        needed = self._config.algorithm.pages_per_step
        if count - self._refills_shown >= needed:
            self._refills_shown = count
            self._write(view.version.step, flatten(ray.get(self._actor.refill_row.remote())))
            self._say(
                f"after step {view.version.step}: {count} groups dropped, {view.ready} of {needed} "
                f"ready; {fractions(view.dropped)}"
            )
        hopeless = view.ready < needed and count >= self._config.algorithm.refill_limit
        if hopeless and not self._stopping:
            step = view.version.step
            self.ended_by = no_signal(view.dropped, step=step, ready=view.ready, needed=needed)
            self._stopping = True
            ray.get(self._actor.stop.remote())

    def _take_evaluated(self, evaluated: Evaluated) -> None:
        step = evaluated.version.step
        self._log_file.write("evaluated", step=step, scores=evaluated.scores)
        figures = {f"eval/{name}": figure for name, figure in evaluated.scores.items()}
        self._write_evaluation(step, figures)
        log_samples(self._sinks, step, self._directory, evaluated.record)
        ray.get(self._actor.evaluated.remote(evaluated.version, evaluated.score))
        # `time/step` excludes evaluations; the learner's next row has `time/evaluation`.
        self._step_started = time.time()

    # -- engines on the learner's GPUs

    def _share_gpus(self, view: BufferView) -> None:
        """Let engines sleep while the learner works, and wake them for its new weights."""
        if view.sleep_due and self._pool.settled and self._pool.unfinished == 0:
            self._pool.sleep()
            ray.get(self._actor.engines_sleep.remote(True))
            self._log_file.write("engines sleep", view.version)
        elif view.wake_due:
            self._pool.wake()
            ray.get(self._actor.engines_sleep.remote(False))
            self._log_file.write("engines wake", view.version)

    # -- metrics

    def _write_row(self, row: StepRow) -> None:
        seconds, self._step_started = row.at - self._step_started, row.at
        self._directory.write_step(row.step, row.pages)
        if self._timeline.wants(row.step):
            self._timeline.step(row.spans)
        counted = merge(self._pool.measurements(), self._scorers.measurements(), self._moved)
        self._moved = {}
        figures = flatten(merge(row.measured, counted))
        figures["time/step"] = seconds
        figures["time/page_wait"], self._page_wait_s = self._page_wait_s, 0.0
        figures["throughput/completion_tokens_per_s"] = figures.get("rollout/tokens", 0.0) / seconds
        figures["throughput/completions_per_s"] = figures.get("rollout/completions", 0.0) / seconds
        figures["data/bad_pages"] = float(len(self._bad))
        self._write(row.step, figures)
        self._on_step(row.step, figures)
