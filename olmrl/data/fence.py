"""The fence around parsers of untrusted files: they may raise anything, crash, hang or swell.

Parsers run in child processes, and whatever a file provokes there is a `BadPage` that names it:

    pixels = fence.call(draw_page, path, page_number, longest_side)

A child that exceeds its deadline is killed, and one that dies is replaced. A file that did either
is not given to a child of this process again.
"""

from __future__ import annotations

import atexit
import functools
import importlib
import os
import pickle
import queue
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import Any, NamedTuple, Self

import numpy as np
import tenacity

from olmrl.data.bad_page import BadPage

DEADLINE_S = 120.0
"""Longest time for one call."""

START_S = 120.0
"""Longest time for a child to import its modules; not part of a call's deadline."""

STARTS = 3
"""Failed starts in a row after which the verb stops."""

MEMORY_BYTES = 8 << 30
"""Address space of one child: more than any sane page needs, less than the machine has."""

_HEAP = {"MALLOC_MMAP_THRESHOLD_": str(16 << 20), "MALLOC_TRIM_THRESHOLD_": str(64 << 20)}
"""What glibc's `malloc` keeps in a child: to map and clear the 5 MB of a bitmap anew for every page
takes a sixth of the page's time (`benchmarks/rendering.py`)."""

_SLOW, _CRASH = "took longer than", "crashes the PDF reader"
_SWOLLEN = f"needs more than {MEMORY_BYTES >> 30} GiB"
_ITSELF = "olmrl.data.fence"
_FIRST = "olmrl.data.render"
"""What every child will need; its import is not part of a call's deadline."""

Function = Callable[..., Any] | str
"""One of a module's own, or `module:name`: a caller need not import what only children use."""

_inside = False
"""Whether this process is a child, where calls are direct."""


@contextmanager
def untrusted(path: str, page_number: int, what: str = "cannot be read") -> Iterator[None]:
    """Turn whatever a parser raises into a `BadPage` of the file.

    Args:
        path: the file.
        page_number: its page; 0: all of it.
        what: begins the reason.
    """
    try:
        yield
    except BadPage:
        raise
    except MemoryError as error:
        raise BadPage(path, page_number, _SWOLLEN) from error
    except Exception as error:  # third parties' parsers: no list of their errors is complete
        text = " ".join(str(error).split())[:200]
        reason = f"{what} ({type(error).__name__}{f': {text}' if text else ''})"
        raise BadPage(path, page_number, reason) from error


def costs_a_reader(reason: str) -> bool:
    """Whether a `BadPage` of this reason killed its child or kept it until its deadline."""
    return reason.startswith((_SLOW, _CRASH))


def call(function: Function, path: str, page_number: int, *arguments: Any) -> Any:
    """Run `function(path, page_number, *arguments)` in a child of this process.

    Raises:
        BadPage: of this file and page: bad, took too long, or crashed its reader.
        OSError: a child does not start; no file is to blame.
    """
    if _inside:
        return _named(function)(path, page_number, *arguments)
    try:
        return _own_pool(os.getpid()).call(function, path, page_number, *arguments)
    except BadPage as bad:
        if bad.page_number or not page_number:
            raise
        raise type(bad)(path, page_number, bad.reason) from bad


@functools.cache
def _own_pool(pid: int) -> FencedPool:
    """The children of this process, one per thread that waits for one."""
    pool = FencedPool(2 * (os.cpu_count() or 1))
    atexit.register(pool.close)
    return pool


class FencedPool:
    """A fixed number of child processes, each used by one thread at a time.

    Args:
        workers: Children, started when first needed.
        deadline_s: Seconds after which a call is abandoned and its child killed.
    """

    def __init__(self, workers: int, deadline_s: float = DEADLINE_S) -> None:
        self.deadline_s = deadline_s
        # last in, first out: a single thread keeps a single child busy
        self._idle: queue.LifoQueue[_Child] = queue.LifoQueue()
        self._children = [_Child() for _ in range(workers)]
        self._doomed: dict[tuple[str, str, Any], str] = {}
        for child in self._children:
            self._idle.put(child)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def call(self, function: Function, path: str, *arguments: Any) -> Any:
        """Run a function in a child.

        Args:
            function: what to run.
            path: First argument, and the file named in errors.
            arguments: The other arguments.

        Raises:
            BadPage: the file is bad, took too long, or crashed its reader.
            OSError: a child does not start; no file is to blame.
        """
        key = (str(function), path, arguments[:1])
        if key in self._doomed:
            raise BadPage(path, 0, self._doomed[key])
        child = self._idle.get()
        try:
            return child.call(function, path, arguments, self.deadline_s)
        except _Lost as lost:
            self._doomed[key] = lost.reason
            raise BadPage(path, 0, lost.reason) from lost
        finally:
            self._idle.put(child)

    def close(self) -> None:
        """End all children."""
        for child in self._children:
            child.dispose()


class _Lost(BadPage):
    """A file that took its child along."""


class _Child:
    def __init__(self) -> None:
        self.process: subprocess.Popen[bytes] | None = None
        self.pipe: Connection | None = None
        self._pixels: int | None = None

    def call(
        self, function: Function, path: str, arguments: tuple[Any, ...], deadline_s: float
    ) -> Any:
        pipe = self._ready()
        try:
            pipe.send((function, path, arguments))
            if not pipe.poll(deadline_s):
                self.stop()
                raise _Lost(path, 0, f"{_SLOW} {deadline_s:g} s")
            ok, value = pipe.recv()
            if isinstance(value, _Array) and self._pixels is not None:
                value = _taken(self._pixels, value)
        except (EOFError, OSError, pickle.UnpicklingError) as error:
            code = self.stop()
            raise _Lost(path, 0, f"{_CRASH} ({_cause(code)})") from error
        except BaseException:
            # a cancelled task: the answer that is still to come would be the next caller's
            self.stop()
            raise
        if ok:
            return value
        raise value

    def _ready(self) -> Connection:
        """The pipe to a living child; no file is blamed if the child died before the call."""
        if self.process is not None and self.process.poll() is not None:
            self.stop()
        return self.pipe or self._start()

    @tenacity.retry(
        retry=tenacity.retry_if_exception_type(ChildProcessError),
        stop=tenacity.stop_after_attempt(STARTS),
        reraise=True,
    )
    def _start(self) -> Connection:
        try:
            pipe = self.pipe = self._launched()
        except OSError as error:  # too many files or processes, no memory
            raise OSError(error.errno, error.strerror, "PDF reader") from error
        if not pipe.poll(START_S):
            self.stop()
            raise ChildProcessError(
                f"PDF reader: not started within {START_S:g} s; is this machine overloaded?"
            )
        try:
            pipe.recv()
        except (EOFError, ConnectionError) as error:
            code = _cause(self.stop())
            raise ChildProcessError(f"PDF reader: ended while starting ({code})") from error
        return pipe

    def _launched(self) -> Connection:
        """Start the process; gives our end of its pipe."""
        ours, theirs = socket.socketpair()
        with ours, theirs:
            if self._pixels is None:
                self._pixels = _memory()
            self.process = subprocess.Popen(
                [sys.executable, "-m", _ITSELF, str(theirs.fileno()), str(self._pixels)],
                env=_HEAP | os.environ | {"PYTHONPATH": _module_path()},
                pass_fds=[theirs.fileno(), self._pixels],
                stdin=subprocess.PIPE,  # closes when we die, even by kill -9
                start_new_session=True,  # Ctrl-C goes to us alone, and we end the children
            )
            return Connection(ours.detach())

    def dispose(self) -> None:
        """Kill the child for good."""
        self.stop()
        if self._pixels is not None:
            os.close(self._pixels)
            self._pixels = None

    def stop(self) -> int | None:
        """Kill the child; the next call starts a new one."""
        if self.pipe is not None:
            self.pipe.close()
        code = None
        if self.process is not None:
            assert self.process.stdin is not None
            self.process.stdin.close()
            try:
                code = self.process.wait(timeout=0.5)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.pipe = self.process = None
        return code


def _module_path() -> str:
    """Where a child finds the modules of this process."""
    given = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    return os.pathsep.join(filter(None, dict.fromkeys([*given, *sys.path])))


def _cause(code: int | None) -> str:
    if code is not None and code < 0:
        return signal.Signals(-code).name
    return f"exit code {code}"


class _Array(NamedTuple):
    """An array that a child left in the memory it shares with its parent."""

    shape: tuple[int, ...]
    dtype: str


def _memory() -> int:
    """Descriptor of a file that only lives in memory, where there are such files.

    Pixels go through it: through a pipe they take a third of the time of drawing them.
    """
    if hasattr(os, "memfd_create"):
        return os.memfd_create("olmrl-fence")
    with tempfile.TemporaryFile() as stream:
        return os.dup(stream.fileno())


def _left(descriptor: int, array: np.ndarray) -> _Array:
    data = np.ascontiguousarray(array).data.cast("B")
    done = 0
    while done < len(data):
        done += os.pwrite(descriptor, data[done:], done)
    return _Array(array.shape, array.dtype.str)


def _taken(descriptor: int, told: _Array) -> np.ndarray:
    array = np.empty(told.shape, np.dtype(told.dtype))
    data = array.data.cast("B")
    done = 0
    while done < len(data):
        read = os.preadv(descriptor, [data[done:]], done)
        if not read:
            raise EOFError
        done += read
    return array


def _die_with_parent() -> None:
    """Exit at once when the parent is gone: a restart writes the same files."""
    os.read(0, 1)
    os._exit(1)


def _named(function: Function) -> Callable[..., Any]:
    if callable(function):
        return function
    module, _, name = function.partition(":")
    found: Callable[..., Any] = getattr(importlib.import_module(module), name)
    return found


def serve(pipe: Connection, pixels: int) -> None:
    """Answer calls until the parent closes the pipe (or dies).

    Args:
        pipe: for calls and answers.
        pixels: descriptor of the memory for arrays.
    """
    global _inside
    _inside = True
    importlib.import_module(_FIRST)
    pipe.send("ready")
    while True:
        try:
            function, path, arguments = pipe.recv()
        except (EOFError, ConnectionError):
            return
        try:
            value = _named(function)(path, *arguments)
            answer = (True, _left(pixels, value) if isinstance(value, np.ndarray) else value)
        except MemoryError:
            answer = (False, BadPage(path, 0, _SWOLLEN))
        except Exception as error:  # whatever a file provokes goes back to the caller
            answer = (False, error)
        pipe.send(answer)


def _main(pipe: int, pixels: int) -> None:
    """A child's life."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    threading.Thread(target=_die_with_parent, daemon=True).start()
    # not as __main__: its functions must be those that other modules import
    importlib.import_module(_ITSELF).serve(Connection(pipe), pixels)


if __name__ == "__main__":
    _main(int(sys.argv[1]), int(sys.argv[2]))
