"""Work over many items on Ray Data: a pool of actors, streaming, results in order."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import ray
import ray.data

from olmrl.mix.pdf_child import Call, PdfPool, outcome_of
from olmrl.ray_node import dying_with_node
from olmrl.ray_start import join, start_local

BATCH = 8
"""PDF calls per Ray Data batch; results are a megabyte or so each."""

Work = Callable[[Any], Any]
"""What is done to an item; item and result can be pickled."""


class _Actor:
    """One actor: makes its work once, and does it to every item of its batches."""

    def __init__(self, make: Callable[[], Work]) -> None:
        self.work = make()

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, list[bytes]]:
        items = (pickle.loads(data) for data in batch["item"])
        return {"value": [pickle.dumps(self.work(item)) for item in items]}


class PdfReader:
    """A pool of one child, so that a crashing PDF never takes the Ray worker along."""

    def __init__(self, deadline_s: float) -> None:
        self._pool = PdfPool(1, deadline_s)

    def __call__(self, call: Call) -> Any:
        """The outcome of a call."""
        return outcome_of(self._pool, call)


def map_on_ray(
    items: Iterable[Any],
    make: Callable[[], Work],
    *,
    workers: int,
    address: str,
    batch: int = BATCH,
) -> Iterator[Any]:
    """Yield `make()(item)` of every item, in order.

    Args:
        items: What to do.
        make: Called once by each actor, can be pickled.
        workers: Actors.
        address: `local` starts a Ray for this call; else that of a running cluster.
        batch: Items that an actor takes at once.

    Raises:
        RunStopped: This machine is too loaded to start Ray, or nothing answers at the address.
    """
    started = not ray.is_initialized()
    if started and address == "local":
        start_local(num_cpus=workers, include_dashboard=False)
    elif started:
        join(address, named="--ray", instead="give `--ray local`")
    try:
        with dying_with_node("the same command goes on where it stopped"):
            yield from _mapped(items, make, workers, batch)
    finally:
        if started:
            ray.shutdown()


def _mapped(
    items: Iterable[Any], make: Callable[[], Work], workers: int, batch: int
) -> Iterator[Any]:
    context = ray.data.DataContext.get_current()
    context.execution_options.preserve_order = True
    context.enable_progress_bars = False
    rows = [{"item": pickle.dumps(item)} for item in items]
    if not rows:
        return
    blocks = max(1, len(rows) // batch)
    results = ray.data.from_items(rows, override_num_blocks=blocks).map_batches(
        _Actor,
        batch_size=batch,
        compute=ray.data.ActorPoolStrategy(size=workers),
        fn_constructor_args=(make,),
    )
    for row in results.iter_rows():
        yield pickle.loads(row["value"])
