"""The configured sets of page pairs on disk: their pages, steps and counts.

Nothing here opens a page or needs Ray; `page_sets` validates pages and makes examples of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from olmrl.config.schema import DatasetConfig, SftConfig, SftDataConfig
from olmrl.data.draw import draw_pages
from olmrl.data.page import PageSource, scan_pairs
from olmrl.data.steps import Pipeline, build_pipeline
from olmrl.data.steps.reading import PDFRenderer
from olmrl.data.text_rules import known_rules
from olmrl.data.validate import GOOD, verdicts


class PageItem(NamedTuple):
    """A page and the steps it goes through."""

    source: PageSource
    pipeline: Pipeline


@dataclass(frozen=True, slots=True)
class PageSet:
    """Scanned and validated pages of one epoch; a repeated page occurs that often."""

    name: str
    items: tuple[PageItem, ...]

    @property
    def longest_side(self) -> int:
        """Pixels of the longer side of the largest page image."""
        pipelines = {id(item.pipeline): item.pipeline for item in self.items}.values()
        steps = [step for pipeline in pipelines for step in pipeline.steps]
        return max(
            (s.target_longest_image_dim for s in steps if isinstance(s, PDFRenderer)), default=1
        )


def scan_sets(
    config: SftDataConfig, seed: int | None = None
) -> tuple[PageSet, tuple[PageSet, ...]]:
    """Training set and evaluation sets on disk, bad pages included; needs no Ray.

    Args:
        config: The data section.
        seed: Draws the pages that limits leave (`draw_pages`).

    Raises:
        ValueError: an unknown step or an empty folder.
    """
    pipelines = pipelines_of(config)
    entries = (*config.train, *config.evaluation)
    found = [scan_pairs(entry.root).sources for entry in entries]
    return page_sets_of(config, found, pipelines, seed)


class SetCount(NamedTuple):
    """Pages of one set, without opening any."""

    name: str
    training: bool
    kept: tuple[bool, ...]
    """By page of an epoch: False where a rule on its text is known to drop it."""
    bad: int
    """Known from an earlier run to be unusable."""
    unseen: int
    """Not validated yet; counted as good and kept."""
    problem: str
    """Why it cannot be counted; empty if it can."""

    @property
    def pages(self) -> int:
        """Pages in an epoch, limit and repeats included."""
        return len(self.kept)

    @property
    def dropped(self) -> int:
        """Pages of an epoch that a rule on their text is known to drop."""
        return self.kept.count(False)


def count_sets(config: SftDataConfig, cache_dir: str, seed: int | None = None) -> list[SetCount]:
    """Count the pages of the configured sets from what earlier runs found; needs no Ray.

    Args:
        config: The data section.
        cache_dir: As for `load_sets`.
        seed: Draws the pages that limits leave (`draw_pages`).

    Raises:
        ValueError: a pipeline that cannot work, as in `load_sets`.
    """
    pipelines = pipelines_of(config)
    entries = [(entry, True) for entry in config.train]
    entries += [(entry, False) for entry in config.evaluation]
    return [
        _count_set(*entry, pipeline, config.cache_dir or cache_dir, seed)
        for entry, pipeline in zip(entries, pipelines, strict=True)
    ]


def _count_set(
    entry: DatasetConfig, training: bool, pipeline: Pipeline, cache_dir: str, seed: int | None
) -> SetCount:
    try:
        sources = scan_pairs(entry.root).sources
    except (ValueError, OSError) as error:
        return SetCount(entry.title, training, (), 0, 0, str(error))
    found = verdicts(sources, cache_dir)
    usable = [s for s, said in zip(sources, found, strict=True) if said is None or said in GOOD]
    pages = [(source, pipeline) for source in draw_pages(usable, entry.limit, seed)]
    rules = known_rules(pages, cache_dir) if training else [None] * len(pages)
    kept = tuple(not rule for rule in rules)
    bad = len(sources) - len(usable)
    return SetCount(entry.title, training, kept * entry.repeat, bad, found.count(None), "")


def page_sets_of(
    config: SftDataConfig,
    sources: Sequence[Sequence[PageSource]],
    pipelines: Sequence[Pipeline],
    seed: int | None,
) -> tuple[PageSet, tuple[PageSet, ...]]:
    """The training set, concatenated, and the evaluation sets, from the pages of each entry."""
    entries = (*config.train, *config.evaluation)
    sets = [
        _page_set(entry, pages, pipeline, seed)
        for entry, pages, pipeline in zip(entries, sources, pipelines, strict=True)
    ]
    split = len(config.train)
    train = PageSet("train", tuple(item for part in sets[:split] for item in part.items))
    return train, tuple(sets[split:])


def pipelines_of(config: SftDataConfig) -> list[Pipeline]:
    """The pipeline of each set; built first, as a misspelt step needs no page to be found."""
    shared = build_pipeline(config.pipeline, "data.pipeline")
    built = []
    for key, entries in (("train", config.train), ("evaluation", config.evaluation)):
        for number, entry in enumerate(entries):
            where = f"data.{key}[{number}].pipeline"
            if entry.pipeline is not None:
                pipeline = build_pipeline(entry.pipeline, where)
            else:
                where = "data.pipeline"
                pipeline = shared if key == "train" else shared.for_evaluation()
            pipeline.check(f"set {entry.title}, {where}", ["example"])
            built.append(pipeline)
    return built


def asking_pipeline(config: SftConfig) -> Pipeline:
    """The steps that pages of `evaluation.generate.bench` go through.

    Raises:
        ValueError: they lack an image, an instruction or their order, or a prompt.
    """
    asking = build_pipeline(config.data.pipeline, "data.pipeline").for_asking()
    asking.check("evaluation.generate.bench, data.pipeline", ["image", "instruction", "order"])
    return asking


def _page_set(
    entry: DatasetConfig, pages: Sequence[PageSource], pipeline: Pipeline, seed: int | None
) -> PageSet:
    if not pages:
        raise ValueError(f"{entry.root}: no usable page pair in it")
    drawn = draw_pages(pages, entry.limit, seed)
    items = tuple(PageItem(source, pipeline) for source in drawn)
    return PageSet(entry.title, items * entry.repeat)
