"""Local and remote paths (s3, gs, hf, ...) through fsspec, with atomic local writes.

The only place in olmrl that knows about storage back ends. Paths are strings; a remote one has a
scheme (`s3://bucket/key`). If a back end is missing, the error names the package to install.
"""

from __future__ import annotations

import json
import os
import secrets
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    import fsspec

_EXTRA_OF_SCHEME = {"s3": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "hf": "huggingface_hub"}


def is_remote(path: str | os.PathLike[str]) -> bool:
    """Whether the path has a scheme other than `file`."""
    text = os.fspath(path)
    return "://" in text and not text.startswith("file://")


def filesystem(path: str | os.PathLike[str]) -> tuple[fsspec.AbstractFileSystem, str]:
    """The file system of a path, and the path within it.

    Raises:
        ValueError: the scheme is unknown or its package is not installed.
    """
    # Deferred: 0.15 s of CPU, which a command that touches no page need not spend.
    from fsspec.core import url_to_fs  # noqa: PLC0415

    text = os.fspath(path)
    try:
        fs, inner = url_to_fs(text)
        return fs, str(inner)
    except (ImportError, ValueError) as error:
        scheme = text.split("://", 1)[0]
        package = _EXTRA_OF_SCHEME.get(scheme, "a package for fsspec")
        raise ValueError(
            f"{text}: cannot open {scheme}:// paths here; install {package}"
        ) from error


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
    return bool(fs.exists(inner))


def read_bytes(path: str | os.PathLike[str]) -> bytes:
    """Read a whole file."""
    fs, inner = filesystem(path)
    with fs.open(inner, "rb") as stream:
        return bytes(stream.read())


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


@contextmanager
def atomic_open(path: str | os.PathLike[str], mode: str = "wb") -> Iterator[IO[Any]]:
    """Write a file atomically: it appears complete or not at all.

    Local: temporary file in the same folder, fsync, rename. Remote: a local temporary file,
    uploaded if the block succeeds (object stores only publish complete objects).
    """
    fs, inner = filesystem(path)
    text = {} if "b" in mode else {"encoding": "utf-8"}
    if is_remote(path):
        with tempfile.TemporaryDirectory() as folder:
            staged = os.path.join(folder, "staged")
            with open(staged, mode, **text) as stream:  # type: ignore[call-overload]
                yield stream
            fs.put_file(staged, inner)
        return
    target = Path(inner)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
    try:
        # Not mkstemp: its files are for their owner alone, and the umask that would tell what
        # others may do can only be read by changing it under the other threads.
        with open(temporary, mode.replace("w", "x"), **text) as stream:  # type: ignore[call-overload]
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_bytes(path: str | os.PathLike[str], data: bytes) -> None:
    """Write a whole file atomically."""
    with atomic_open(path, "wb") as stream:
        stream.write(data)


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write a whole UTF-8 file atomically."""
    write_bytes(path, text.encode("utf-8"))


def write_json(path: str | os.PathLike[str], value: Any) -> None:
    """Write a JSON file atomically, indented."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def read_jsonl(path: str | os.PathLike[str]) -> Iterator[tuple[int, Any]]:
    """Yield (line number from 1, value) for the non-blank lines of a JSONL file.

    Raises:
        ValueError: a line is not JSON (names file and line).
    """
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        if not line.strip():
            continue
        try:
            yield number, json.loads(line)
        except json.JSONDecodeError as error:
            raise ValueError(f"{path}, line {number}: not valid JSON ({error.msg})") from error


def write_jsonl(path: str | os.PathLike[str], rows: Iterable[Any]) -> None:
    """Write rows as JSON lines atomically."""
    with atomic_open(path, "wb") as stream:
        for row in rows:
            stream.write((json.dumps(row, ensure_ascii=False) + "\n").encode("utf-8"))


def list_files(
    root: str | os.PathLike[str], suffix: str = "", follow_links: bool = True
) -> list[str]:
    """List files below a folder, sorted, as full paths; symlinked folders are followed.

    A link to a folder that contains it is not followed, as that would never end.

    Raises:
        ValueError: the folder does not exist.
    """
    fs, inner = filesystem(root)
    if not fs.isdir(inner):
        raise ValueError(f"{root}: no such folder")
    if is_remote(root):
        return sorted(fs.unstrip_protocol(p) for p in fs.find(inner) if p.endswith(suffix))
    found = []
    lines: dict[str, frozenset[str]] = {}  # real paths of a folder and of its parents
    for folder, folders, names in os.walk(inner, followlinks=follow_links):
        above = lines.get(os.path.dirname(folder), frozenset())
        real = os.path.realpath(folder)
        if real in above:
            folders.clear()
            continue
        lines[folder] = above | {real}
        found += [os.path.join(folder, name) for name in names if name.endswith(suffix)]
    return sorted(found)
