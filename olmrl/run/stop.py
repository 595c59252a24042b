"""Ending a run early without losing its work: SIGTERM (preemption, `ray job stop`) and Ctrl-C."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from pathlib import Path
from types import FrameType

from olmrl.errors import RunStopped

_NODE = ("gcs_server", "raylet")
"""Processes without which a Ray node is lost."""
_LOOK_S = 0.5


class StopRequest:
    """Whether the run was asked to save and end.

    The first SIGTERM or SIGINT asks; a second SIGINT ends the run at once. A signal to the whole
    process group (`scancel`, some container runtimes) ends the Ray node that the run started too:
    then nothing can be saved any more, and the process ends instead of waiting a minute for Ray.

    Args:
        grace_s: seconds the run may take to finish its step and save.
    """

    def __init__(self, grace_s: float) -> None:
        self._grace_s = grace_s
        self._since: float | None = None
        self._signal = signal.SIGTERM
        self._over = threading.Event()
        self._node: list[int] = []

    def install(self) -> None:
        """Handle signals. Call it after Ray has started, as Ray sets a SIGTERM handler too."""
        self._node = children_named(_NODE)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._arrived)

    def _arrived(self, number: int, frame: FrameType | None) -> None:
        if self._since is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self._signal = signal.Signals(number)
        if self._since is None:
            threading.Thread(target=self._watch, name="stop-watch", daemon=True).start()
        self._since = self._since or time.monotonic()
        sys.stderr.write(f"{self._signal.name}: finishing the step and saving\n")

    def ended(self) -> None:
        """Say that the run has ended by itself: Ray may go now."""
        self._over.set()

    def _watch(self) -> None:
        """End the process once its Ray node is gone, for as long as signals are handled here."""
        while not self._over.wait(_LOOK_S) and signal.getsignal(self._signal) == self._arrived:
            if set(self._node) - set(children_named(_NODE)):
                sys.stderr.write(
                    f"{self._signal.name}: Ray was stopped together with the run, so nothing more "
                    "can be saved; --resume auto continues from the newest complete checkpoint\n"
                )
                sys.stderr.flush()
                os._exit(self.exit_code)  # the main thread waits for a Ray that is not there

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


def children_named(names: tuple[str, ...]) -> list[int]:
    """Ids of this process's living children of these names (Linux; elsewhere none are found)."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            head, _, rest = stat.read_text("utf-8", "replace").rpartition(")")
        except OSError:  # it has ended meanwhile
            continue
        state, parent = rest.split()[:2]
        if int(parent) == os.getpid() and state != "Z" and head.partition("(")[2] in names:
            found.append(int(stat.parent.name))
    return found
