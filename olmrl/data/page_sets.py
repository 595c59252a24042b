"""SFT pages: the usable page pairs of the configured sets, and the examples that they become."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from olmrl.config.schema import SftDataConfig
from olmrl.data.draw import limit_note
from olmrl.data.encode import EncoderSpec
from olmrl.data.encoded import EncodedExample
from olmrl.data.found import FoundPairs
from olmrl.data.items import ExampleNote, Made
from olmrl.data.page import PageSource, Place, refuse_again, scan_pairs
from olmrl.data.render import BadPage
from olmrl.data.sets import PageSet, page_sets_of, pipelines_of
from olmrl.data.steps import Dropped, StepContext
from olmrl.data.streams import OrderedStream, patch_bytes
from olmrl.data.tally import Tally, excess_bad
from olmrl.data.text_rules import drop_rules
from olmrl.data.validate import validate

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
    found: FoundPairs
    """What lay in the folders, and what became of it."""
    opened: int
    """Pairs opened to validate them; the verdicts of the others were cached."""
    foreseen: tuple[str, ...]
    """For each page of `train`: the rule on its text that will drop it; empty: it is kept."""
    notes: tuple[str, ...]
    """Sentences about limits that ask for more pages than there are."""

    def sources(self) -> list[PageSource]:
        """Every page of all sets, bad ones included."""
        items = [item for pages in (self.train, *self.evaluation) for item in pages.items]
        return [item.source for item in items] + [source for source, _ in self.bad]


def load_sets(config: SftDataConfig, cache_dir: str, seed: int | None = None) -> SftPages:
    """Scan and validate the configured sets. Needs Ray if there are pairs not seen before.

    Args:
        config: The data section.
        cache_dir: Folder of the validation cache (`config.cache_dir` wins).
        seed: Draws the pages that limits leave (`draw_pages`).

    Raises:
        ValueError: an unknown step, an empty folder, no usable page, too many bad ones, or a
            training set whose pages are all dropped by rules on their text.
    """
    pipelines = pipelines_of(config)
    scans = [scan_pairs(entry.root) for entry in (*config.train, *config.evaluation)]
    pages = [source for scan in scans for source in scan.sources]
    cache_dir = config.cache_dir or cache_dir
    judge = partial(_map_by_tasks, resources=config.resources)
    checked = validate(pages, cache_dir, judge)
    problem = excess_bad(len(checked.bad), len(pages), config.max_bad_fraction)
    if problem:
        shown = "; ".join(str(page) for page in checked.bad[:_SHOWN])
        raise ValueError(f"{problem}; the first: {shown}")
    bad = {page.path for page in checked.bad}
    usable = [[s for s in scan.sources if s.pdf_path not in bad] for scan in scans]
    train, evaluation = page_sets_of(config, usable, pipelines, seed)
    rules = drop_rules(train.items, cache_dir, judge)
    _require_kept(rules)
    by_path = {source.pdf_path: source for source in pages}
    refused = [(by_path[page.path], page) for page in checked.bad]
    usable_paths = {source.pdf_path for sources in usable for source in sources}
    used = {i.source.pdf_path for pages_of in (train, *evaluation) for i in pages_of.items}
    dropped = {i.source.pdf_path for i, rule in zip(train.items, rules, strict=True) if rule}
    found = FoundPairs(
        [path for scan in scans for path in (*scan.orphans, *scan.lone_pdfs)],
        len(by_path) - len(usable_paths),
        len(dropped),
        len(usable_paths - used),
        len(used) - len(dropped),
        len(checked.plain),
    )
    notes = [
        limit_note(f"limit of set {entry.title}", entry.limit, len(there))
        for entry, there in zip((*config.train, *config.evaluation), usable, strict=True)
    ]
    said = tuple(note for note in notes if note)
    return SftPages(train, evaluation, refused, found, checked.opened, tuple(rules), said)


def _map_by_tasks(
    function: Callable[[Any], Any], items: Sequence[Any], resources: Mapping[str, float] | None
) -> Iterable[Any]:
    """`map`, many items to a task of Ray Data."""
    stream = OrderedStream(
        _Map(function, tuple(items)),
        seed=None,
        epochs=1,
        prefetch=16 * 1024,
        task_resources=resources,
        most_per_task=_PAIRS_PER_TASK,
    )
    return (item.note for item in stream)


@dataclass(frozen=True, slots=True)
class _Map:
    """A function of items as `Work`, its results light."""

    function: Callable[[Any], Any]
    items: tuple[Any, ...]
    item_bytes: int = 1024

    @property
    def count(self) -> int:
        return len(self.items)

    def __call__(self, epoch: int, index: int, item: int) -> Made:
        return Made(self.function(self.items[item]))


def _require_kept(rules: Sequence[str]) -> None:
    if all(rules):
        tally = Tally()
        for step, _, rule in (found.partition(": ") for found in rules):
            tally.dropped[step, rule] += 1
        tally.require_some()


def place_random(seed: int, epoch: int, index: int) -> np.random.Generator:
    """Random numbers of a place in an epoch, the same whoever draws them."""
    return np.random.default_rng([seed, epoch, index])


@dataclass(frozen=True, slots=True)
class ExampleWork:
    """Take one page through its set's pipeline.

    Every page has its place in an epoch, so positions are exact whatever is dropped.
    """

    pages: PageSet
    """The pages of one epoch."""
    encoder: EncoderSpec
    max_tokens: int
    """Longer pages are dropped."""
    seed: int = 0
    """Seed of the augmentation."""
    not_again: Mapping[Place, str] = field(default_factory=dict)
    """Pages that are known to cost a reader, with their reasons: they are not opened."""

    @property
    def count(self) -> int:
        """Pages of one epoch."""
        return len(self.pages.items)

    @property
    def item_bytes(self) -> int:
        """Most bytes of a page's patches."""
        return patch_bytes(self.pages.longest_side)

    def __call__(self, epoch: int, index: int, item: int) -> Made:
        """Note an `ExampleNote`, with the `EncodedExample` as payload; or why there is none."""
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
            refuse_again(source, self.not_again)
            result = pipeline.run(source, context)
        except BadPage as bad:
            return bad
        if isinstance(result, Dropped):
            return result
        assert result.example is not None  # Pipeline.check made sure
        if result.example.num_tokens > self.max_tokens:
            rule = f"more than {self.max_tokens} tokens"
            return Dropped(source.page_id, source.pdf_path, source.page_number, "Tokenizer", rule)
        return result.example
