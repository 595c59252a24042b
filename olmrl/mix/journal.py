"""An append-only record of what a verb has done, readable after kill -9 at any instant.

Local: one JSONL file; a torn last line is removed on opening. Remote, where nothing can append: one
small object per flush. A file lock lets only one process at a time hold a local journal; object
stores have no lock.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from olmrl import storage
from olmrl.mix import files
from olmrl.redaction import refuse_secrets

FLUSH_RECORDS = 256
"""Remote: records that a kill may lose (their items are then redone)."""

FLUSH_SECONDS = 10.0
"""Remote: most seconds before a record is flushed."""


class Journal:
    """Records of one verb in one folder, oldest first.

    Raises:
        ValueError: another process holds the journal, its settings differ from `settings`, or there
            is a secret in them.
    """

    def __init__(self, folder: str, settings: dict[str, Any]) -> None:
        refuse_secrets(settings, folder, "it would be written to the journal")
        self.folder = folder
        self.settings = settings
        self._log: _LocalLog | _RemoteLog = (
            _RemoteLog(folder) if storage.is_remote(folder) else _LocalLog(folder)
        )
        self.records = self._open()

    def _open(self) -> Iterator[dict[str, Any]]:
        records = self._log.read()
        header = next(records, None)
        if header is None:
            self._log.append({"settings": self.settings}, durable=True)
            return iter(())
        _compare(self.folder, header.get("settings", {}), self.settings)
        return records

    def append(self, record: dict[str, Any], *, durable: bool = False) -> None:
        """Add one record.

        Args:
            record: JSON value.
            durable: On disk (or uploaded) before this returns; for data that cost money.
        """
        self._log.append(record, durable=durable)

    def close(self) -> None:
        """Flush and release the lock."""
        self._log.close()


def _compare(folder: str, old: dict[str, Any], new: dict[str, Any]) -> None:
    plain = json.loads(json.dumps(new))
    for key in sorted(old.keys() | plain.keys()):
        if old.get(key) != plain.get(key):
            raise ValueError(
                f"{folder}: this run was started with {key}={old.get(key)!r}, but now it is "
                f"{plain.get(key)!r}; give the old value or another output folder"
            )


class _LocalLog:
    def __init__(self, folder: str) -> None:
        Path(folder).mkdir(parents=True, exist_ok=True)
        self.path = os.path.join(folder, "journal.jsonl")
        self.stream = storage.hold(self.path)

    def read(self) -> Iterator[dict[str, Any]]:
        files.cut_torn_line(self.path)
        with open(self.path, "rb") as stream:
            for number, line in enumerate(stream, start=1):
                yield _parse(self.path, number, line)

    def append(self, record: dict[str, Any], durable: bool) -> None:
        with storage.named(self.path):
            self.stream.write(_line(record))
            self.stream.flush()
            if durable:
                os.fsync(self.stream.fileno())

    def close(self) -> None:
        os.fsync(self.stream.fileno())
        self.stream.close()


class _RemoteLog:
    def __init__(self, folder: str) -> None:
        self.folder = storage.join(folder, "journal")
        self.lines: list[bytes] = []
        self.flushed = time.monotonic()
        fs, inner = storage.filesystem(self.folder)
        fs.invalidate_cache()
        with storage.named(self.folder):
            names = fs.ls(inner, detail=False) if fs.exists(inner) else []
        self.segments = sorted(os.path.basename(n) for n in names if n.endswith(".jsonl"))

    def read(self) -> Iterator[dict[str, Any]]:
        for name in self.segments:
            path = storage.join(self.folder, name)
            for number, line in enumerate(storage.read_bytes(path).splitlines(), start=1):
                yield _parse(path, number, line)

    def append(self, record: dict[str, Any], durable: bool) -> None:
        self.lines.append(_line(record))
        waited = time.monotonic() - self.flushed
        if durable or len(self.lines) >= FLUSH_RECORDS or waited > FLUSH_SECONDS:
            self._flush()

    def _flush(self) -> None:
        if self.lines:
            name = f"{len(self.segments):06d}.jsonl"
            files.write(storage.join(self.folder, name), b"".join(self.lines))
            self.segments.append(name)
            self.lines.clear()
        self.flushed = time.monotonic()

    def close(self) -> None:
        self._flush()


def _line(record: dict[str, Any]) -> bytes:
    return json.dumps(record, ensure_ascii=True).encode("ascii") + b"\n"


def _parse(path: str, number: int, line: bytes) -> dict[str, Any]:
    try:
        value = json.loads(line)
    except ValueError as error:
        raise ValueError(f"{path}, line {number}: the journal is damaged ({error})") from error
    if not isinstance(value, dict):
        raise ValueError(f"{path}, line {number}: the journal is damaged (not an object)")
    return value
