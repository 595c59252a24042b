"""Errors that cross rooms or processes: picklable, each with its meaning for a run."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

_REMEDIES = {
    errno.ENOSPC: "free space, or choose another folder",
    errno.EDQUOT: "free space within your quota, or choose another folder",
    errno.EEXIST: "choose another name",
    errno.EROFS: "choose a folder that can be written",
    errno.EACCES: "change its permissions, or choose what this user may use",
    errno.EPERM: "change its permissions, or choose what this user may use",
    errno.ENOTDIR: "a part of the path is a file",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.ELOOP: "a link leads back to itself",
    errno.EFBIG: "raise the limit of file sizes (ulimit -f)",
    errno.EIO: "the disk or its connection is broken",
    errno.ESTALE: "the file server lost it; mount it anew",
    errno.ETXTBSY: "a program of that name is running",
    errno.EMFILE: "raise the limit of open files (ulimit -n)",
    errno.EAGAIN: "raise the limit of processes (ulimit -u), or end some",
    errno.ENOMEM: "free memory",
    errno.ENFILE: "this machine has too many open files",
    errno.EADDRINUSE: "another process uses the port",
    errno.ENOLCK: "the file system keeps no locks; choose a local folder",
}
"""What to do about what an environment refuses."""

_OF_RUST = re.compile(r"\(os error (\d+)\)")


def sentence(error: BaseException) -> str:
    """An error for people: an `OSError` names its file and what to do."""
    if not isinstance(error, OSError) or not error.strerror:
        return str(error) or type(error).__name__
    place = f"{error.filename}: " if error.filename else ""
    remedy = _REMEDIES.get(error.errno or 0)
    return f"{place}{error.strerror}" + (f"; {remedy}" if remedy else "")


def is_of_machine(error: OSError) -> bool:
    """Whether any other file would meet it too: no descriptors or memory are left."""
    return error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOMEM)


def system_error(error: Exception, path: str) -> OSError | None:
    """The operating system's error that a library of Rust tells of in its text."""
    found = _OF_RUST.search(str(error))
    if found is None:
        return None
    number = int(found[1])
    return OSError(number, os.strerror(number), path)


@contextmanager
def values_of(where: str) -> Iterator[None]:
    """For code that reads what others wrote: a value of another kind there is a `ValueError`.

    Args:
        where: file or folder, which the error begins with.
    """
    try:
        yield
    except (TypeError, AttributeError, LookupError, ArithmeticError, RecursionError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise ValueError(f"{where}: has a value that cannot be read ({reason})") from error


def said_together(problems: Sequence[str]) -> str:
    """One problem as it is, several as a list."""
    if len(problems) == 1:
        return problems[0]
    return f"{len(problems)} things are wrong:" + "".join(f"\n  - {text}" for text in problems)


def check_all(*checks: Callable[[], object]) -> None:
    """Make every check, and refuse once for all of them.

    Raises:
        ValueError: what each that failed said.
    """
    problems = []
    for check in checks:
        try:
            check()
        except (ValueError, OSError) as error:
            problems.append(sentence(error))
    if problems:
        raise ValueError(said_together(list(dict.fromkeys(problems))))


_CLIENTS = (
    *("aiobotocore", "aiohttp", "botocore", "gcsfs", "google", "httpcore", "httpx", "httpx2"),
    *("huggingface_hub", "requests", "s3fs", "urllib3"),
)
"""Packages that speak to remote storage, whose errors have types of their own."""


def is_of_client(error: BaseException) -> bool:
    """Whether a client of remote storage raised an error of its own type."""
    return type(error).__module__.partition(".")[0] in _CLIENTS


def first_line(error: BaseException) -> str:
    """The first line of an error's text that says something, or its type where none does."""
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip()


class RemoteError(OSError):
    """Remote storage cannot be used; the message begins with the path."""


class RunStopped(RuntimeError):
    """The run ended early for a reason that the user can act on."""


class Interrupted(KeyboardInterrupt):
    """A signal came while there was nothing to save; `code` is what a shell expects then."""

    def __init__(self, signal_name: str, code: int) -> None:
        super().__init__(signal_name, code)
        self.code = code

    def __str__(self) -> str:
        return f"{self.args[0]}: stopped before there was anything to save"


class PageRefused(ValueError):
    """A valid page that the model cannot take under any configuration."""


class GuardFailure(ValueError):
    """Training on would be blind: no restart may go past this."""


class WeightMismatch(GuardFailure):
    """Learner and engine have different weights after a sync."""


class EngineBroken(RuntimeError):
    """The engine's state is unknown (a step or an update failed), so it must be replaced."""


class LinkBroken(RuntimeError):
    """An engine left a collective that the learner cannot leave; only a new process can go on."""
