"""SFT pages: the usable page pairs of the configured sets, and the examples that they become."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from olmrl.config.schema import SftDataConfig
from olmrl.data.encode import EncoderSpec
from olmrl.data.encoded import EncodedExample
from olmrl.data.page import PageSource, scan_pairs
from olmrl.data.payload import Made
from olmrl.data.render import BadPage
from olmrl.data.sets import PageSet, page_sets_of, pipelines_of
from olmrl.data.steps import Dropped, StepContext
from olmrl.data.streams import OrderedStream, StreamItem, patch_bytes
from olmrl.data.tally import Tally, excess_bad
from olmrl.data.text_rules import drop_rules
from olmrl.data.validate import validate
from olmrl.types import Int64Array

_PAIRS_PER_TASK = 64
"""Page pairs that one task of Ray Data validates."""

_SHOWN = 3
"""Bad pages quoted in an error."""


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
    pipelines = pipelines_of(config)
    scans = [scan_pairs(entry.root) for entry in (*config.train, *config.evaluation)]
    pages = [source for scan in scans for source in scan.sources]
    cache_dir = config.cache_dir or cache_dir
    judge = partial(judge_all, resources=config.resources)
    checked = validate(pages, cache_dir, judge)
    problem = excess_bad(len(checked.bad), len(pages), config.max_bad_fraction)
    if problem:
        shown = "; ".join(str(page) for page in checked.bad[:_SHOWN])
        raise ValueError(f"{problem}; the first: {shown}")
    bad = {page.path for page in checked.bad}
    usable = [[s for s in scan.sources if s.pdf_path not in bad] for scan in scans]
    orphans = sum(len(scan.orphans) for scan in scans)
    train, evaluation = page_sets_of(config, usable, pipelines)
    rules = drop_rules(train.items, cache_dir, judge)
    _require_kept(rules)
    by_path = {source.pdf_path: source for source in pages}
    found = [(by_path[page.path], page) for page in checked.bad]
    return SftPages(train, evaluation, found, orphans, checked.opened, tuple(rules))


def judge_all(
    work: Callable[[int, int, int], Any], count: int, resources: Mapping[str, float] | None
) -> Iterable[Any]:
    """What `work` says of each item, in order, many items to a task of Ray Data."""
    stream = OrderedStream(
        _Noted(work),
        count,
        seed=None,
        item_bytes=1024,
        epochs=1,
        prefetch=16 * 1024,
        task_resources=resources,
        most_per_task=_PAIRS_PER_TASK,
    )
    return (item.note for item in stream)


@dataclass(frozen=True, slots=True)
class _Noted:
    """Work whose values are light."""

    work: Callable[[int, int, int], Any]

    def __call__(self, epoch: int, index: int, item: int) -> Made:
        return Made(self.work(epoch, index, item))


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
class ExampleNote:
    """What is told of an example that stays in the object store."""

    page_id: str
    prompt_tokens: int
    response_tokens: int
    image_grid_thw: Int64Array
    """[I, 3]"""

    @property
    def num_tokens(self) -> int:
        """Prompt and response."""
        return self.prompt_tokens + self.response_tokens


@dataclass(frozen=True, slots=True)
class ExampleWork:
    """Take one page through its set's pipeline."""

    pages: PageSet
    encoder: EncoderSpec
    max_tokens: int
    seed: int

    def __call__(self, epoch: int, index: int, item: int) -> Made:
        """A note of the example and the `EncodedExample`; or why there is none."""
        made = self.example(epoch, index, item)
        if not isinstance(made, EncodedExample):
            return Made(made)
        page = made.page
        lengths = len(page.prompt_ids), len(made.response_ids)
        return Made(ExampleNote(page.page_id, *lengths, page.image_grid_thw), made)

    def example(self, epoch: int, index: int, item: int) -> EncodedExample | Dropped | BadPage:
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
    """Examples of a set in an exact order.

    The note of an item is an `ExampleNote` and its payload the `EncodedExample`; in the place of a
    page without one the note is a `Dropped` or `BadPage`. Every page of an epoch has its place, so
    positions are exact whatever is dropped.

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
            item_bytes=patch_bytes(pages.longest_side),
            start_epoch=start_epoch,
            start_index=start_index,
            epochs=epochs,
            prefetch=prefetch,
            task_cpus=task_cpus,
            task_resources=resources,
        )

    def __iter__(self) -> Iterator[StreamItem]:
        return iter(self._stream)
