"""Work that needs a browser, over many items: processes, each with a warm Chromium of its own."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from typing import Any, TypeVar

from olmrl.markup.browser import VARIABLE
from olmrl.synth.web.browser import Browser

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
    job: Callable[[Browser, T], R],
    items: Sequence[T],
    workers: int,
    ray_address: str | None = None,
) -> Iterator[R]:
    """Yield `job(browser, item)` of every item, in order.

    Args:
        job: Can be pickled, as can items and results.
        items: What to do; none starts no browser.
        workers: Most processes.
        ray_address: None: processes of this machine. Else actors of that Ray, see `mix.ray_map`;
            what a job writes must lie where all its nodes look.

    Raises:
        ValueError: no browser, or a process was killed.
    """
    if not items:
        return
    if ray_address is not None:
        # Ray takes seconds to import
        from olmrl.mix.ray_map import map_on_ray  # noqa: PLC0415

        make = partial(_OnRay, job, os.environ.get(VARIABLE))
        for answer in map_on_ray(items, make, workers=workers, address=ray_address, batch=1):
            if isinstance(answer, _NoBrowser):
                raise ValueError(f"a node of the Ray cluster: {answer.reason}")
            yield answer
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


class _OnRay:
    """What an actor does, with a browser of its own, started when the first item comes."""

    def __init__(self, job: Callable[[Browser, Any], Any], chromium: str | None) -> None:
        self._job = job
        self._browser: Browser | None = None
        if chromium:
            os.environ[VARIABLE] = chromium

    def __call__(self, item: Any) -> Any:
        try:
            self._browser = self._browser or Browser()
        except ValueError as error:
            return _NoBrowser(str(error))
        return self._job(self._browser, item)


@dataclass(frozen=True)
class _NoBrowser:
    reason: str
