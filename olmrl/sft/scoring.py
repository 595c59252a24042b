"""Evaluation pages that the policy reads in an SFT run: prompts out, scores of the texts back.

Scores come from the same rewards, under the same rules, as GRPO's held-out figures: closeness to
the answer that the set's pipeline makes, and unit tests where a page has some.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import ray

from olmrl.config.schema import ScorerConfig, SftConfig, folder_name
from olmrl.data.draw import draw_pages
from olmrl.data.encode import EncoderSpec
from olmrl.data.page import read_reference, scan_bench
from olmrl.data.payload import pack_block, unpack_block
from olmrl.data.render import BadPage
from olmrl.data.sets import PageItem, PageSet, asking_pipeline
from olmrl.data.steps import Dropped, StepContext
from olmrl.evaluation import figures
from olmrl.evaluation.judging import Judge, Judged
from olmrl.evaluation.reading import PageReading
from olmrl.rewards.pool import ScorerPool
from olmrl.run.directory import RunDirectory
from olmrl.types import Page, Rollout, UInt8Array

_SHOWN_PAGES = 4
"""Over all sets, but at least one of each."""
_POLL_S = 0.5
_MEANS = ("edit_similarity", "reading", "ended", "pass_rate")
"""Figures that are also averaged over the sets."""


@dataclass(frozen=True, slots=True)
class EvaluationPage:
    """A page to read and its truth."""

    title: str
    """The evaluation set."""
    page: Page
    """Its id is `<set>/<page>`, its reference the answer that training would teach."""
    block: Any
    """ObjectRef of the block of its `EncodedPage`."""


class Scores(NamedTuple):
    """Scores of the pages that the policy read."""

    figures: dict[str, float]
    """`eval/<set>/<figure>` and the means `eval/<figure>`."""
    record: dict[str, Any]
    """For `evaluations/` (`figures.record`)."""


def sample_pages(
    config: SftConfig, sets: Sequence[PageSet], seed: int | None
) -> list[tuple[str, PageItem]]:
    """Draw the pages to read, as (set, page); every call draws the same.

    Args:
        config: the run.
        sets: its evaluation sets.
        seed: of the draw (`draw_pages`); None in a run begun before pages were drawn by origin.

    Raises:
        ValueError: not a bench folder, or no pipeline that makes a prompt.
    """
    generate = config.evaluation.generate
    if generate is None:
        return []
    everything = [(pages.name, pages.items) for pages in sets]
    if generate.bench is not None:
        asking = asking_pipeline(config)
        found = figures.with_baselines(scan_bench(generate.bench))
        items = tuple(PageItem(source, asking) for source in found)
        everything.append((folder_name(generate.bench), items))
    drawn = []
    for title, items in everything:
        if seed is None:
            order = np.random.default_rng(config.run.seed).permutation(len(items))
            drawn += [(title, items[k]) for k in sorted(order[: generate.pages])]
            continue
        chosen = draw_pages([item.source for item in items], generate.pages, seed)
        pages = {item.source.page_id: item for item in items}
        drawn += [(title, pages[source.page_id]) for source in chosen]
    return drawn


def prepare(
    drawn: Sequence[tuple[str, PageItem]], spec: EncoderSpec, directory: RunDirectory
) -> list[EvaluationPage]:
    """Render and encode pages; bad pages are listed and left out. Needs Ray."""
    encoder = spec.build()
    pages = []
    for title, (source, pipeline) in drawn:
        try:
            sample = pipeline.run(source, StepContext(np.random.default_rng(0), encoder))
            reference = None if isinstance(sample, Dropped) else sample.response
            if reference is None:
                reference = read_reference(source)
        except BadPage as bad:
            directory.bad_page(source.page_id, bad.path, bad.reason)
            continue
        if isinstance(sample, Dropped):
            directory.dropped_page(
                sample.pdf_path, sample.page_number, step=sample.step, rule=sample.rule
            )
            continue
        image, instruction = sample.image, sample.instruction
        assert image is not None and instruction is not None  # the pipelines were checked
        assert sample.order is not None
        page = Page(
            page_id=f"{title}/{source.page_id}",
            pdf_path=source.pdf_path,
            page_number=source.page_number,
            reference=reference,
            tests=source.tests,
            test_files=source.test_files,
        )
        text = encoder.chat(instruction, None, sample.order)
        block = pack_block(encoder.encode_prompt(page.page_id, text, [image]))
        pages.append(EvaluationPage(title, page, ray.put(block)))
    return pages


def score(
    step: int,
    pages: Sequence[EvaluationPage],
    readings: Sequence[PageReading],
    spec: EncoderSpec,
    directory: RunDirectory,
) -> Scores:
    """Score what the policy read. Needs Ray.

    Args:
        step: Steps in the weights.
        pages: What `prepare` gave.
        readings: One per page, named by its number.
        spec: Encoder of the pages.
        directory: Takes the pictures of the pages shown.
    """

    def picture(page: EvaluationPage) -> UInt8Array:
        return spec.build().picture(unpack_block(ray.get(page.block)))

    judged = _judge(pages, readings)
    by_title: dict[str, list[tuple[str, Rollout]]] = {}
    for one in judged:
        page = pages[one.name]
        by_title.setdefault(page.title, []).append((page.page.page_id, one.rollout))
    known = {one.page.page_id: one.page for one in pages}
    named_figures: dict[str, float] = {}
    tallies = {title: figures.Tally.of(known, mine) for title, mine in by_title.items()}
    for title, tally in tallies.items():
        named = _renamed(tally.scores())
        named_figures |= {f"eval/{title}/{name}": value for name, value in named.items()}
    for name in _MEANS:
        values = [named_figures[k] for t in by_title if (k := f"eval/{t}/{name}") in named_figures]
        if values:
            named_figures[f"eval/{name}"] = sum(values) / len(values)
    failures = {pages[one.name].page.page_id: one.failure for one in judged if one.failure}
    if failures:
        named_figures["eval/unscored_pages"] = float(len(failures))
    images = {
        one.page.page_id: directory.page_image(one.page.page_id, partial(picture, one))
        for one in shown(pages)
    }
    every = figures.Tally.joined(tallies.values())
    record = figures.record(step, known, images, {"greedy": every})
    record["scores"] |= {name.removeprefix("eval/"): value for name, value in named_figures.items()}
    record["unscored"] = failures
    return Scores(named_figures, record)


def shown(pages: Sequence[EvaluationPage]) -> list[EvaluationPage]:
    """The pages whose pictures and transcriptions are kept: the first few of every set."""
    each = max(1, _SHOWN_PAGES // max(1, len({one.title for one in pages})))
    by_title: dict[str, list[EvaluationPage]] = {}
    for one in pages:
        by_title.setdefault(one.title, []).append(one)
    return [page for mine in by_title.values() for page in mine[:each]]


def _judge(pages: Sequence[EvaluationPage], readings: Sequence[PageReading]) -> list[Judged]:
    """The reading of every page with its scores, by number."""
    scorers = ScorerPool(figures.REWARDS, ScorerConfig(workers=1), group_size=1)
    try:
        judge = Judge(scorers)
        for reading in readings:
            assert reading.completion is not None  # the policy itself never gives up
            number = int(reading.name)
            judge.submit(number, ray.put(pages[number].page), reading.completion)
        judged: list[Judged] = []
        while len(judge):
            judged += judge.poll(_POLL_S)
        return sorted(judged, key=lambda one: one.name)
    finally:
        scorers.close()


def _renamed(scores: dict[str, float]) -> dict[str, float]:
    """Figures of a set, without the bench reward, which `pass_rate` already says."""
    named = {n: v for n, v in scores.items() if not n.startswith("reward/")}
    if "reward/edit_distance" in scores:
        named["edit_similarity"] = scores["reward/edit_distance"]
    return named
