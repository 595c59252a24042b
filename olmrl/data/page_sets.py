"""SFT pages: configured sets of page pairs, and the stream of examples that they become."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from olmrl.config.schema import DatasetConfig, SftDataConfig
from olmrl.data.encode import EncoderSpec
from olmrl.data.encoded import EncodedExample
from olmrl.data.page import PageSource, scan_pairs
from olmrl.data.render import BadPage
from olmrl.data.steps import Dropped, Pipeline, StepContext, build_pipeline
from olmrl.data.steps.reading import PDFRenderer
from olmrl.data.streams import OrderedStream, StreamItem, image_bytes
from olmrl.data.tally import Tally, excess_bad
from olmrl.data.text_rules import drop_rules, known_rules
from olmrl.data.validate import validate, verdicts

_SHOWN = 3
"""Bad pages quoted in an error."""


class PageItem(NamedTuple):
    """A page and the steps it goes through."""

    source: PageSource
    pipeline: Pipeline


@dataclass(frozen=True, slots=True)
class PageSet:
    """Scanned and validated pages of one epoch; a page that repeats occurs as often."""

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


class SftPages(NamedTuple):
    """All pages of an SFT run."""

    train: PageSet
    """The training sets, concatenated."""
    evaluation: tuple[PageSet, ...]
    bad: list[tuple[PageSource, BadPage]]
    """Pages that cannot be used, over all sets."""
    orphans: int
    """.md files without a PDF; they are no pages."""
    opened: int
    """Pairs opened to validate them; the others were known from an earlier run."""
    foreseen: tuple[str, ...]
    """By page of `train`: the rule on its text that will drop it, empty for a kept one."""

    def sources(self) -> list[PageSource]:
        """Every page of all sets, bad ones included."""
        items = [item for pages in (self.train, *self.evaluation) for item in pages.items]
        return [item.source for item in items] + [source for source, _ in self.bad]


def load_sets(config: SftDataConfig, cache_dir: str) -> SftPages:
    """Scan and validate the configured sets. Needs Ray when there are pairs not seen before.

    Args:
        config: The data section.
        cache_dir: Folder of the validation cache (`config.cache_dir` wins).

    Raises:
        ValueError: an unknown step, an empty folder, no usable page, too many bad ones, or a
            training set whose pages are all dropped by rules on their text.
    """
    pipelines = _pipelines(config)
    scans = [scan_pairs(entry.root) for entry in (*config.train, *config.evaluation)]
    pages = [source for scan in scans for source in scan.sources]
    cache_dir = config.cache_dir or cache_dir
    checked = validate(pages, cache_dir, config.resources)
    problem = excess_bad(len(checked.bad), len(pages), config.max_bad_fraction)
    if problem:
        shown = "; ".join(str(page) for page in checked.bad[:_SHOWN])
        raise ValueError(f"{problem}; the first: {shown}")
    bad = {page.path for page in checked.bad}
    usable = [[s for s in scan.sources if s.pdf_path not in bad] for scan in scans]
    orphans = sum(len(scan.orphans) for scan in scans)
    train, evaluation = _page_sets(config, usable, pipelines)
    rules = drop_rules(train.items, cache_dir, config.resources)
    _require_kept(rules)
    by_path = {source.pdf_path: source for source in pages}
    found = [(by_path[page.path], page) for page in checked.bad]
    return SftPages(train, evaluation, found, orphans, checked.opened, tuple(rules))


def scan_sets(config: SftDataConfig) -> tuple[PageSet, tuple[PageSet, ...]]:
    """Training set and evaluation sets as they lie on disk, bad pages included; needs no Ray.

    Raises:
        ValueError: an unknown step or an empty folder.
    """
    pipelines = _pipelines(config)
    entries = (*config.train, *config.evaluation)
    return _page_sets(config, [scan_pairs(entry.root).sources for entry in entries], pipelines)


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
    """Why it cannot be counted, empty where it can."""

    @property
    def pages(self) -> int:
        """What it gives an epoch, limit and repeats included."""
        return len(self.kept)

    @property
    def dropped(self) -> int:
        """Pages of an epoch that a rule on their text is known to drop."""
        return self.kept.count(False)


def count_sets(config: SftDataConfig, cache_dir: str) -> list[SetCount]:
    """Count the pages of the configured sets from what earlier runs found; needs no Ray.

    Args:
        config: The data section.
        cache_dir: As for `load_sets`.

    Raises:
        ValueError: a pipeline that cannot work, as of `load_sets`.
    """
    pipelines = _pipelines(config)
    entries = [(entry, True) for entry in config.train]
    entries += [(entry, False) for entry in config.evaluation]
    return [
        _count_set(*entry, pipeline, config.cache_dir or cache_dir)
        for entry, pipeline in zip(entries, pipelines, strict=True)
    ]


def _count_set(
    entry: DatasetConfig, training: bool, pipeline: Pipeline, cache_dir: str
) -> SetCount:
    try:
        sources = scan_pairs(entry.root).sources
    except (ValueError, OSError) as error:
        return SetCount(entry.title, training, (), 0, 0, str(error))
    found = verdicts(sources, cache_dir)
    usable = [source for source, reason in zip(sources, found, strict=True) if not reason]
    pages = [(source, pipeline) for source in usable[: entry.limit]]
    rules = known_rules(pages, cache_dir) if training else [None] * len(pages)
    kept = tuple(not rule for rule in rules)
    bad = len(sources) - len(usable)
    return SetCount(entry.title, training, kept * entry.repeat, bad, found.count(None), "")


def _page_sets(
    config: SftDataConfig, sources: Sequence[Sequence[PageSource]], pipelines: Sequence[Pipeline]
) -> tuple[PageSet, tuple[PageSet, ...]]:
    entries = (*config.train, *config.evaluation)
    sets = [
        _page_set(entry, pages, pipeline)
        for entry, pages, pipeline in zip(entries, sources, pipelines, strict=True)
    ]
    split = len(config.train)
    train = PageSet("train", tuple(item for part in sets[:split] for item in part.items))
    return train, tuple(sets[split:])


def _pipelines(config: SftDataConfig) -> list[Pipeline]:
    """The pipeline of each set; built first, as a misspelt step is found without any page."""
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


def _page_set(entry: DatasetConfig, pages: Sequence[PageSource], pipeline: Pipeline) -> PageSet:
    if not pages:
        raise ValueError(f"{entry.root}: no usable page pair in it")
    items = tuple(PageItem(source, pipeline) for source in pages[: entry.limit])
    return PageSet(entry.title, items * entry.repeat)


def _require_kept(rules: Sequence[str]) -> None:
    if all(rules):
        tally = Tally()
        for step, _, rule in (found.partition(": ") for found in rules):
            tally.dropped[step, rule] += 1
        tally.require_some()


def place_random(seed: int, epoch: int, index: int) -> np.random.Generator:
    """What augmentation draws from at a place of an epoch, whoever runs it."""
    return np.random.default_rng([seed, epoch, index])


@dataclass(frozen=True, slots=True)
class ExampleWork:
    """Take one page through its set's pipeline."""

    pages: PageSet
    encoder: EncoderSpec
    max_tokens: int
    seed: int

    def __call__(self, epoch: int, index: int, item: int) -> EncodedExample | Dropped | BadPage:
        """The example, or why there is none."""
        source, pipeline = self.pages.items[item]
        random = place_random(self.seed, epoch, index)
        context = StepContext(random, self.encoder.build())
        try:
            result = pipeline.run(source, context)
        except BadPage as bad:
            return bad
        if isinstance(result, Dropped):
            return result
        assert result.example is not None  # the pipeline was checked
        if result.example.num_tokens > self.max_tokens:
            rule = f"more than {self.max_tokens} tokens"
            return Dropped(source.page_id, source.pdf_path, source.page_number, "Tokenizer", rule)
        return result.example


class ExampleStream:
    """Examples of a set in an exact order: yields (epoch, index, value).

    The value is an `EncodedExample`, or a `Dropped` or `BadPage` in the place of a page without
    one; every page of an epoch has its place, so positions are exact whatever is dropped.

    Args:
        pages: The pages of one epoch.
        encoder: The model's tokenizer and image processor.
        max_tokens: Longer pages are dropped.
        seed: Seed of order and augmentation; None keeps the set's own order.
        start_epoch: Epoch to start in.
        start_index: Place in that epoch to start at.
        epochs: Stop before this epoch; None goes on for ever.
        prefetch: Examples held ready ahead of the consumer.
        task_cpus: Logical CPUs of one task.
        resources: Custom Ray resources of one task.

    Raises:
        ValueError: no pages, or a start outside the epoch.
    """

    def __init__(
        self,
        pages: PageSet,
        encoder: EncoderSpec,
        *,
        max_tokens: int,
        seed: int | None,
        start_epoch: int = 0,
        start_index: int = 0,
        epochs: int | None = None,
        prefetch: int = 64,
        task_cpus: float = 1.0,
        resources: Mapping[str, float] | None = None,
    ) -> None:
        self._stream = OrderedStream(
            work=ExampleWork(pages, encoder, max_tokens, seed or 0),
            count=len(pages.items),
            seed=seed,
            item_bytes=image_bytes(pages.longest_side, page=False, encoded=True),
            start_epoch=start_epoch,
            start_index=start_index,
            epochs=epochs,
            prefetch=prefetch,
            task_cpus=task_cpus,
            task_resources=resources,
        )

    def __iter__(self) -> Iterator[StreamItem]:
        return iter(self._stream)
