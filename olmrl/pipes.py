"""Files that may never end: pipes, sockets and devices where a file was meant."""

from __future__ import annotations

import errno
import os
import re
import stat

_OF_SHELLS = re.compile(r"/dev/(?:stdin|null|fd/.*)|/proc/[^/]+/fd/.*")
"""Pipes that a user means: `/dev/stdin`, and those of `<(...)`."""


def refuse_stream(path: str | os.PathLike[str]) -> None:
    """Refuse to read from a local path what may never end.

    Raises:
        OSError: it is a pipe, a socket or a device, or not there.
    """
    kind = os.stat(path).st_mode
    if stat.S_ISREG(kind) or stat.S_ISDIR(kind) or _OF_SHELLS.fullmatch(os.fspath(path)):
        return
    raise OSError(errno.EINVAL, "is a pipe, socket or device, not a file", os.fspath(path))


def read_text(path: str | os.PathLike[str]) -> str:
    """A local UTF-8 file; see `refuse_stream`."""
    refuse_stream(path)
    with open(path, encoding="utf-8") as stream:
        return stream.read()
