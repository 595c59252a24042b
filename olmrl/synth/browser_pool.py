"""Work that needs a browser, over many items: processes, each with a warm Chromium of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import partial
from multiprocessing import get_context
from typing import TypeVar

from olmrl.synth.browser import Browser

T = TypeVar("T")
R = TypeVar("R")

_browser: Browser | None = None


class BrowserPool:
    """Processes that set pages, started when the first is needed.

    Args:
        workers: Most processes.
    """

    def __init__(self, workers: int) -> None:
        self._pool = ProcessPoolExecutor(workers, get_context("spawn"), _start)

    def __enter__(self) -> BrowserPool:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def call(self, job: Callable[[Browser, T], R], item: T) -> R:
        """`job(browser, item)`; may be called by many threads.

        Raises:
            ValueError: no browser, or a process was killed.
        """
        with _told():
            return self._pool.submit(_with_browser, job, item).result()

    def map(self, job: Callable[[Browser, T], R], items: Iterable[T]) -> Iterator[R]:
        """Yield `job(browser, item)` of every item, in order; raises as `call` does."""
        with _told():
            yield from self._pool.map(partial(_with_browser, job), items)


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
    with BrowserPool(min(workers, len(items))) as pool:
        yield from pool.map(job, items)


@contextmanager
def _told() -> Iterator[None]:
    try:
        yield
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
