"""Ray Data streams of pages: exact order, bounded memory, resumable at any position.

The order of an epoch is a pure function of (seed, epoch). A stream starts at any (epoch, index) by
asking Ray Data for the remaining positions only, so nothing is rendered twice. Tasks render and
encode a few pages each, and Ray Data pauses once the requested number waits in the object store.
Heavy payloads stay there: the consumer gets a light note by value, and a reference.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache, partial
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import ray
from ray.data import ExecutionResources
from ray.data._internal.execution.execution_callback import ExecutionCallback

from olmrl.data.encode import EncoderSpec
from olmrl.data.items import Made, StreamItem
from olmrl.data.order import order
from olmrl.data.page import PageSource, Place, load_page, refuse_again
from olmrl.data.payload import pack_block, unpack_block
from olmrl.data.render import BadPage
from olmrl.models.patches import images_encoded

_TASKS_PER_EXECUTION = 512
"""Tasks of one Ray Data execution; starting one costs about 0.2 s."""

_QUICK_STEP_S, _QUICK_STEPS = 0.01, 10
"""Ray Data's scheduler is idle after this many steps in a row that are each this quick."""
_PAUSE_S = 0.02
"""Pause after each further such step."""

CLOSING_S = 5.0
"""Longest wait for threads that iterate over a stream that was ended."""

_SMALLEST_BLOCK = 104 * 1024
"""Smallest size of a block of ours, bytes: a little more than Ray's limit.

Ray returns objects of at most 100 KiB by value, outside the object store, and does not release the
memory of all of those that a task yields (ray 2.60): a Driver that streams small pages would grow.
"""


class Work(Protocol):
    """What happens to one item, inside a Ray Data task. Picklable."""

    @property
    def count(self) -> int:
        """Items of one epoch."""

    @property
    def item_bytes(self) -> int:
        """Upper estimate of an item's size, which turns `prefetch` into a memory bound."""

    def __call__(self, epoch: int, index: int, item: int, /) -> Made:
        """Work on item number `item`, which has place `index` in epoch `epoch`."""


_cached_order = lru_cache(maxsize=4)(order)


class StreamEnded(Exception):
    """A stream was ended before its last item."""


@dataclass(slots=True)
class _Switch:
    """Whether a stream still runs. Picklable, as Ray Data sends its context to tasks."""

    on: bool = True


@dataclass(frozen=True, slots=True)
class OrderedStream:
    """Items of a fixed set, worked on by Ray Data tasks, in the order of (seed, epoch).

    Iterating starts at (start_epoch, start_index) each time.
    """

    work: Work
    seed: int | None
    """Seed of the order; None keeps the items' own order in every epoch."""
    start_epoch: int = 0
    start_index: int = 0
    epochs: int | None = None
    """Stop before this epoch; None: never."""
    prefetch: int = 32
    """Items held ready ahead of the consumer."""
    task_cpus: float = 1.0
    """Logical CPUs of one task."""
    task_resources: Mapping[str, float] | None = None
    """Custom Ray resources of one task."""
    most_per_task: int = 8
    """Most items of one task; amortises what a task costs."""
    _switch: _Switch = field(default_factory=_Switch, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.work.count < 1:
            raise ValueError("a stream needs at least one page")
        if not 0 <= self.start_index <= self.work.count or self.start_epoch < 0:
            raise ValueError(
                f"cannot start at epoch {self.start_epoch}, page {self.start_index}: an epoch has "
                f"{self.work.count} pages"
            )

    def __iter__(self) -> Generator[StreamItem, None, None]:
        count = self.work.count
        position = self.start_epoch * count + self.start_index
        end = None if self.epochs is None else self.epochs * count
        shared = ray.put((self.work, self.seed))
        per_task = max(1, min(self.most_per_task, self.prefetch // 4))
        while end is None or position < end:
            self._check()
            stop = position + per_task * _TASKS_PER_EXECUTION
            stop = stop if end is None else min(stop, end)
            yield from self._execute(shared, position, stop, per_task)
            position = stop
        self._check()

    def end(self) -> None:
        """End iterations in other threads by `StreamEnded`, without waiting for what is rendered.

        Some items that are ready may still come before.
        """
        self._switch.on = False

    def _check(self) -> None:
        if not self._switch.on:
            raise StreamEnded

    def _execute(
        self, shared: ray.ObjectRef, first: int, stop: int, per_task: int
    ) -> Iterator[StreamItem]:
        tasks = -(-(stop - first) // per_task)
        room = max(_SMALLEST_BLOCK, 32 * per_task)
        dataset = ray.data.range(stop - first, override_num_blocks=tasks).map_batches(
            _Task(shared, first, room),
            batch_size=None,
            num_cpus=self.task_cpus,
            resources=dict(self.task_resources or {}),
        )
        context = dataset.context
        context.enable_progress_bars = False
        context.print_on_execution_start = False
        context.execution_no_progress_timeout_s = -1  # a consumer may pause as long as it likes
        paced: Any = partial(_Pace, self._switch)  # Ray Data only calls what it asks a class for
        context.custom_execution_callback_classes = [paced]
        context.execution_options.preserve_order = True
        context.execution_options.resource_limits = ExecutionResources.for_limits(
            object_store_memory=self.prefetch * max(self.work.item_bytes, _SMALLEST_BLOCK)
        )
        # Ray Data closes a block beyond this size: every one of ours is larger, the 8-byte
        # numbers of a task's items together are smaller.
        context.target_max_block_size = room // 2
        logging.getLogger("ray.data").setLevel(logging.WARNING)
        logging.getLogger("ray.data._internal.progress").setLevel(logging.ERROR)
        blocks = (
            entry for bundle in dataset.iter_internal_ref_bundles() for entry in bundle.blocks
        )
        # The traceback of what ends a stream would keep Ray Data's executor until Ray is gone.
        with contextlib.closing(blocks):
            for block in blocks:
                for position, note, has_payload, image_calls in unpack_block(ray.get(block.ref)):
                    epoch, index = divmod(position, self.work.count)
                    payload, size = None, 0
                    if has_payload:
                        heavy = next(blocks, None)
                        self._check()
                        assert heavy is not None, "a note without its payload"
                        assert heavy.metadata.num_rows == 1, "a payload is a block of its own"
                        payload, size = heavy.ref, heavy.metadata.size_bytes
                    yield StreamItem(epoch, index, note, payload, size, image_calls)


class _Pace(ExecutionCallback):
    """Keeps Ray Data's scheduling thread from spinning, and ends it with its stream.

    Once the requested items are ready it polls without a pause, which takes a whole core and this
    process's interpreter lock (ray 2.60).
    """

    def __init__(self, switch: _Switch) -> None:
        self._switch = switch
        self._ended = time.monotonic()
        self._quick = 0

    def on_execution_step(self, executor: Any) -> None:
        """Pause when the scheduler is idle.

        Raises:
            SystemExit: the stream was ended; threads end by it without a word, and Ray Data takes
                the items made so far for all.
        """
        if not self._switch.on:
            raise SystemExit
        quick = time.monotonic() - self._ended < _QUICK_STEP_S
        self._quick = self._quick + 1 if quick else 0
        if self._quick > _QUICK_STEPS:
            time.sleep(_PAUSE_S)
        self._ended = time.monotonic()


@dataclass(frozen=True, slots=True)
class _Task:
    """The function of one Ray Data task: some positions to notes and payloads."""

    shared: Any
    """ObjectRef of (work, seed)."""
    first: int
    room: int
    """Smallest size of a block, bytes."""

    def __call__(self, batch: dict[str, Any]) -> Iterator[pa.Table]:
        """Yield the notes of all positions as one block, then a block for each payload."""
        work, seed = _fetch(self.shared)
        positions = batch["id"].astype(np.int64) + self.first
        notes, payloads = [], []
        for position in positions.tolist():
            epoch, index = divmod(position, work.count)
            item = index if seed is None else int(_cached_order(work.count, seed, epoch)[index])
            before = images_encoded()
            note, payload = work(epoch, index, item)
            notes.append((position, note, payload is not None, images_encoded() - before))
            if payload is not None:
                payloads.append(pack_block(payload, room=self.room))
            del payload
        yield pack_block(notes, room=self.room)
        yield from payloads


@lru_cache(maxsize=2)
def _fetch(shared: ray.ObjectRef) -> Any:
    """What all tasks of a stream need, fetched once per worker process."""
    return ray.get(shared)


@dataclass(frozen=True, slots=True)
class PageWork:
    """Render and encode a page."""

    sources: tuple[PageSource, ...]
    """Pages of one epoch."""
    longest_side: int
    """Pixels of the longer side."""
    encoder: EncoderSpec
    not_again: Mapping[Place, str] = field(default_factory=dict)
    """Pages that are known to cost a reader, with their reasons: they are not opened."""

    @property
    def count(self) -> int:
        """Pages of one epoch."""
        return len(self.sources)

    @property
    def item_bytes(self) -> int:
        """Most bytes of a page's patches."""
        return patch_bytes(self.longest_side)

    def __call__(self, epoch: int, index: int, item: int) -> Made:
        """Note the `Page`, with the `EncodedPage` as payload; or note a `BadPage`."""
        try:
            refuse_again(self.sources[item], self.not_again)
            rendered = load_page(self.sources[item], self.longest_side)
            return Made(rendered.page, self.encoder.build().encode_page(rendered))
        except BadPage as bad:
            return Made(bad)


def patch_bytes(longest_side: int) -> int:
    """Most bytes of the patches of a page whose longer side has this many pixels."""
    return max(2 * _SMALLEST_BLOCK, 3 * longest_side**2)
