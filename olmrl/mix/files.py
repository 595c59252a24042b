"""Whole-file writes that survive kill -9, safe names, and copies, for local paths and URLs.

Differs from `storage.atomic_open` in two ways that restartable verbs need: the temporary name is
fixed, so that leftovers of a killed run are overwritten and do not pile up, and a remote write is a
single upload, safe with other threads running.
"""

from __future__ import annotations

import errno
import functools
import hashlib
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

from olmrl import storage
from olmrl.scratch import Scratch

FATAL = frozenset(
    (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EMFILE, errno.ENFILE)
)
"""OSError numbers that every other item would hit too: they stop the verb."""

MAX_NAME_BYTES = 200
"""Longest path component; file systems allow 255, and suffixes are added later."""

_UNSAFE = re.compile(r"[\x00-\x1f\x7f\\:*?\"<>|]")


class UnsafeName(ValueError):
    """A name that no output may have; the message says why."""


def part_path(path: str) -> str:
    """The temporary file for `path` while it is being written (same folder, hidden)."""
    folder, name = os.path.split(path)
    return os.path.join(folder, f".{name}.part")


def write(path: str, data: bytes, *, durable: bool = False) -> None:
    """Write a whole file; after kill -9 it is either complete or absent.

    Args:
        path: Local path or URL.
        data: Content.
        durable: Also survive a power cut (fsync); for data that cost money.
    """
    if storage.is_remote(path):
        fs, inner = storage.to_write(path)
        with storage.named(path):
            fs.pipe_file(inner, data)
        return
    with staged(path) as temporary, open(temporary, "wb") as stream:
        stream.write(data)
        if durable:
            stream.flush()
            os.fsync(stream.fileno())


def write_text(path: str, text: str, *, durable: bool = False) -> None:
    """Write a whole UTF-8 file (see `write`)."""
    write(path, text.encode("utf-8"), durable=durable)


def write_json(path: str, value: Any, *, durable: bool = False) -> None:
    """Write a JSON file to be read by people too (see `write`)."""
    write(path, storage.json_bytes(value, indent=2), durable=durable)


def write_lines(path: str, lines: Iterable[str]) -> None:
    """Write lines one by one into a file that appears once complete; memory stays flat."""
    with staged(path) as local, open(local, "wb") as stream:
        for line in lines:
            stream.write(line.encode("utf-8") + b"\n")


@contextmanager
def staged(path: str) -> Iterator[str]:
    """Give a local path to fill; on success it becomes `path` (rename, or one upload)."""
    if storage.is_remote(path):
        fs, inner = storage.to_write(path)
        with Scratch("mix") as folder:
            local = os.path.join(folder, "staged")
            yield local
            with storage.named(path):
                fs.put_file(local, inner)
        return
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    temporary = part_path(path)
    try:
        with storage.named(path):
            yield temporary
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


@contextmanager
def fetched(path: str) -> Iterator[str]:
    """Give a local path with the content of `path`; a download is removed afterwards."""
    if not storage.is_remote(path):
        storage.refuse_stream(path)
        yield path
        return
    with Scratch("mix") as folder:
        local = os.path.join(folder, os.path.basename(path) or "file")
        fs, inner = storage.filesystem(path)
        with storage.named(path):
            fs.get_file(inner, local)
        yield local


def copy(source: str, target: str) -> None:
    """Copy one file between any two places."""
    with fetched(source) as local:
        write(target, Path(local).read_bytes())


def check_apart(source: str, target: str) -> None:
    """Refuse a folder to write that lies in the one that is read, or around it.

    Raises:
        ValueError: it does.
    """
    places = [p if storage.is_remote(p) else os.path.realpath(p) for p in (source, target)]
    read, written = (place.rstrip("/") + "/" for place in places)
    if read == written:
        raise ValueError(f"{target}: is the folder that is read; name another one to write")
    if read.startswith(written) or written.startswith(read):
        raise ValueError(f"{target}: must lie beside {source}, not in it or around it")


def place(source: str, target: str) -> None:
    """Put a file at `target`, without copying its bytes where possible.

    Local to local: a relative symlink, so that the whole tree can be moved. Otherwise a copy.

    Raises:
        ValueError: both are the same file, which a link to itself would destroy.
    """
    if storage.is_remote(source) or storage.is_remote(target):
        copy(source, target)
        return
    os.makedirs(os.path.dirname(target) or ".", exist_ok=True)
    folder = _real_folder(os.path.dirname(os.path.abspath(target)))
    original = _real_path(source)
    if original == os.path.join(folder, os.path.basename(target)):
        raise ValueError(f"{target}: is the file that it would be made from; choose another output")
    link = os.path.relpath(original, folder)
    if os.path.islink(target) and os.readlink(target) == link:
        return
    temporary = part_path(target)
    if os.path.lexists(temporary):
        os.unlink(temporary)
    os.symlink(link, temporary)
    os.replace(temporary, target)


def _real_path(path: str) -> str:
    if os.path.islink(path):
        return os.path.realpath(path)
    folder, name = os.path.split(os.path.abspath(path))
    return os.path.join(_real_folder(folder), name)


@functools.lru_cache(maxsize=1024)
def _real_folder(path: str) -> str:
    """The folder with links resolved; cached, as pages share their folders."""
    return os.path.realpath(path)


def safe_relative(name: str) -> str:
    """Check that a name from a file or an API stays inside the folder it is joined to.

    Returns:
        The name, with `//` and `./` folded.

    Raises:
        UnsafeName: absolute, empty, too long, or with `..`, control or reserved characters.
    """
    if _UNSAFE.search(name) or "://" in name:
        raise UnsafeName(f"name {name[:120]!r} has characters that are not allowed in a file name")
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or not path.parts or name.startswith("~"):
        raise UnsafeName(f"name {name[:120]!r} would leave the output folder")
    _check_writable(name)
    return str(path)


def _check_writable(name: str) -> None:
    if any(len(p.encode("utf-8", "surrogatepass")) > MAX_NAME_BYTES for p in name.split("/")):
        raise UnsafeName(f"name {name[:120]!r} has a part longer than {MAX_NAME_BYTES} bytes")
    try:
        name.encode("utf-8")
    except UnicodeEncodeError as error:
        raise UnsafeName(f"name {name[:120]!r} is not valid Unicode") from error


def slug(name: str) -> str:
    """A file name for any text: a readable start, plus a hash if anything was changed.

    Example: `slug("a/b:c.jpg")` is `a_b_c.jpg-` and 8 hex digits; `slug("page-1")` is `page-1`.
    """
    plain = re.sub(r"[^A-Za-z0-9._-]+", "_", name).strip("._") or "item"
    if plain == name and len(plain) <= 150:
        return plain
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return f"{plain[:150]}-{digest}"


def join_inside(folder: str, name: str) -> str:
    """Join a checked relative name (`safe_relative`) to a folder."""
    return storage.join(folder, safe_relative(name))


def join_found(folder: str, name: str) -> str:
    """Join the relative name of a file found on disk, which may have any characters.

    Raises:
        UnsafeName: too long for suffixes, or not UTF-8.
    """
    _check_writable(name)
    return storage.join(folder, name)


def relative(path: str, root: str) -> str:
    """The path below `root`, with forward slashes.

    Raises:
        ValueError: the path is not below the root.
    """
    if storage.is_remote(root):
        base = root.rstrip("/") + "/"
        if not path.startswith(base):
            raise ValueError(f"{path} is not below {root}")
        return path[len(base) :]
    inside = os.path.relpath(path, root)
    if inside.startswith(".."):
        raise ValueError(f"{path} is not below {root}")
    return inside.replace(os.sep, "/")


def listing(root: str, suffix: str) -> list[str]:
    """Files below `root`, sorted, leaving out hidden folders (the verbs' own state)."""
    found = storage.list_files(root, suffix)
    return [path for path in found if "/." not in "/" + relative(path, root)]


def size_of(path: str) -> int:
    """Bytes of a file."""
    fs, inner = storage.filesystem(path)
    with storage.named(path):
        return int(fs.size(inner))


def cut_torn_line(path: str) -> None:
    """Remove what a killed process wrote after the last newline of a local file."""
    with open(path, "rb+") as stream:
        end = stream.seek(0, os.SEEK_END)
        while end > 0:
            start = max(0, end - (1 << 16))
            stream.seek(start)
            newline = stream.read(end - start).rfind(b"\n")
            if newline >= 0:
                stream.truncate(start + newline + 1)
                return
            end = start
        stream.truncate(0)


def sha256_of(path: str) -> str:
    """Hex digest of a file, read in blocks."""
    fs, inner = storage.filesystem(path)
    storage.refuse_stream(path)
    with storage.named(path), fs.open(inner, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
