"""The one place that starts Chromium: which one, behind which limits, and how it is ended.

The Chromium of the variable OLMRL_CHROMIUM, else the one on the PATH, else playwright's own. It
runs in its own sandbox, except for root, for whom Chromium has none. Each of its processes may hold
so much memory and no more; the whole group can be killed, whatever it is doing.
"""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from olmrl.scratch import Scratch

VARIABLE = "OLMRL_CHROMIUM"
"""Environment variable: path of the Chromium to use."""
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
"""What is looked for on the PATH."""
MEMORY_BYTES = 2 << 30
"""Data (heap and the like) of one process of the browser."""

_ARGUMENTS = (
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-extensions",
    "--disable-background-networking",
    "--dns-prefetch-disable",
    "--host-resolver-rules=MAP * ~NOTFOUND",
    "--no-first-run",
    "--renderer-process-limit=1",
    "--js-flags=--max-old-space-size=256",
)
_LAUNCHER = """#!/bin/sh
echo $$ > {pid}
ulimit -c 0
ulimit -d {kilobytes} 2>/dev/null
exec {path} "$@"
"""
"""Limits set in a shell are inherited by every process of the browser, its sandbox included."""


def find_chromium() -> str | None:
    """Path of the Chromium that the user named or has on the PATH; None: playwright's own, if any.

    Raises:
        ValueError: OLMRL_CHROMIUM names no program.
    """
    named = os.environ.get(VARIABLE, "").strip()
    if named:
        found = shutil.which(named)
        if found is None:
            raise ValueError(f"{VARIABLE}={named}: no such program")
        return found
    return next(filter(None, map(shutil.which, NAMES)), None)


def is_sandboxed() -> bool:
    """Whether Chromium runs in its own sandbox; it has none for root."""
    return os.geteuid() != 0


_thread = threading.local()
_MOST_FOLDER = 60
"""Longest path of a folder in which Chromium can put its socket."""


def _driver(need: str) -> Any:
    """Playwright of this thread: a thread can have one only, whoever asks."""
    try:
        from playwright.sync_api import sync_playwright  # noqa: PLC0415  (optional extra)
    except ImportError as error:
        raise ValueError(
            f"{need} needs the package playwright: pip install 'olmrl[chromium]'"
        ) from error
    if not getattr(_thread, "users", 0):
        _thread.driver, _thread.users = sync_playwright().start(), 0
    _thread.users += 1
    return _thread.driver


class Chromium:
    """One running Chromium without network.

    Belongs to the thread that made it.

    Args:
        need: What needs it, the beginning of the errors.
        memory_bytes: See `MEMORY_BYTES`.

    Raises:
        ValueError: playwright or Chromium is missing or does not start (says how to get it).
    """

    def __init__(self, need: str, memory_bytes: int = MEMORY_BYTES) -> None:
        self._need, self._memory_bytes = need, memory_bytes
        path = find_chromium()
        self._driver = _driver(need)
        self._path = path or self._driver.chromium.executable_path
        self._process: Any = None
        self._folder: Scratch | None = None
        self._group = 0
        try:
            self.start()
        except ValueError:
            self.close()
            raise

    def start(self) -> None:
        """Start it, or start it anew after it died or was killed."""
        from playwright.sync_api import Error  # noqa: PLC0415

        self._end()
        try:
            if not os.path.exists(self._path):
                raise Error(f"there is no {self._path}")
            self._folder = Scratch("chromium")
            folder = Path(self._folder.name)
            launcher = folder / "chromium"
            launcher.write_text(
                _LAUNCHER.format(
                    pid=shlex.quote(f"{folder}/pid"),
                    kilobytes=self._memory_bytes >> 10,
                    path=shlex.quote(self._path),
                )
            )
            launcher.chmod(0o700)
            # what it leaves when it is killed, which is how it always ends, goes with the folder
            own = {"TMPDIR": str(folder)} if len(str(folder)) <= _MOST_FOLDER else {}
            self._process = self._driver.chromium.launch(
                executable_path=launcher,
                args=list(_ARGUMENTS),
                chromium_sandbox=is_sandboxed(),
                env=os.environ | own,
            )
            self._group = int((folder / "pid").read_text())
        except Error as error:
            raise ValueError(
                f"{self._need} needs Chromium, and none could be started: install it (Debian: "
                f"apt-get install chromium), run 'playwright install chromium', or set {VARIABLE} "
                f"({_first_line(error)})"
            ) from error

    @property
    def version(self) -> str:
        """As the browser tells it."""
        return str(self._process.version)

    def new_page(self, **settings: Any) -> Any:
        """A page of its own context without network; `settings` are playwright's."""
        context = self._process.new_context(offline=True, **settings)
        context.route("**/*", lambda route: route.abort())
        return context.new_page()

    @contextmanager
    def deadline(self, seconds: float) -> Iterator[threading.Event]:
        """Kill the browser if the block takes longer; the event tells whether it was."""
        late = threading.Event()

        def strike() -> None:
            late.set()
            self.kill()

        timer = threading.Timer(seconds, strike)
        timer.daemon = True
        timer.start()
        try:
            yield late
        finally:
            timer.cancel()

    def kill(self) -> None:
        """End all of its processes at once; any thread may call this."""
        with suppress(ProcessLookupError):  # it may be gone already
            os.killpg(self._group, signal.SIGKILL)

    def _end(self) -> None:
        from playwright.sync_api import Error  # noqa: PLC0415

        if self._process is not None:
            self.kill()  # its own farewell can hang, and there is nothing of it to keep
            with suppress(Error):
                self._process.close()
            self._process = None
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None

    def close(self) -> None:
        """End the browser and its driver."""
        self._end()
        _thread.users -= 1
        if not _thread.users:
            self._driver.stop()


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [""])[0]
