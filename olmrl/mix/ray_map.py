"""Work over many items on Ray Data: a pool of actors, streaming, results in order."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import ray
import ray.data

from olmrl.loopback import loopback
from olmrl.mix.pdf_child import Call, PdfPool, outcome_of

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
    """
    started = not ray.is_initialized()
    if started and address == "local":
        with loopback() as addresses:
            ray.init(
                address="local",
                num_cpus=workers,
                include_dashboard=False,
                log_to_driver=False,
                **addresses,
            )
    elif started:
        try:
            ray.init(address=address, log_to_driver=False)
        except (ValueError, ConnectionError) as error:
            raise ValueError(f"--ray {address}: no Ray cluster answers there: {error}") from error
    try:
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
    finally:
        if started:
            ray.shutdown()
