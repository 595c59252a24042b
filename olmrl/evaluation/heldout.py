"""Held-out pages through the engines of the run, while the learner waits for their score.

    start --page--> RolloutPool --completion--> take --> ScorerPool --> poll: Evaluated

The Driver owns the loop: it starts an evaluation when the learner waits for one, and hands over
what the engines say of it. Model output cannot end a run here: a transcription that cannot be made
or scored passes no test, and is listed and counted.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import ray

from olmrl.config.schema import GrpoConfig
from olmrl.data.page import PageSource, load_page
from olmrl.data.render import BadPage
from olmrl.evaluation import figures
from olmrl.rewards.pool import ScorerPool, ScoringFailure
from olmrl.rollout.engine import Generated, GenerationFailure
from olmrl.rollout.pool import RolloutPool
from olmrl.run.bad_pages import BadPages
from olmrl.run.directory import RunDirectory
from olmrl.types import Completion, Page, PolicyVersion, PromptGroup, Rollout, SamplingSpec

_SHOWN_PAGES = 4
_MARK = "evaluation:"
_BEST = ("greedy/pass_rate", "sampled/pass_rate")
"""Figures that the best checkpoint is chosen by: the first that was measured."""


@dataclass(frozen=True, slots=True)
class Evaluated:
    """A finished evaluation."""

    version: PolicyVersion
    scores: dict[str, float]
    """Figures by `<mode>/<figure>` (see `figures.scores`), and `failed`: transcriptions that
    could not be made or scored."""

    @property
    def score(self) -> float | None:
        """What the best checkpoint is chosen by; None where no page has a unit test."""
        return next((self.scores[name] for name in _BEST if name in self.scores), None)


@dataclass(frozen=True, slots=True)
class _HeldoutPage:
    """A page that was rendered, for all evaluations of the run."""

    number: int
    """Its place among the sources, which seeds its sampling."""
    page_id: str
    ref: Any
    """ObjectRef of the Page."""


@dataclass(slots=True)
class _Asked:
    """One completion that an evaluation waits for."""

    mode: str
    page: _HeldoutPage
    completion: Completion | None = None
    """Once an engine has made it."""


@dataclass
class _Running:
    """Held-out pages in flight."""

    version: PolicyVersion
    rollouts: dict[str, list[tuple[str, Rollout]]] = field(default_factory=dict)
    """(page id, rollout) per mode."""
    asked: dict[str, _Asked] = field(default_factory=dict)
    """By group id, what is not scored yet."""
    failed: list[dict[str, str]] = field(default_factory=list)
    """Transcriptions that could not be made or scored, for the record."""


class HeldoutEvaluator:
    """Evaluates the weights that the engines hold.

    Args:
        config: the run's.
        directory: gets the evaluations.
        sources: pages of the held-out bench folder.
        pool: the run's engines.
        scorers: score held-out completions, each a group of its own.
    """

    def __init__(
        self,
        config: GrpoConfig,
        directory: RunDirectory,
        sources: Sequence[PageSource],
        pool: RolloutPool,
        scorers: ScorerPool,
    ) -> None:
        self._config = config
        self._directory = directory
        self._sources = figures.with_baselines(sources)[: config.evaluation.max_pages]
        self._pool = pool
        self._scorers = scorers
        self._bad = BadPages(
            directory, self._sources, config.data.max_bad_fraction, "held-out pages"
        )
        self._pages: list[_HeldoutPage] | None = None
        self._running: _Running | None = None

    @property
    def running(self) -> bool:
        """Whether an evaluation is in flight."""
        return self._running is not None

    @property
    def awaited(self) -> list[Any]:
        """Refs of the answers that come next: once one is there, `poll` has something to do."""
        return self._scorers.awaited

    @staticmethod
    def owns(group_id: str) -> bool:
        """Whether a group is of an evaluation, of one that was forgotten too."""
        return group_id.startswith(_MARK)

    def start(self, version: PolicyVersion) -> None:
        """Ask the engines for all held-out pages.

        Args:
            version: of the weights they hold; it names the groups, so that nothing of an evaluation
                before a learner's restart is taken for one of the same step after it.

        Raises:
            RunStopped: too many unreadable pages.
        """
        if self._pages is None:
            self._pages = self._render()
        modes = sampling_modes(self._config)
        running = self._running = _Running(version, rollouts={mode: [] for mode in modes})
        for page in self._pages:
            for mode, (sampling, count) in modes.items():
                for sample in range(count):
                    group_id = f"{_MARK}{version}:{mode}:{page.number}:{sample}"
                    running.asked[group_id] = _Asked(mode, page)
                    seed = zlib.crc32(f"{self._config.run.seed}/{page.number}/{sample}".encode())
                    self._pool.submit(group_id, page.ref, sampling, (seed,))

    def take(self, item: Generated) -> None:
        """Pass on what an engine made of a held-out page."""
        asked = self._running.asked.get(item.group_id) if self._running else None
        if asked is None:
            return
        if isinstance(item, GenerationFailure):
            self._fail(item.group_id, item.reason)
        else:
            asked.completion = item
            self._scorers.submit(item.group_id, asked.page.ref, item)

    def poll(self) -> Evaluated | None:
        """Collect scored pages; gives the evaluation once it is whole and written."""
        for scored in self._scorers.poll(0.0):
            self._take_scored(scored)
        if self._running is None or self._running.asked:
            return None
        finished, self._running = self._running, None
        return self._finish(finished)

    def forget(self) -> None:
        """Drop the evaluation in flight: the learner that waited for it is gone."""
        if self._running is None:
            return
        self._pool.abort(list(self._running.asked))
        for group_id in self._running.asked:
            self._scorers.forget(group_id)
        self._running = None

    def _render(self) -> list[_HeldoutPage]:
        pages = []
        for number, source in enumerate(self._sources):
            try:
                page = load_page(source, self._config.data.longest_side)
            except BadPage as bad:
                self._bad.add(bad)
            else:
                pages.append(_HeldoutPage(number, page.page_id, ray.put(page)))
        return pages

    def _take_scored(self, scored: PromptGroup | ScoringFailure) -> None:
        running = self._running
        if running is None or scored.group_id not in running.asked:
            return
        if isinstance(scored, ScoringFailure):
            self._fail(scored.group_id, scored.reason)
            return
        asked = running.asked.pop(scored.group_id)
        rows = [(asked.page.page_id, rollout) for rollout in scored.rollouts]
        running.rollouts[asked.mode] += rows

    def _fail(self, group_id: str, reason: str) -> None:
        running = self._running
        assert running is not None
        asked = running.asked.pop(group_id)
        made = asked.completion or figures.no_completion(group_id, running.version)
        page: Page = ray.get(asked.page.ref)
        rollout = figures.failed_rollout(page, made, reason)
        running.rollouts[asked.mode].append((page.page_id, rollout))
        running.failed.append(
            {"page_id": page.page_id, "mode": asked.mode, "reason": reason, "text": made.text}
        )

    def _finish(self, finished: _Running) -> Evaluated:
        # Views of the object store: no page is copied for this.
        found: list[Page] = ray.get([page.ref for page in self._pages or ()])
        pages = {page.page_id: page for page in found}
        shown = found[:_SHOWN_PAGES]
        images = {page.page_id: self._directory.page_image(page) for page in shown}
        ordered = {m: sorted(rows, key=lambda r: r[0]) for m, rows in finished.rollouts.items()}
        step = finished.version.step
        value = figures.record(step, pages, images, ordered)
        value["scores"]["failed"] = float(len(finished.failed))
        value["failed"] = finished.failed
        self._directory.evaluation(step, value)
        return Evaluated(finished.version, value["scores"])


def training_sampling(config: GrpoConfig) -> SamplingSpec:
    """How the completions that are trained on are drawn."""
    sampling = config.rollout.sampling
    return SamplingSpec(
        temperature=sampling.temperature, top_p=sampling.top_p, max_tokens=sampling.max_tokens
    )


def sampling_modes(config: GrpoConfig) -> Mapping[str, tuple[SamplingSpec, int]]:
    """How held-out pages are read: mode -> (sampling, transcriptions of each page)."""
    settings, trained = config.evaluation, training_sampling(config)
    modes: dict[str, tuple[SamplingSpec, int]] = {}
    if settings.greedy:
        modes["greedy"] = (SamplingSpec(1.0, 1.0, trained.max_tokens, greedy=True), 1)
    if settings.sampled:
        modes["sampled"] = (trained, settings.samples_per_page)
    return modes
