"""Ending a run early without losing its work: SIGTERM (preemption, `ray job stop`) and Ctrl-C."""

from __future__ import annotations

import signal
import sys
import time
from types import FrameType

from olmrl.errors import RunStopped


class StopRequest:
    """Whether the run was asked to save and end.

    The first SIGTERM or SIGINT asks; a second SIGINT ends the run at once.

    Args:
        grace_s: seconds the run may take to finish its step and save.
    """

    def __init__(self, grace_s: float) -> None:
        self._grace_s = grace_s
        self._since: float | None = None
        self._signal = signal.SIGTERM

    def install(self) -> None:
        """Handle signals. Call it after Ray has started, as Ray sets a SIGTERM handler too."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._arrived)

    def _arrived(self, number: int, frame: FrameType | None) -> None:
        if self._since is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self._signal = signal.Signals(number)
        self._since = self._since or time.monotonic()
        sys.stderr.write(f"{self._signal.name}: finishing the step and saving\n")

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
