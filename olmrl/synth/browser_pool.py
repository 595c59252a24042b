"""Work that needs a browser, over many items: processes, each with a warm Chromium of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from multiprocessing import get_context
from typing import TypeVar

from olmrl.synth.browser import Browser

T = TypeVar("T")
R = TypeVar("R")

_browser: Browser | None = None


def map_with_browsers(
    job: Callable[[Browser, T], R], items: Sequence[T], workers: int
) -> Iterator[R]:
    """Yield `job(browser, item)` of every item, in order.

    Args:
        job: Can be pickled, as can items and results.
        items: What to do; none starts no browser.
        workers: Most processes.

    Raises:
        ValueError: no browser, or a process was killed.
    """
    if not items:
        return
    workers = min(workers, len(items))
    with ProcessPoolExecutor(workers, get_context("spawn"), _start) as pool:
        try:
            yield from pool.map(partial(_with_browser, job), items)
        except BrokenProcessPool as error:
            raise ValueError(
                "a process that sets pages was killed (out of memory?); the same command goes on "
                "from there, --workers 1 needs least"
            ) from error


def _start() -> None:
    global _browser
    _browser = Browser()


def _with_browser(job: Callable[[Browser, T], R], item: T) -> R:
    assert _browser is not None
    return job(_browser, item)
