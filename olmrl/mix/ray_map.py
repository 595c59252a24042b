"""`map_pdfs` on Ray Data: an actor pool of PDF readers, streaming, results in order."""

from __future__ import annotations

import pickle
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import ray
import ray.data

from olmrl.mix.pdf_child import Call, PdfPool, outcome_of

BATCH = 8
"""Calls per Ray Data batch; results are a megabyte or so each."""


class _Reader:
    """One reader: a pool of one child, so that a crashing PDF never takes the Ray worker along."""

    def __init__(self, deadline_s: float) -> None:
        self.pool = PdfPool(1, deadline_s)

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, list[bytes]]:
        calls = (pickle.loads(data) for data in batch["call"])
        return {"value": [pickle.dumps(outcome_of(self.pool, call)) for call in calls]}


def map_on_ray(
    calls: Iterable[Call], workers: int, address: str, deadline_s: float
) -> Iterator[Any]:
    """See `pdf_map.map_pdfs`."""
    started = not ray.is_initialized()
    if started and address == "local":
        ray.init(
            address="local",
            num_cpus=workers,
            include_dashboard=False,
            log_to_driver=False,
            _node_ip_address="127.0.0.1",
        )
    elif started:
        ray.init(address=address, log_to_driver=False)
    try:
        context = ray.data.DataContext.get_current()
        context.execution_options.preserve_order = True
        context.enable_progress_bars = False
        rows = [{"call": pickle.dumps(call)} for call in calls]
        if not rows:
            return
        blocks = max(1, len(rows) // BATCH)
        results = ray.data.from_items(rows, override_num_blocks=blocks).map_batches(
            _Reader,
            batch_size=BATCH,
            compute=ray.data.ActorPoolStrategy(size=workers),
            fn_constructor_args=(deadline_s,),
        )
        for row in results.iter_rows():
            yield pickle.loads(row["value"])
    finally:
        if started:
            ray.shutdown()
