"""Who waited for whom: the first steps of a run as a Chrome trace (Perfetto, chrome://tracing).

One track per learner rank shows the parts of its steps; two more show the prompt groups that
engines and scorers worked on. Times come from each machine's own clock.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from olmrl import storage

Span = tuple[str, float, float]
"""Name, start and end in seconds since the epoch."""


class Timeline:
    """Collects spans and rewrites the file after every step.

    Args:
        path: the JSON file.
        steps: steps to show; 0: nothing is kept or written.
    """

    def __init__(self, path: Path, steps: int) -> None:
        self._path = path
        self._steps = steps
        self._events: list[dict[str, Any]] = []
        self._tracks: dict[str, int] = {}

    def wants(self, step: int) -> bool:
        """Whether a step is among those shown."""
        return step <= self._steps

    def add(self, track: str, span: Span, *, lane: int = 0) -> None:
        """Draw a span; spans of one track that overlap need lanes of their own."""
        name, start, end = span
        process = self._tracks.setdefault(track, len(self._tracks))
        self._events.append(
            {
                "name": name,
                "ph": "X",
                "pid": process,
                "tid": lane,
                "ts": start * 1e6,
                "dur": (end - start) * 1e6,
            }
        )

    def step(self, ranks: Iterable[tuple[int, tuple[Span, ...]]]) -> None:
        """Draw a finished step of the learner and write the file."""
        for rank, spans in ranks:
            for span in spans:
                self.add(f"learner rank {rank}", span)
        names = [
            {"name": "process_name", "ph": "M", "pid": number, "args": {"name": track}}
            for track, number in self._tracks.items()
        ]
        storage.write_text(self._path, json.dumps({"traceEvents": names + self._events}))


class GroupLanes:
    """Puts overlapping spans into as few lanes as they need."""

    def __init__(self) -> None:
        self._busy_until: list[float] = []

    def lane(self, start: float, end: float) -> int:
        """The first lane that is free from `start` on, occupied until `end`."""
        for number, until in enumerate(self._busy_until):
            if until <= start:
                self._busy_until[number] = end
                return number
        self._busy_until.append(end)
        return len(self._busy_until) - 1
