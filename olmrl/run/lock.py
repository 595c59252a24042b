"""One run at a time in a run directory."""

from __future__ import annotations

import fcntl
import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_HEARTBEAT_S = 20.0
_STALE_S = 120.0


class RunLocked(ValueError):
    """Another run uses the directory; the message says which process, where, and what to do."""


class RunLock:
    """Holds `run.lock` of a local run directory while a run works in it.

    The file names host and process. A lock is taken over when its process is gone (same host), or
    when it has not been touched for two minutes (another host, whose processes cannot be seen from
    here); a live holder touches it every 20 s.

        with RunLock(run_dir):
            ...
    """

    def __init__(self, run_dir: str | os.PathLike[str]) -> None:
        self._path = Path(run_dir) / "run.lock"
        self._token = uuid.uuid4().hex
        self._released = threading.Event()
        self._heart: threading.Thread | None = None

    def acquire(self) -> None:
        """Take the lock.

        Raises:
            RunLocked: a live run holds it.
        """
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with _exclusive(self._path) as stream:
            holder = _parse(stream.read())
            if holder is not None and not _is_stale(holder, self._path):
                raise RunLocked(
                    f"{self._path.parent}: another run is using it (process {holder['pid']} on "
                    f"{holder['host']}, since {holder['since']}); stop it, choose another run.dir, "
                    f"or remove {self._path} if it is gone"
                )
            stream.seek(0)
            stream.truncate()
            stream.write(json.dumps(self._claim()))
            stream.flush()
            os.fsync(stream.fileno())
        self._heart = threading.Thread(target=self._beat, name="run-lock", daemon=True)
        self._heart.start()

    def release(self) -> None:
        """Release the lock; does nothing if it is not held."""
        self._released.set()
        if self._heart is None or not self._path.exists():
            return
        with _exclusive(self._path) as stream:
            holder = _parse(stream.read())
            if holder is not None and holder.get("token") == self._token:
                self._path.unlink()

    def __enter__(self) -> RunLock:
        self.acquire()
        return self

    def __exit__(self, *error: object) -> None:
        self.release()

    def _claim(self) -> dict[str, Any]:
        return {
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "started": _start_of(os.getpid()),
            "since": time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime()),
            "token": self._token,
        }

    def _beat(self) -> None:
        while not self._released.wait(_HEARTBEAT_S):
            if not self._path.exists():
                return
            os.utime(self._path)


def holder(run_dir: str | os.PathLike[str]) -> dict[str, Any] | None:
    """Host, pid and since of the live run in a directory; None if none is. Takes no lock."""
    path = Path(run_dir) / "run.lock"
    try:
        found = _parse(path.read_text("utf-8"))
        return None if found is None or _is_stale(found, path) else found
    except OSError:  # released meanwhile
        return None


@contextmanager
def _exclusive(path: Path) -> Iterator[Any]:
    """Open the lock file with an OS lock on it, so that only one process decides at a time."""
    while True:
        stream = path.open("a+", encoding="utf-8")
        fcntl.flock(stream, fcntl.LOCK_EX)
        # A holder that released it meanwhile has unlinked the file we opened: open the new one.
        if path.exists() and path.stat().st_ino == os.fstat(stream.fileno()).st_ino:
            break
        stream.close()
    with stream:
        stream.seek(0)
        yield stream


def _parse(text: str) -> dict[str, Any] | None:
    """Read a holder; None for a fresh or torn file, which nobody can hold."""
    try:
        holder = json.loads(text)
    except ValueError:
        return None
    return holder if isinstance(holder, dict) and {"host", "pid", "since"} <= set(holder) else None


def _is_stale(holder: dict[str, Any], path: Path) -> bool:
    if holder["host"] != socket.gethostname():
        return time.time() - path.stat().st_mtime > _STALE_S
    started = _start_of(holder["pid"])
    return started is None or started != holder.get("started")


def _start_of(pid: int) -> str | None:
    """When a process of this host started (detects a reused pid); None if there is none."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        pass
    stat = Path(f"/proc/{pid}/stat")
    if not stat.exists():
        return "unknown"
    fields = stat.read_text("utf-8").rsplit(")", 1)[-1].split()
    return None if fields[0] == "Z" else fields[19]
