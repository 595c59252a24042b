"""Held-out evaluation through the engines of the run, while the learner waits for the score.

    start --page--> RolloutPool --completion--> take --> Judge --> poll: Evaluated

The Driver owns the loop: it starts an evaluation when the learner waits for one, and passes on what
the engines return.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from typing import Any, NamedTuple

import ray

from olmrl.config.schema import GrpoConfig
from olmrl.data.draw import draw_pages
from olmrl.data.encode import Encoder
from olmrl.data.page import PageSource, load_page
from olmrl.data.payload import pack_block, unpack_block
from olmrl.data.render import BadPage
from olmrl.evaluation import figures
from olmrl.evaluation.judging import Judge, Judged, fail
from olmrl.evaluation.reading import PageReader, PageReading, ReadingSpec
from olmrl.rewards.pool import ScorerPool
from olmrl.rollout.pool import RolloutPool
from olmrl.rollout.requests import Generated
from olmrl.run.bad_pages import BadPages
from olmrl.run.directory import RunDirectory
from olmrl.types import PolicyVersion, Rollout, SamplingSpec, UInt8Array

_SHOWN_PAGES = 4
_MARK = "evaluation:"
_BEST = ("selection/pass_rate", "greedy/pass_rate", "sampled/pass_rate")
"""Figures that select the best checkpoint: the first of these that was measured."""
_LEAST_TO_HALVE = 16
"""Held-out pages below which all of them choose the best checkpoint, and none is kept apart."""


@dataclass(frozen=True, slots=True)
class Evaluated:
    """A finished evaluation."""

    version: PolicyVersion
    scores: dict[str, float]
    """Figures by `<mode>/<figure>` (see `figures.Tally.scores`), and `failed`: number of
    transcriptions that could not be made or scored."""
    record: Mapping[str, Any]
    """As written to `evaluations/`."""

    @property
    def score(self) -> float | None:
        """What selects the best checkpoint; None if no page has a unit test."""
        return next((self.scores[name] for name in _BEST if name in self.scores), None)


class _HeldoutPage(NamedTuple):
    """A page, rendered and encoded once for all evaluations of the run."""

    page: Any
    """ObjectRef of the Page, for scorers."""
    block: Any
    """ObjectRef of the block of its EncodedPage, for engines."""


@dataclass
class _Running:
    """Held-out pages in flight."""

    version: PolicyVersion
    readers: dict[str, PageReader]
    """By mode."""
    rollouts: dict[str, list[tuple[str, Rollout]]]
    """(page id, rollout) per mode."""
    failed: list[dict[str, str]] = field(default_factory=list)
    """Transcriptions that could not be made or scored, for the record."""


class HeldoutEvaluator:
    """Evaluates the weights that the engines hold.

    Args:
        config: the run.
        directory: takes the evaluations.
        sources: pages of the held-out bench folder.
        encoder: encodes pages for the model.
        pool: the run's engines.
        scorers: score held-out completions, each a group of its own.
    """

    def __init__(
        self,
        config: GrpoConfig,
        directory: RunDirectory,
        sources: Sequence[PageSource],
        encoder: Encoder,
        pool: RolloutPool,
        scorers: ScorerPool,
    ) -> None:
        self._config = config
        self._directory = directory
        self._sources = draw_pages(
            figures.with_baselines(sources),
            config.evaluation.max_pages,
            directory.page_seed(config.run.seed),
        )
        self._choosing = _half(self._sources, directory.page_seed(config.run.seed))
        self._encoder = encoder
        self._pool = pool
        self._judge = Judge(scorers)
        self._bad = BadPages(
            directory, self._sources, config.data.max_bad_fraction, "held-out pages"
        )
        self._pages: dict[str, _HeldoutPage] | None = None
        """By page id."""
        self._running: _Running | None = None

    @property
    def running(self) -> bool:
        """Whether an evaluation is in flight."""
        return self._running is not None

    @property
    def awaited(self) -> list[Any]:
        """Refs that resolve when `poll` has something to do."""
        return self._judge.awaited

    @staticmethod
    def owns(group_id: str) -> bool:
        """Whether a group belongs to an evaluation, even a forgotten one."""
        return group_id.startswith(_MARK)

    def start(self, version: PolicyVersion) -> None:
        """Ask the engines for all held-out pages.

        Args:
            version: of the weights they hold; part of the group ids, so that groups from before a
                learner restart are not taken for those of the same step after it.

        Raises:
            RunStopped: too many bad pages.
        """
        if self._pages is None:
            self._pages = self._render()
        modes = reading_modes(self._config)
        readers = {
            mode: PageReader(self._pool, spec, prefix=f"{_MARK}{version}:{mode}:")
            for mode, (spec, _) in modes.items()
        }
        self._running = _Running(version, readers, {mode: [] for mode in modes})
        for page_id, page in self._pages.items():
            for mode, (_, count) in modes.items():
                for sample in range(count):
                    readers[mode].ask(f"{page_id}#{sample}", page.block)

    def take(self, item: Generated) -> None:
        """Pass on what an engine made of a held-out page."""
        for mode, reader in self._running.readers.items() if self._running else ():
            reading = reader.take(item)
            if reading is not None:
                self._score(mode, reading)

    def poll(self) -> Evaluated | None:
        """Collect scored pages; returns the evaluation once it is complete and written."""
        for judged in self._judge.poll(0.0):
            self._note(judged)
        running = self._running
        if running is None or len(self._judge) or any(map(len, running.readers.values())):
            return None
        self._running = None
        return self._finish(running)

    def forget(self) -> None:
        """Drop the evaluation in flight: the learner that waited for it is gone."""
        for reader in self._running.readers.values() if self._running else ():
            self._pool.abort(reader.group_ids)
        self._judge.forget()
        self._running = None

    def _render(self) -> dict[str, _HeldoutPage]:
        pages = {}
        for source in self._sources:
            try:
                rendered = load_page(source, self._config.data.longest_side)
                block = pack_block(self._encoder.encode_page(rendered))
            except BadPage as bad:
                self._bad.add(bad)
            else:
                pages[source.page_id] = _HeldoutPage(ray.put(rendered.page), ray.put(block))
        return pages

    def _score(self, mode: str, reading: PageReading) -> None:
        assert self._running is not None and self._pages is not None
        page_id = reading.name.rpartition("#")[0]
        page = self._pages[page_id].page
        if reading.completion is not None:
            self._judge.submit((mode, page_id), page, reading.completion)
        else:
            nothing = figures.no_completion(reading.name, self._running.version)
            self._note(fail((mode, page_id), page, nothing, reading.failure))

    def _note(self, judged: Judged) -> None:
        assert self._running is not None
        mode, page_id = judged.name
        self._running.rollouts[mode].append((page_id, judged.rollout))
        if judged.failure:
            failed = {"page_id": page_id, "mode": mode, "reason": judged.failure}
            self._running.failed.append(failed | {"text": judged.text})

    def _finish(self, finished: _Running) -> Evaluated:
        assert self._pages is not None
        pages = {page_id: ray.get(one.page) for page_id, one in self._pages.items()}
        images = {
            page_id: self._directory.page_image(page_id, partial(self._picture, one.block))
            for page_id, one in islice(self._pages.items(), _SHOWN_PAGES)
        }
        modes = {
            mode: figures.Tally.of(pages, sorted(rows, key=lambda row: row[0]))
            for mode, rows in finished.rollouts.items()
        }
        step = finished.version.step
        value = figures.record(step, pages, images, modes)
        value["scores"]["failed"] = float(len(finished.failed))
        if self._choosing:
            most = max(modes, key=lambda mode: len(modes[mode].rollouts))  # the first of equals
            value["scores"] |= self._halves(modes[most])
            figures.add_halves(value["by_page"], most, self._choosing)
        value["failed"] = finished.failed
        self._directory.write_evaluation(step, value)
        return Evaluated(finished.version, value["scores"], value)

    def _halves(self, read: figures.Tally) -> dict[str, float]:
        """Pass rates with their standard errors of the pages that choose the best checkpoint, and
        of the others."""
        chosen = self._choosing
        found = {
            "selection": read.mean_and_error("pass_rate", lambda page_id: page_id in chosen),
            "reported": read.mean_and_error("pass_rate", lambda page_id: page_id not in chosen),
        }
        scores: dict[str, float] = {}
        for name, both in found.items():
            if both is not None:
                scores[f"{name}/pass_rate"], scores[f"{name}/pass_rate_error"] = both
        return {name: value for name, value in scores.items() if value == value}

    def _picture(self, block: Any) -> UInt8Array:
        return self._encoder.picture(unpack_block(ray.get(block)))


def _half(sources: Sequence[PageSource], seed: int | None) -> frozenset[str]:
    """Pages whose figures choose the best checkpoint; none if they are too few to be halved, or in
    a run that began before they were."""
    if seed is None or len(sources) < _LEAST_TO_HALVE:
        return frozenset()
    return frozenset(page.page_id for page in draw_pages(sources, len(sources) // 2, seed))


def training_sampling(config: GrpoConfig) -> SamplingSpec:
    """How training completions are drawn."""
    sampling = config.rollout.sampling
    return SamplingSpec(
        temperature=sampling.temperature, top_p=sampling.top_p, max_tokens=sampling.max_tokens
    )


def reading_modes(config: GrpoConfig) -> Mapping[str, tuple[ReadingSpec, int]]:
    """How held-out pages are read: mode -> (how, transcriptions of each page)."""
    settings, trained, seed = config.evaluation, config.rollout.sampling, config.run.seed
    modes: dict[str, tuple[ReadingSpec, int]] = {}
    if settings.greedy:
        modes["greedy"] = (ReadingSpec(trained.max_tokens, seed=seed), 1)
    if settings.sampled:
        sampled = ReadingSpec(trained.max_tokens, (trained.temperature,), trained.top_p, seed)
        modes["sampled"] = (sampled, settings.samples_per_page)
    return modes
