"""Ray Data streams of pages: exact order, bounded memory, resumable at any position.

The order of an epoch is a pure function of (seed, epoch). A stream starts at any (epoch, index) by
asking Ray Data for the remaining positions only, so nothing is rendered twice. Tasks render (and
encode) a few pages each, and Ray Data holds back once the asked number waits in the object store.
"""

from __future__ import annotations

import logging
import pickle
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import ray
from ray.data import ExecutionResources
from ray.data._internal.execution.execution_callback import ExecutionCallback

from olmrl.data.encode import EncoderSpec
from olmrl.data.order import order
from olmrl.data.page import PageSource, load_page
from olmrl.data.render import BadPage
from olmrl.types import EncodedPage, Int64Array, Page

_TASKS_PER_EXECUTION = 512
"""Tasks of one Ray Data execution; starting one costs about 0.2 s."""

_QUICK_STEP_S, _QUICK_STEPS = 0.01, 10
"""So many steps in a row of Ray Data's scheduler, each faster than this, wait for nothing."""
_PAUSE_S = 0.02
"""Pause between further such steps."""

_MOST_PAGES_PER_TASK = 8
"""Pages that one task renders."""

StreamItem = tuple[int, int, Any]
"""Epoch, place in the epoch's order, and what the work made of the item there."""


class Work(Protocol):
    """What happens to one item, inside a Ray Data task. Picklable."""

    def __call__(self, epoch: int, index: int, item: int, /) -> Any:
        """Make a picklable value of item number `item`, at place `index` of epoch `epoch`."""


@lru_cache(maxsize=4)
def _cached_order(count: int, seed: int, epoch: int) -> Int64Array:
    return order(count, seed, epoch)


@dataclass(frozen=True, slots=True)
class OrderedStream:
    """Items of a fixed set, worked on by Ray Data tasks, in the order of (seed, epoch).

    Iterating starts at (start_epoch, start_index) each time.
    """

    work: Work
    count: int
    """Items of one epoch."""
    seed: int | None
    """Seed of the order; None keeps the items' own order in every epoch."""
    item_bytes: int
    """Upper estimate of one value's size, which turns `prefetch` into a memory bound."""
    start_epoch: int = 0
    start_index: int = 0
    epochs: int | None = None
    """Stop before this epoch; None goes on for ever."""
    prefetch: int = 32
    """Values held ready ahead of the consumer."""
    task_cpus: float = 1.0
    """Logical CPUs of one task."""
    task_resources: Mapping[str, float] | None = None
    """Custom Ray resources of one task."""
    most_per_task: int = _MOST_PAGES_PER_TASK
    """Items that one task works on; amortises what a task costs."""

    def __post_init__(self) -> None:
        if self.count < 1:
            raise ValueError("a stream needs at least one page")
        if not 0 <= self.start_index <= self.count or self.start_epoch < 0:
            raise ValueError(
                f"cannot start at epoch {self.start_epoch}, page {self.start_index}: an epoch has "
                f"{self.count} pages"
            )

    def __iter__(self) -> Generator[StreamItem, None, None]:
        position = self.start_epoch * self.count + self.start_index
        end = None if self.epochs is None else self.epochs * self.count
        shared = ray.put((self.work, self.count, self.seed))
        per_task = max(1, min(self.most_per_task, self.prefetch // 4))
        while end is None or position < end:
            stop = position + per_task * _TASKS_PER_EXECUTION
            stop = stop if end is None else min(stop, end)
            yield from self._execute(shared, position, stop, -(-(stop - position) // per_task))
            position = stop

    def _execute(
        self, shared: ray.ObjectRef, first: int, stop: int, blocks: int
    ) -> Iterator[StreamItem]:
        dataset = ray.data.range(stop - first, override_num_blocks=blocks).map_batches(
            _Task(shared, first),
            batch_size=None,
            num_cpus=self.task_cpus,
            resources=dict(self.task_resources or {}),
        )
        context = dataset.context
        context.enable_progress_bars = False
        context.print_on_execution_start = False
        context.execution_no_progress_timeout_s = -1  # a consumer may pause as long as it likes
        context.custom_execution_callback_classes = [_Unhurried]
        context.execution_options.preserve_order = True
        context.execution_options.resource_limits = ExecutionResources.for_limits(
            object_store_memory=self.prefetch * self.item_bytes
        )
        logging.getLogger("ray.data").setLevel(logging.WARNING)
        logging.getLogger("ray.data._internal.progress").setLevel(logging.ERROR)
        for batch in dataset.iter_batches(batch_size=None, batch_format="pyarrow"):
            for position, value in zip(batch["position"], batch["value"], strict=True):
                epoch, index = divmod(position.as_py(), self.count)
                yield epoch, index, pickle.loads(value.as_buffer())


class _Unhurried(ExecutionCallback):
    """Keeps Ray Data's scheduling thread from spinning.

    While the asked number of values waits for the consumer it has nothing to wait for itself, and
    took a whole core and this process's interpreter lock (ray 2.60).
    """

    def __init__(self) -> None:
        self._ended = time.monotonic()
        self._quick = 0

    def on_execution_step(self, executor: Any) -> None:
        """Pause when the scheduler goes round and round."""
        quick = time.monotonic() - self._ended < _QUICK_STEP_S
        self._quick = self._quick + 1 if quick else 0
        if self._quick > _QUICK_STEPS:
            time.sleep(_PAUSE_S)
        self._ended = time.monotonic()


@dataclass(frozen=True, slots=True)
class _Task:
    """The function of one Ray Data task: some positions to their values."""

    shared: Any
    """ObjectRef of (work, count, seed)."""
    first: int

    def __call__(self, batch: dict[str, Any]) -> pa.Table:
        work, count, seed = _fetch(self.shared)
        positions = batch["id"].astype(np.int64) + self.first
        values = []
        for position in positions.tolist():
            epoch, index = divmod(position, count)
            item = index if seed is None else int(_cached_order(count, seed, epoch)[index])
            values.append(pickle.dumps(work(epoch, index, item), protocol=5))
        return pa.table({"position": positions, "value": pa.array(values, pa.large_binary())})


@lru_cache(maxsize=2)
def _fetch(shared: ray.ObjectRef) -> Any:
    """What all tasks of a stream need, fetched once per worker process."""
    return ray.get(shared)


@dataclass(frozen=True, slots=True)
class PreparedPage:
    """A page with its encoding, for engines and learner alike."""

    page: Page
    encoded: EncodedPage


@dataclass(frozen=True, slots=True)
class PageWork:
    """Render a page, and encode it when asked to."""

    sources: tuple[PageSource, ...]
    longest_side: int
    encoder: EncoderSpec | None = None

    def __call__(self, epoch: int, index: int, item: int) -> Page | PreparedPage | BadPage:
        """The page, or why it cannot be used."""
        try:
            page = load_page(self.sources[item], self.longest_side)
            if self.encoder is None:
                return page
            return PreparedPage(page, self.encoder.build().encode_page(page))
        except BadPage as bad:
            return bad


def image_bytes(longest_side: int, *, page: bool, encoded: bool) -> int:
    """Most bytes that a page takes as pixels and as patches (float32, two frames)."""
    pixels = 3 * longest_side**2
    return max(1024, pixels * (int(page) + 8 * int(encoded)))


class PageStream:
    """Pages of a folder for ever, each with its exact place: yields (epoch, index, value).

    The value is a `Page` (or a `PreparedPage`), or a `BadPage` in the place of an unusable one.

    Args:
        sources: Pages of one epoch.
        seed: Seed of the order; None keeps the order of `sources`.
        longest_side: Pixels of the longer side.
        start_epoch: Epoch to start in.
        start_index: Place in that epoch to start at.
        epochs: Stop before this epoch; None goes on for ever.
        prefetch: Pages held ready ahead of the consumer.
        render_cpus: Logical CPUs of one rendering task.
        resources: Custom Ray resources of one rendering task.
        encoder: Also encode each page, and yield `PreparedPage`s.

    Raises:
        ValueError: no sources, or a start outside the epoch.
    """

    def __init__(
        self,
        sources: Sequence[PageSource],
        *,
        seed: int | None,
        longest_side: int,
        start_epoch: int = 0,
        start_index: int = 0,
        epochs: int | None = None,
        prefetch: int = 32,
        render_cpus: float = 1.0,
        resources: Mapping[str, float] | None = None,
        encoder: EncoderSpec | None = None,
    ) -> None:
        self._stream = OrderedStream(
            work=PageWork(tuple(sources), longest_side, encoder),
            count=len(sources),
            seed=seed,
            item_bytes=image_bytes(longest_side, page=True, encoded=encoder is not None),
            start_epoch=start_epoch,
            start_index=start_index,
            epochs=epochs,
            prefetch=prefetch,
            task_cpus=render_cpus,
            task_resources=resources,
        )

    def __iter__(self) -> Generator[StreamItem, None, None]:
        yield from self._stream
