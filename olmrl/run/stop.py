"""Ending a run early without losing its work: SIGTERM (preemption, `ray job stop`) and Ctrl-C."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from types import FrameType

from olmrl.door import is_sigterm
from olmrl.errors import Interrupted, RunStopped
from olmrl.ray_node import watch_node


class StopRequest:
    """Whether the run was asked to save and end.

    The first SIGTERM or SIGINT asks; a second SIGINT ends the run at once, and so does the first
    signal as long as the learner has not begun, for there is nothing to save. A signal to the whole
    process group (`scancel`, some container runtimes) ends the Ray node that the run started too:
    then nothing can be saved any more, and the process ends instead of waiting a minute for Ray.
    Likewise if that node dies by itself.

    Args:
        grace_s: seconds the run may take to finish its step and save.
    """

    def __init__(self, grace_s: float) -> None:
        self._grace_s = grace_s
        self._since: float | None = None
        self._signal = signal.SIGTERM
        self._over = threading.Event()
        self._begun = False

    def install(self) -> None:
        """Handle signals. Call it before Ray starts and after, as Ray sets a SIGTERM handler."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._arrived)

    def watch_node(self) -> None:
        """End the process if the Ray node that it has started dies before the run ends."""
        watch_node(self._over, self._died)

    def begun(self) -> None:
        """Say that the learner has begun: from now on a signal saves first."""
        self._begun = True

    def _arrived(self, number: int, frame: FrameType | None) -> None:
        if self._since is not None:
            if number == signal.SIGINT:
                raise KeyboardInterrupt
            return
        self._since, self._signal = time.monotonic(), signal.Signals(number)
        if not self._begun:
            raise Interrupted(self._signal.name, self.exit_code)
        sys.stderr.write(f"{self._signal.name}: finishing the step and saving\n")

    def ended(self) -> None:
        """Say that the run has ended by itself: Ray may go now."""
        self._over.set()

    def _died(self) -> None:
        what, code = "the Ray node of this run has died", 1
        if self._since is not None:
            what = f"{self._signal.name}: Ray was stopped together with the run"
            code = self.exit_code
        sys.stderr.write(
            f"{what}, so nothing more can be saved; --resume auto continues from the newest "
            "complete checkpoint\n"
        )
        sys.stderr.flush()
        os._exit(code)  # the main thread waits for a Ray that is not there

    def meaning(self, error: BaseException) -> BaseException:
        """The error itself or, where it is Ray's word for a signal, what our handler raises.

        A blocking call of Ray raises a bare KeyboardInterrupt for whatever a handler raises
        meanwhile, so that SIGTERM would end the process as Ctrl-C does. While Ray starts, its own
        handler holds, which exits with the number of the signal.
        """
        if is_sigterm(error) and self._since is None:
            self._signal = signal.SIGTERM
            return Interrupted(self._signal.name, self.exit_code)
        if self._begun or self._since is None or isinstance(error, Interrupted):
            return error
        return Interrupted(self._signal.name, self.exit_code)

    def requested(self) -> bool:
        """Whether to end now.

        Raises:
            RunStopped: the grace period is over.
        """
        if self._since is None:
            return False
        if time.monotonic() - self._since > self._grace_s:
            raise RunStopped(
                f"{self._signal.name}: not saved within checkpoint.grace_s={self._grace_s:g}; "
                "--resume auto continues from the newest complete checkpoint"
            )
        return True

    @property
    def exit_code(self) -> int:
        """What a shell expects of a process ended by a signal."""
        return 128 + self._signal
