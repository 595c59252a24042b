"""The Driver's supply of rendered pages: a thread stays a few pages ahead."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Generator
from typing import Any

from olmrl.data.items import StreamItem
from olmrl.data.streams import CLOSING_S, OrderedStream


class PageFeed:
    """Rendered pages in the order of the seed, fetched by a thread ahead of their use."""

    def __init__(self, stream: OrderedStream, depth: int) -> None:
        self._stream = stream
        self._queue: queue.Queue[Any] = queue.Queue(maxsize=depth)
        self._stop = threading.Event()
        self._thread = threading.Thread(
            target=self._run, args=(iter(stream),), name="page-feed", daemon=True
        )
        self._thread.start()

    def _run(self, pages: Generator[Any, None, None]) -> None:
        try:
            # Closed here, as the garbage collector might do it after Ray has shut down.
            with contextlib.closing(pages):
                for item in pages:
                    if not self._put(item):
                        return
        except BaseException as error:
            self._put(error)

    def _put(self, item: Any) -> bool:
        while not self._stop.is_set():
            try:
                self._queue.put(item, timeout=0.2)
                return True
            except queue.Full:
                continue
        return False

    def take(self) -> StreamItem | None:
        """The next page; None if it is not rendered yet.

        Raises:
            Exception: what stopped the rendering.
        """
        try:
            item: StreamItem | BaseException = self._queue.get_nowait()
        except queue.Empty:
            return None
        if isinstance(item, BaseException):
            raise item
        return item

    def close(self) -> None:
        """Stop rendering; waits up to 5 s for the thread.

        One that still called Ray after the end of the run would end the process with a code of
        Ray's.
        """
        self._stop.set()
        self._stream.end()
        self._thread.join(CLOSING_S)
