"""The one thread that may touch an engine, and how others reach it.

vLLM's in-process engine and a transformers model are not thread-safe, while a Ray actor serves many
calls at once. So every touch of the engine is a closure run by this thread between two steps.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, Generic, TypeVar

from olmrl.errors import EngineBroken

Result = TypeVar("Result")
Output = TypeVar("Output")

_IDLE_WAIT_S = 0.05


class EngineLoop(Generic[Output]):
    """Runs `step` while `busy`, and closures of other threads in between.

    A step or a weight update that raises breaks the loop for good: the engine's state is unknown
    then, and only a replacement is safe. Closures passed to `call` may raise without harm.

    Args:
        step: Makes some progress; returns what finished.
        busy: Whether a step would make progress.
    """

    def __init__(self, step: Callable[[], list[Output]], busy: Callable[[], bool]) -> None:
        self._step = step
        self._busy = busy
        self._inbox: queue.SimpleQueue[tuple[Callable[[], Any], Future[Any]]] = queue.SimpleQueue()
        self._outbox: queue.SimpleQueue[Output] = queue.SimpleQueue()
        self._stop = threading.Event()
        self._failure: BaseException | None = None
        self.paused = False
        """Set by closures: while True no step is made."""
        self.steps = 0
        self.busy_s = 0.0
        self._progress_at = time.monotonic()
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)

    def start(self) -> None:
        """Start the thread, once the engine can be stepped."""
        self._thread.start()

    def call(self, work: Callable[[], Result]) -> Result:
        """Run `work` in the engine thread between two steps and return its result.

        Raises:
            EngineBroken: The loop broke down or was closed.
        """
        self._check()
        future: Future[Result] = Future()
        self._inbox.put((work, future))
        while True:
            try:
                return future.result(timeout=1.0)
            except TimeoutError:
                if not future.done() and not self._thread.is_alive():
                    self._check()
                    raise EngineBroken("the engine is closed") from None

    def poll(self, timeout_s: float) -> list[Output]:
        """All outputs so far; waits up to `timeout_s` seconds for the first.

        Raises:
            EngineBroken: The loop broke down and everything it had finished was delivered.
        """
        found: list[Output] = []
        deadline = time.monotonic() + timeout_s
        while not found:
            left = deadline - time.monotonic()
            try:
                found.append(self._outbox.get(timeout=max(0.0, min(left, 0.5))))
            except queue.Empty:
                self._check()
                if left <= 0:
                    return found
        while True:
            try:
                found.append(self._outbox.get_nowait())
            except queue.Empty:
                return found

    def emit(self, output: Output) -> None:
        """Deliver an output made outside a step (from a closure)."""
        self._outbox.put(output)

    @property
    def idle_s(self) -> float:
        """Seconds without progress although there is work; 0 when there is none."""
        if self.paused or not self._busy():
            return 0.0
        return time.monotonic() - self._progress_at

    def break_down(self, failure: BaseException) -> None:
        """Declare the engine unusable: its weights or caches are in an unknown state."""
        self._failure = failure
        self._stop.set()

    def close(self) -> None:
        """Stop the thread after the current step."""
        self._stop.set()
        if self._thread.is_alive() and threading.current_thread() is not self._thread:
            self._thread.join(timeout=30.0)

    def _check(self) -> None:
        if self._failure is not None:
            raise EngineBroken(f"the engine broke down: {self._failure!r}") from self._failure

    def _run(self) -> None:
        while not self._stop.is_set():
            working = self._busy() and not self.paused
            self._serve(block=not working)
            if self._stop.is_set() or self.paused or not self._busy():
                self._progress_at = time.monotonic()
                continue
            started = time.monotonic()
            try:
                outputs = self._step()
            except Exception as failure:  # the state is unknown: every caller is told
                self.break_down(failure)
                return
            self._progress_at = time.monotonic()
            self.busy_s += self._progress_at - started
            self.steps += 1
            for output in outputs:
                self._outbox.put(output)

    def _serve(self, block: bool) -> None:
        """Run waiting closures; when idle, wait a little for one."""
        while True:
            try:
                work, future = self._inbox.get(timeout=_IDLE_WAIT_S if block else 0.0)
            except queue.Empty:
                return
            block = False
            try:
                future.set_result(work())
            except Exception as error:
                future.set_exception(error)
