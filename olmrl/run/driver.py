"""The Driver's loop, shared by SFT and GRPO.

Each turn looks at the run's actor (`run.actor`), follows the learner if it has restarted, lets the
subclass move its pages, and writes the rows of finished steps. Between turns it sleeps until
something happens.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Generic, Protocol, TypeVar

import ray

from olmrl.metrics import Sink
from olmrl.run.actor import StepRow, View
from olmrl.run.directory import RunDirectory

_IDLE_S = 0.5
"""Longest sleep between two turns: a stop request or a deadline wakes nobody."""
_CHANGE_S = 30.0
"""Seconds after which the actor answers even if nothing has changed."""

ViewType = TypeVar("ViewType", bound=View)


class Stop(Protocol):
    """The part of a `StopRequest` that a Driver uses."""

    def requested(self) -> bool:
        """Whether to save and end."""

    def begun(self) -> None:
        """Take note that there is something to save."""


class Driver(ABC, Generic[ViewType]):
    """Base of the Drivers.

    Args:
        directory: Takes what the run leaves behind.
        actor: The run's actor.
        sinks: Where metrics go.
        on_step: Told each step's row.
        say: Prints a line for the user.
    """

    def __init__(
        self,
        directory: RunDirectory,
        *,
        actor: Any,
        sinks: Sequence[Sink],
        on_step: Callable[[int, dict[str, float]], None],
        say: Callable[[str], None],
    ) -> None:
        self._say = say
        self._directory = directory
        self._actor = actor
        self._sinks = sinks
        self._on_step = on_step
        self._incarnation = -1
        self._evaluated_anew: int | None = None
        """Step of the weights that the learner began with, until their evaluation is written."""
        self._stopping = False
        self._slept_s = 0.0
        """Length of the last sleep."""
        self._change: Any = None
        """Resolves when the actor has changed since it was last looked at."""

    def run(self, learner_error: Callable[[], BaseException | None], stop: Stop) -> None:
        """Loop until the learner has finished.

        Args:
            learner_error: Returns the learner's failure, if it has failed.
            stop: Says whether the run was asked to save and end; told when the learner has begun.

        Raises:
            RunStopped: Too many bad pages.
            Exception: What the learner failed with.
        """
        try:
            self._loop(learner_error, stop)
        except BaseException:
            self._abandon()
            raise
        self._close()

    def _loop(self, learner_error: Callable[[], BaseException | None], stop: Stop) -> None:
        while True:
            error = learner_error()
            if error is not None:
                raise error
            if stop.requested() and not self._stopping:
                self._stopping = True
                ray.get(self._actor.stop.remote())
            view = self._look()
            if view.incarnation != self._incarnation:
                self._incarnation = view.incarnation
                if view.incarnation > 0:
                    stop.begun()
                    self._evaluated_anew = view.first_step
                    self._directory.continue_from(view.first_step)
                self._begin(view)
            if view.said:
                for line in ray.get(self._actor.said.remote()):
                    self._say(line)
            for request in self._requests(view):
                self._evaluate(request)
            self._turn(view)
            self._write_rows(view)
            if view.finished and self._may_end():
                break

    # -- what differs between SFT and GRPO

    @abstractmethod
    def _begin(self, view: ViewType) -> None:
        """Follow a learner that has (re)started; incarnation 0: none has started yet."""

    @abstractmethod
    def _evaluate(self, request: Any) -> None:
        """Start an evaluation that the learner waits for."""

    @abstractmethod
    def _turn(self, view: ViewType) -> None:
        """Move pages as far as they go; never waits."""

    @abstractmethod
    def _write_row(self, row: StepRow) -> None:
        """Write what is known of a finished step or evaluation."""

    def _awaited(self) -> list[Any]:
        """Refs that resolve when there is work for a turn, besides a change of the actor."""
        return []

    def _longest_sleep(self) -> float:
        return _IDLE_S

    def _may_end(self) -> bool:
        """Whether nothing is left to do once the learner has finished."""
        return True

    def _close(self) -> None:
        """Release what the loop has started."""

    @abstractmethod
    def _abandon(self) -> None:
        """End what still runs beside a loop that failed: it would speak after the error."""

    # -- what both share

    def _write_evaluation(self, step: int, row: Mapping[str, float]) -> None:
        """Write a row of an evaluation, which may have several, in the place of a former one's.

        A run that is resumed at its last step, or after its end, evaluates those weights again.
        """
        if step == self._evaluated_anew:
            self._directory.forget_evaluation(step)
            self._evaluated_anew = None
        self._write(step, row)

    def _write(self, step: int, row: Mapping[str, float]) -> None:
        for sink in self._sinks:
            sink.write(step, row)

    def _look(self) -> ViewType:
        """The actor's state, after sleeping until there is work for a turn."""
        if self._change is not None:
            since = time.monotonic()
            awaited = [self._change, *self._awaited()]
            ready, _ = ray.wait(awaited, timeout=self._longest_sleep())
            self._slept_s = time.monotonic() - since
            if self._change in ready:
                self._change = None
        view: ViewType = ray.get(self._actor.view.remote())
        if self._change is None:
            self._change = self._actor.view.remote(view.serial, _CHANGE_S)
        return view

    def _requests(self, view: ViewType) -> list[Any]:
        if not view.requests:
            return []
        requests: list[Any] = ray.get(self._actor.requests.remote(view.incarnation))
        return requests

    def _write_rows(self, view: ViewType) -> None:
        if view.rows:
            rows = ray.get(self._actor.rows.remote(view.incarnation))
            for row in rows:
                self._write_row(row)
            ray.get(self._actor.rows_written.remote(view.incarnation, len(rows)))
