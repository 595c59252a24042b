"""Folders and files for as long as a process works, which `kill -9` does not leave for ever.

A process holds a lock on what it makes. The next one that makes such a thing in the same place
removes those of this user that nobody holds: the kernel ends a lock with its process, so that no
reused process id and no process of another container is mistaken for the owner.
"""

from __future__ import annotations

import fcntl
import functools
import os
import re
import secrets
import shutil
import tempfile
import time
from pathlib import Path

_FOLDER = re.compile(r"olmrl-scratch-.+")
_FILE = re.compile(r"\..+\.[0-9a-f]{8}\.olmrl")
_YOUNG_S = 60.0
"""Nothing is swept before: it is locked after it is made."""


class Scratch(tempfile.TemporaryDirectory[str]):
    """An empty folder in the system's temporary one; `name` is its path.

    Args:
        kind: what it is for, a part of its name.
    """

    def __init__(self, kind: str) -> None:
        _sweep_once(tempfile.gettempdir())
        # what is still being written there by a dying child is left to the next sweep
        super().__init__(prefix=f"olmrl-scratch-{kind}-", ignore_cleanup_errors=True)
        self._lock = os.open(self.name, os.O_RDONLY | os.O_DIRECTORY)
        is_free(self._lock)

    def cleanup(self) -> None:
        """Remove it."""
        super().cleanup()
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1


def file_beside(target: Path) -> Path:
    """Where to write what will become `target`; whoever opens it calls `is_free`."""
    _sweep_once(str(target.parent))
    return target.with_name(f".{target.name}.{secrets.token_hex(4)}.olmrl")


def sweep(parent: str) -> None:
    """Remove what killed processes of this user left in a folder."""
    try:
        with os.scandir(parent) as entries:
            left = [entry.path for entry in entries if _may_be_left(entry)]
    except OSError:  # a folder that may be written and not listed
        return
    for path in left:
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
        except OSError:  # gone meanwhile, or not ours to open
            continue
        try:
            if is_free(descriptor):
                _remove(path)
        finally:
            os.close(descriptor)


def is_free(descriptor: int) -> bool:
    """Whether nobody else holds a folder or file; this process holds it then."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:  # held, or on a file system without locks
        return False
    return True


@functools.lru_cache(maxsize=1024)
def _sweep_once(parent: str) -> None:
    sweep(parent)


def _may_be_left(entry: os.DirEntry[str]) -> bool:
    if entry.is_dir(follow_symlinks=False):
        name = _FOLDER
    elif entry.is_file(follow_symlinks=False):
        name = _FILE
    else:
        return False
    if not name.fullmatch(entry.name):
        return False
    try:
        found = entry.stat(follow_symlinks=False)
    except OSError:  # gone meanwhile
        return False
    return time.time() - found.st_mtime > _YOUNG_S and found.st_uid == os.geteuid()


def _remove(path: str) -> None:
    if os.path.isdir(path):
        shutil.rmtree(path, ignore_errors=True)
        return
    try:
        os.unlink(path)
    except OSError:  # in a folder that may not be changed
        return
