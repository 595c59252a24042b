"""Structured logs: what happened in a run, one JSON object a line, with role, rank and version.

`logs/ROLE-RANK.jsonl` of the run directory; each process appends to its own file.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from olmrl import storage


class EventLog:
    """One process's log.

    Args:
        run_dir: directory of the run.
        role: driver, learner, engine ...
        rank: number within the role.
    """

    def __init__(self, run_dir: str | os.PathLike[str], role: str, rank: int = 0) -> None:
        self._path = Path(run_dir) / "logs" / f"{role}-{rank}.jsonl"
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._who = {"role": role, "rank": rank, "pid": os.getpid()}

    def write(self, event: str, version: Any = None, **details: Any) -> None:
        """Append an event.

        Args:
            event: what happened, in a few words.
            version: policy version it happened under, where one is known.
            details: JSON-able figures and names.
        """
        row = {"time": time.time(), **self._who, "event": event}
        if version is not None:
            row["version"] = str(version)
        storage.append(self._path, storage.json_bytes(row | details))
