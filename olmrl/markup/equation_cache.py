"""Rendered formulas, shared by all processes of a machine through one SQLite file.

The file is in the folder `$OLMRL_CACHE` (default ~/.cache/olmrl) and keeps the newest `MAX_ROWS`
results. If the cache cannot be used, rendering is slower but gives the same results.
"""

import logging
import os
import sqlite3
import threading
import zlib
from pathlib import Path

MAX_ROWS = 200_000
"""Maximum number of formulas kept, about 1 KB each."""
TRIM_EVERY = 1_000
"""Number of writes by one process between trims."""
BUSY_SECONDS = 2.0

_log = logging.getLogger(__name__)


class EquationCache:
    """Get and put by key. Safe to share between threads and across a fork."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "equations-1.sqlite"
        self._local = threading.local()
        self._writes = 0
        self._is_broken = False

    def get(self, key: bytes) -> str | None:
        """The value of a key, or None."""
        connection = self._connection()
        if connection is None:
            return None
        try:
            row = connection.execute("SELECT value FROM equations WHERE key = ?", (key,)).fetchone()
        except sqlite3.Error as error:
            self._give_up(error)
            return None
        return zlib.decompress(row[0]).decode() if row else None

    def put(self, key: bytes, value: str) -> None:
        """Stores a value; an existing value is not replaced."""
        connection = self._connection()
        if connection is None:
            return
        self._writes += 1
        try:
            connection.execute(
                "INSERT OR IGNORE INTO equations (key, value) VALUES (?, ?)",
                (key, zlib.compress(value.encode(), 1)),
            )
            if self._writes % TRIM_EVERY == 0:
                connection.execute(
                    "DELETE FROM equations WHERE id <= (SELECT max(id) FROM equations) - ?",
                    (MAX_ROWS,),
                )
        except sqlite3.Error as error:
            self._give_up(error)

    def _connection(self) -> sqlite3.Connection | None:
        if self._is_broken:
            return None
        if getattr(self._local, "pid", None) != os.getpid():
            try:
                self._local.connection = self._open()
            except (OSError, sqlite3.Error) as error:
                self._give_up(error)
                return None
            self._local.pid = os.getpid()
        connection: sqlite3.Connection = self._local.connection
        return connection

    def _open(self) -> sqlite3.Connection:
        self._file.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(self._file, timeout=BUSY_SECONDS, isolation_level=None)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute(
            "CREATE TABLE IF NOT EXISTS equations"
            " (id INTEGER PRIMARY KEY, key BLOB NOT NULL UNIQUE, value BLOB NOT NULL)"
        )
        return connection

    def _give_up(self, error: Exception) -> None:
        self._is_broken = True
        _log.warning("the equation cache %s is not used by this process: %s", self._file, error)


def default_folder() -> Path:
    """The cache's folder: `$OLMRL_CACHE`, else ~/.cache/olmrl."""
    return Path(os.environ.get("OLMRL_CACHE") or Path.home() / ".cache" / "olmrl")
