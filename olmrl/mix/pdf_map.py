"""One function over many PDFs, results in order, memory flat: child processes here or Ray Data."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any

from olmrl.data.fence import DEADLINE_S
from olmrl.mix.pdf_child import Call, PdfPool, outcome_of
from olmrl.mix.run import in_order


def map_pdfs(
    calls: Iterable[Call], *, workers: int, ray_address: str | None, deadline_s: float = DEADLINE_S
) -> Iterator[Any]:
    """Run the calls in child processes and give their results in order.

    Args:
        calls: What to run.
        workers: Child processes at a time.
        ray_address: None: on this machine, without Ray. `local`: a Ray started for this run. Else
            the address of a running cluster (`auto`, `ray://...`).
        deadline_s: Seconds after which a call is abandoned.

    Yields:
        The result of each call, or the `BadPage` it raised.
    """
    if ray_address is not None:
        # Ray takes seconds to import
        from olmrl.mix.ray_map import PdfReader, map_on_ray  # noqa: PLC0415

        make = partial(PdfReader, deadline_s)
        yield from map_on_ray(calls, make, workers=workers, address=ray_address)
        return
    with PdfPool(workers, deadline_s) as pool:
        yield from in_order(lambda call: outcome_of(pool, call), calls, workers=workers)


def add_ray_argument(parser: argparse.ArgumentParser) -> None:
    """Add `--ray`."""
    parser.add_argument(
        "--ray",
        metavar="ADDRESS",
        help="run on Ray Data: `local` starts Ray here, else a cluster's address (auto, ray://...)",
    )
