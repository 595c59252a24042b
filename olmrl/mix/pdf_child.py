"""PDFs are attacker-shaped: they are opened in child processes that may crash, hang or swell.

    with PdfPool(workers) as pool:
        image = pool.call("page_image", path, 1, 2048)

A child that exceeds its deadline is killed, one that dies is replaced, and the caller sees
`BadPage` in both cases.
"""

from __future__ import annotations

import importlib
import os
import pickle
import queue
import resource
import signal
import socket
import subprocess
import sys
import threading
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

import tenacity

from olmrl.data.render import BadPage

DEADLINE_S = 120.0
"""Longest time for one call."""

START_S = 120.0
"""Longest time for a child to import its modules; not part of a call's deadline."""

STARTS = 3
"""Failed starts in a row after which the verb stops."""

MEMORY_BYTES = 8 << 30
"""Address space of one child: more than any sane page needs, less than the machine has."""

_MODULES = ("olmrl.mix.pdf", "olmrl.mix.pdf_filter", "olmrl.mix.hub_work", "olmrl.data.render")


class Call(NamedTuple):
    """One call of a function of `olmrl.mix.pdf` (or `pdf_filter`)."""

    function: str
    """Its name, or `module:name`."""
    path: str
    """The PDF."""
    arguments: tuple[Any, ...] = ()
    """What follows the path."""


class PdfPool:
    """A fixed number of child processes, each used by one thread at a time.

    Args:
        workers: Children, started when first needed.
        deadline_s: Seconds after which a call is abandoned and its child killed.
    """

    def __init__(self, workers: int, deadline_s: float = DEADLINE_S) -> None:
        self.deadline_s = deadline_s
        self._idle: queue.SimpleQueue[_Child] = queue.SimpleQueue()
        self._children = [_Child() for _ in range(workers)]
        for child in self._children:
            self._idle.put(child)

    def __enter__(self) -> PdfPool:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def call(self, function: str, path: str, *arguments: Any) -> Any:
        """Run one function of `olmrl.mix.pdf` (or `pdf_filter`, `hub_work`) in a child.

        Args:
            function: Its name, or `module:name`.
            path: First argument, and the file named in errors.
            arguments: The other arguments.

        Raises:
            BadPage: the file is bad, took too long, or crashed its reader.
            ChildProcessError: a child does not start; no file is to blame.
        """
        child = self._idle.get()
        try:
            return child.call(function, path, arguments, self.deadline_s)
        finally:
            self._idle.put(child)

    def close(self) -> None:
        """End all children."""
        for child in self._children:
            child.stop()


def outcome_of(pool: PdfPool, call: Call) -> Any:
    """The result of a call, or the `BadPage` it raised."""
    try:
        return pool.call(call.function, call.path, *call.arguments)
    except BadPage as bad:
        return bad


class _Child:
    def __init__(self) -> None:
        self.process: subprocess.Popen[bytes] | None = None
        self.pipe: Connection | None = None

    def call(self, function: str, path: str, arguments: tuple[Any, ...], deadline_s: float) -> Any:
        pipe = self._ready()
        try:
            pipe.send((function, path, arguments))
            if not pipe.poll(deadline_s):
                self.stop()
                raise BadPage(path, 0, f"took longer than {deadline_s:g} s")
            ok, value = pipe.recv()
        except (EOFError, OSError, pickle.UnpicklingError) as error:
            code = self.stop()
            raise BadPage(path, 0, f"crashes the PDF reader ({_cause(code)})") from error
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
        ours, theirs = socket.socketpair()
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "olmrl.mix.pdf_child", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.PIPE,  # closes when we die, even by kill -9
                start_new_session=True,  # Ctrl-C goes to us alone, and we end the children
            )
        pipe = self.pipe = Connection(ours.detach())
        if not pipe.poll(START_S):
            self.stop()
            raise ChildProcessError(
                f"PDF reader: not started within {START_S:g} s; is this machine overloaded?"
            )
        try:
            pipe.recv()
        except EOFError as error:
            code = _cause(self.stop())
            raise ChildProcessError(f"PDF reader: ended while starting ({code})") from error
        return pipe

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


def _cause(code: int | None) -> str:
    if code is not None and code < 0:
        return signal.Signals(-code).name
    return f"exit code {code}"


def _die_with_parent() -> None:
    """Exit at once when the parent is gone: a restart writes the same files."""
    os.read(0, 1)
    os._exit(1)


def _serve(pipe: Connection) -> None:
    """Answer calls until the parent closes the pipe (or dies)."""
    importlib.import_module(_MODULES[0])
    pipe.send("ready")
    while True:
        try:
            function, path, arguments = pipe.recv()
        except (EOFError, ConnectionError):
            return
        module, _, name = function.rpartition(":")
        module = module or _MODULES[0]
        assert module in _MODULES, module
        try:
            answer = (True, getattr(importlib.import_module(module), name)(path, *arguments))
        except MemoryError:
            answer = (False, BadPage(path, 0, f"needs more than {MEMORY_BYTES >> 30} GiB"))
        except Exception as error:  # whatever a file provokes goes back to the caller
            answer = (False, error)
        pipe.send(answer)


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    threading.Thread(target=_die_with_parent, daemon=True).start()
    _serve(Connection(int(sys.argv[1])))
