"""Local and remote paths (s3, gs, hf, ...) through fsspec, with atomic local writes.

The only place in olmrl that knows about storage back ends. Paths are strings; a remote one has a
scheme (`s3://bucket/key`). If a back end is missing, the error names the package to install.
"""

from __future__ import annotations

import codecs
import errno
import fcntl
import json
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from olmrl import pipes, scratch
from olmrl.errors import RemoteError, first_line, is_of_client
from olmrl.redaction import secret_in
from olmrl.suffixes import has_suffix

if TYPE_CHECKING:
    import fsspec

_EXTRA_OF_SCHEME = {"s3": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "hf": "huggingface_hub"}


def is_remote(path: str | os.PathLike[str]) -> bool:
    """Whether the path has a scheme other than `file`."""
    text = os.fspath(path)
    return "://" in text and not text.startswith("file://")


def shown(text: str) -> str:
    """Text as UTF-8 can hold it, with the odd bytes of a file's name spelt out."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def filesystem(path: str | os.PathLike[str]) -> tuple[fsspec.AbstractFileSystem, str]:
    """The file system of a path, and the path within it.

    Raises:
        ValueError: the scheme is unknown or its package is not installed; the path has a password
            or key in it.
    """
    # Deferred: 0.15 s of CPU, which a command that touches no page need not spend.
    from fsspec.core import url_to_fs  # noqa: PLC0415
    from fsspec.implementations.local import LocalFileSystem  # noqa: PLC0415

    text = os.fspath(path)
    if not is_remote(text):  # `::` in a name is no chain of file systems
        return LocalFileSystem(), str(LocalFileSystem._strip_protocol(text))
    if reason := secret_in(text):
        raise ValueError(
            f"{text.partition('://')[0]}://...: this path {reason}, and would stand in journals "
            "and reports; give credentials in the environment or in the storage's own files"
        )
    try:
        fs, inner = url_to_fs(text)
        return fs, str(inner)
    except (ImportError, ValueError) as error:
        scheme = text.split("://", 1)[0]
        package = _EXTRA_OF_SCHEME.get(scheme, "a package for fsspec")
        raise ValueError(
            f"{text}: cannot open {scheme}:// paths here; install {package}"
        ) from error


def to_write(path: str | os.PathLike[str]) -> tuple[fsspec.AbstractFileSystem, str]:
    """The file system of a path that is about to be written, and the path within it.

    Raises:
        ValueError: as for `filesystem`, or it lies on the Hub.
    """
    refuse_hub(path)
    return filesystem(path)


def refuse_hub(path: str | os.PathLike[str], called: str = "") -> None:
    """Refuse to write to the Hub, where others may read: only commands named `push` do that.

    Args:
        path: What would be written.
        called: What the error begins with.

    Raises:
        ValueError: the path lies on the Hub.
    """
    if os.fspath(path).startswith("hf://"):
        raise ValueError(
            f"{called}{path}: nothing is written to the Hub but by `olmrl checkpoint push` and "
            "`olmrl mix hub-push`; give a local folder"
        )


def check_target(folder: str | os.PathLike[str], called: str = "") -> None:
    """Refuse a folder to write in that cannot be made: a part of its path is a file.

    Args:
        folder: Which one.
        called: What the error begins with: the option or key that names it.

    Raises:
        ValueError: it, or what would hold it, is no folder or cannot be written; or it is remote,
            on the Hub.
    """
    refuse_hub(folder, called)
    if is_remote(folder):
        return
    place = Path(os.path.abspath(folder))
    there = next(path for path in (place, *place.parents) if os.path.lexists(path))
    said = f"{called}{folder}" if there == place else f"{called}{folder}: {there}"
    if not there.is_dir():
        kind = "a file, not a folder" if there.exists() else "a link to nothing"
        raise ValueError(f"{said} is {kind}; choose another name")
    if not os.access(there, os.W_OK | os.X_OK):
        raise ValueError(f"{said} cannot be written by this user; choose another folder")


_UNNAMED = frozenset((errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO))
"""Errors of writing, which the system raises without the name of the file."""


@contextmanager
def named(path: str | os.PathLike[str]) -> Iterator[None]:
    """Let an error that names no file name this one: of a write, or of remote storage.

    Raises:
        OSError: the same with the name; `RemoteError` in place of a client's own type.
    """
    try:
        yield
    except OSError as error:
        if error.filename is None and (error.errno in _UNNAMED or is_remote(path)):
            if not error.errno and not isinstance(error, RemoteError):
                raise type(error)(f"{path}: {first_line(error)}") from error
            error.filename = os.fspath(path)
        raise
    except Exception as error:
        if not (is_remote(path) and is_of_client(error)):
            raise
        raise RemoteError(f"{path}: cannot be used: {first_line(error)}") from error


def join(base: str | os.PathLike[str], *parts: str) -> str:
    """Join path parts, local or remote."""
    return (
        "/".join([os.fspath(base).rstrip("/"), *parts])
        if is_remote(base)
        else str(Path(base).joinpath(*parts))
    )


def exists(path: str | os.PathLike[str]) -> bool:
    """Whether a file or folder exists."""
    fs, inner = filesystem(path)
    with named(path):
        return bool(fs.exists(inner))


def read_bytes(path: str | os.PathLike[str]) -> bytes:
    """Read a whole file.

    Raises:
        OSError: it cannot be read, or is a pipe or the like, which may never end.
    """
    fs, inner = filesystem(path)
    refuse_stream(path)
    with named(path), fs.open(inner, "rb") as stream:
        return bytes(stream.read())


def refuse_stream(path: str | os.PathLike[str]) -> None:
    """As `pipes.refuse_stream`; nothing remote is one."""
    if not is_remote(path):
        pipes.refuse_stream(filesystem(path)[1])


def read_text(path: str | os.PathLike[str]) -> str:
    """Read a UTF-8 file.

    Raises:
        ValueError: the file is not UTF-8 (names the file and the byte).
    """
    data = read_bytes(path)
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not UTF-8 text (byte {error.start})") from error


_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
"""Byte order marks, longer ones before those that they begin with."""


def read_document(path: str | os.PathLike[str]) -> str:
    """Read a text that people wrote with whatever editor: markdown, HTML, a prompt.

    A byte order mark says how it is encoded, else it is UTF-8; lines end in `\\n` alone.

    Raises:
        ValueError: in another encoding (names the file and the byte, and a likely encoding).
    """
    data = read_bytes(path)
    encoding = next((name for mark, name in _MARKS if data.startswith(mark)), None)
    try:
        text = data.decode(encoding or "utf-8")
    except UnicodeDecodeError as error:
        name = encoding.upper() if encoding else "UTF-8"
        raise ValueError(
            f"{path}: not {name} text (byte {error.start} is 0x{data[error.start]:02X}"
            f"{_likely(data)}); save it as UTF-8"
        ) from error
    if encoding is None and "\0" in text[:1000]:
        raise ValueError(
            f"{path}: not UTF-8 text (it has zero bytes, as UTF-16 has); save it as UTF-8"
        )
    return text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")


_WIDE = {"cp949": "CP949", "shift_jis": "Shift JIS", "gb18030": "GB18030", "big5": "Big5"}
"""Encodings in which a character takes two bytes, and their names."""


def _likely(data: bytes) -> str:
    """What an encoding may be, for a message."""
    wide = re.search(rb"[\x80-\xff]{4}", data) is not None
    names = list(_WIDE) if wide else ["cp1252"]
    found = [_WIDE.get(name, "Windows-1252") for name in names if _decodes(data, name)]
    return f", perhaps {' or '.join(found)}" if found else ""


def _decodes(data: bytes, encoding: str) -> bool:
    try:
        data.decode(encoding)
    except UnicodeDecodeError:
        return False
    return True


_STREAMS = (Path("/dev"), Path("/dev/fd"), Path("/proc/self/fd"))


def _is_stream(target: Path) -> bool:
    """Whether it is a device or pipe (/dev/stdout, /dev/null), which a rename would replace."""
    there = target.exists() and not target.is_dir()
    return there and (target.parent in _STREAMS or not target.is_file())


@contextmanager
def atomic_open(path: str | os.PathLike[str], mode: str = "wb") -> Iterator[IO[Any]]:
    """Write a file atomically: it appears complete or not at all.

    Local: temporary file in the same folder, fsync, rename; a device or pipe is written as it
    comes. Remote: a local temporary file,
    uploaded if the block succeeds (object stores only publish complete objects).
    """
    fs, inner = to_write(path)
    text = {} if "b" in mode else {"encoding": "utf-8"}
    if is_remote(path):
        with scratch.Scratch("upload") as folder:
            staged = os.path.join(folder, "staged")
            with open(staged, mode, **text) as stream:  # type: ignore[call-overload]
                yield stream
            with named(path):
                fs.put_file(staged, inner)
        return
    target = Path(inner)
    if _is_stream(target):
        with named(path), open(target, mode, **text) as stream:  # type: ignore[call-overload]
            yield stream
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = scratch.file_beside(target)
    try:
        # Not mkstemp: its files are for their owner alone, and the umask that would tell what
        # others may do can only be read by changing it under the other threads.
        with (
            named(path),
            open(temporary, mode.replace("w", "x"), **text) as stream,  # type: ignore[call-overload]
        ):
            scratch.is_free(stream.fileno())
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, target)
    except BaseException as error:
        if isinstance(error, OSError) and error.filename == str(temporary):
            error.filename = os.fspath(path)
        temporary.unlink(missing_ok=True)
        raise


def hold(path: str | os.PathLike[str], place: str | os.PathLike[str] | None = None) -> IO[bytes]:
    """Open a local file for appending, and lock it for as long as it stays open.

    Args:
        path: The file.
        place: What an error names; None: the file.

    Raises:
        ValueError: another process holds it.
    """
    stream = open(path, "ab+")  # noqa: SIM115 - its closing is the caller's
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        stream.close()
        raise ValueError(f"{place or path}: another process is working in this folder") from error
    return stream


def write_bytes(path: str | os.PathLike[str], data: bytes) -> None:
    """Write a whole file atomically."""
    with atomic_open(path, "wb") as stream:
        stream.write(data)


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write a whole UTF-8 file atomically."""
    write_bytes(path, text.encode("utf-8"))


def write_html(path: str | os.PathLike[str], text: str) -> None:
    """Write HTML in UTF-8 atomically; what UTF-8 cannot hold (a lone surrogate) shows as U+FFFD."""
    write_bytes(path, text.encode("utf-8", "xmlcharrefreplace"))


def write_json(path: str | os.PathLike[str], value: Any) -> None:
    """Write a JSON file atomically, indented."""
    write_bytes(path, json_bytes(value, indent=2))


def json_bytes(value: Any, indent: int | None = None) -> bytes:
    """A value as UTF-8 JSON and a newline; text that UTF-8 cannot hold is written as escapes."""
    try:
        return (json.dumps(value, indent=indent, ensure_ascii=False) + "\n").encode("utf-8")
    except UnicodeEncodeError:  # a lone surrogate
        return (json.dumps(value, indent=indent) + "\n").encode("ascii")


def read_jsonl(path: str | os.PathLike[str]) -> Iterator[tuple[int, Any]]:
    """Yield (line number from 1, value) for the non-blank lines of a JSONL file.

    Raises:
        ValueError: a line is not JSON (names file and line).
    """
    for number, line in jsonl_lines(read_bytes(path)):
        yield number, json_value(line, f"{path}, line {number}")


def jsonl_lines(data: bytes) -> Iterator[tuple[int, bytes]]:
    """(Line number from 1, line) of the non-blank lines of JSONL data.

    Only `\\n` ends a line: JSON text may hold any other separator of Unicode.
    """
    for number, line in enumerate(data.removeprefix(codecs.BOM_UTF8).split(b"\n"), start=1):
        if line.strip():
            yield number, line


def json_value(line: bytes, where: str) -> Any:
    """The value of one line of JSON.

    Raises:
        ValueError: not UTF-8, not JSON, or nested too deeply; begins with `where`.
    """
    try:
        return json.loads(line.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise ValueError(f"{where}: not UTF-8 text (byte {error.start} of the line)") from error
    except (ValueError, RecursionError) as error:
        reason = getattr(error, "msg", None) or str(error)
        raise ValueError(f"{where}: not valid JSON ({reason})") from error


def write_jsonl(path: str | os.PathLike[str], rows: Iterable[Any]) -> None:
    """Write rows as JSON lines atomically."""
    with atomic_open(path, "wb") as stream:
        for row in rows:
            stream.write(json_bytes(row))


def append(path: str | os.PathLike[str], line: bytes) -> None:
    """Append a line to a local file: all of it, or nothing where the disk is full.

    Half a line would swallow the next one, which a later start appends.
    """
    with named(path), open(path, "ab", buffering=0) as stream:
        before = stream.seek(0, os.SEEK_END)
        rest = memoryview(line)
        try:
            while rest:
                rest = rest[stream.write(rest) :]
        except OSError:
            stream.truncate(before)
            raise


def _unlisted(error: OSError) -> None:
    """Of a folder; one that is gone meanwhile, or the file system's own, has nothing for us."""
    name = os.path.basename(str(error.filename).rstrip("/"))
    if not isinstance(error, FileNotFoundError) and name != "lost+found":
        raise error


def list_files(
    root: str | os.PathLike[str], suffix: str = "", follow_links: bool = True
) -> list[str]:
    """List files below a folder, sorted, as full paths; symlinked folders are followed.

    A link to a folder that contains it is not followed, as that would never end. The suffix may
    be written in large letters (`suffixes.has_suffix`).

    Raises:
        ValueError: the folder does not exist.
        OSError: a folder in it cannot be listed.
    """
    fs, inner = filesystem(root)
    with named(root):
        if not fs.isdir(inner):
            raise ValueError(f"{root}: no such folder")
        if is_remote(root):
            return sorted(fs.unstrip_protocol(p) for p in fs.find(inner) if has_suffix(p, suffix))
    found = []
    lines: dict[str, frozenset[str]] = {}  # real paths of a folder and of its parents
    for folder, folders, names in os.walk(inner, onerror=_unlisted, followlinks=follow_links):
        above = lines.get(os.path.dirname(folder), frozenset())
        real = os.path.realpath(folder)
        if real in above:
            folders.clear()
            continue
        lines[folder] = above | {real}
        found += [os.path.join(folder, name) for name in names if has_suffix(name, suffix)]
    return sorted(found)
