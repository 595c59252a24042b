"""A reviewer's verdicts on sampled pages: the file, and the error rate it implies."""

from __future__ import annotations

import math
import os
import threading
from typing import Any, NamedTuple

from olmrl import storage
from olmrl.mix import files

VERDICTS = ("good", "bad")
"""What a page can be marked as; `none` removes a mark."""


class Mark(NamedTuple):
    """One verdict."""

    verdict: str
    """`good`, `bad`, or `none`: a mark was taken back."""
    reason: str
    """Why it is bad; free text."""


def read_marks(path: str) -> dict[str, Mark]:
    """The latest mark of every page, without those that were taken back.

    Raises:
        ValueError: a row is not a mark.
    """
    return {name: mark for name, mark in last_marks(path).items() if mark.verdict != "none"}


def last_marks(path: str) -> dict[str, Mark]:
    """The latest mark of every id, oldest first; `none` took an earlier one back.

    Raises:
        ValueError: a row is not a mark.
    """
    marks: dict[str, Mark] = {}
    for number, row in storage.read_jsonl(path):
        try:
            name, mark = parse_mark(row)
        except ValueError as error:
            raise ValueError(f"{path}, line {number}: {error}") from error
        marks.pop(name, None)
        marks[name] = mark
    return marks


def parse_mark(row: Any) -> tuple[str, Mark]:
    """(page id, mark) of a JSON value.

    Raises:
        ValueError: it is not a mark.
    """
    if not isinstance(row, dict) or not isinstance(row.get("id"), str):
        raise ValueError("a mark needs a text id")
    if row.get("verdict") not in (*VERDICTS, "none"):
        raise ValueError(f"verdict is {row.get('verdict')!r}, must be good, bad or none")
    return row["id"], Mark(row["verdict"], str(row.get("reason") or "")[:500])


class MarkFile:
    """Marks on disk; each is written before the browser gets its response.

    Args:
        path: Local JSONL file, appended to.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.lock = threading.Lock()
        os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
        self.marks: dict[str, Mark] = {}
        if os.path.exists(path):
            files.cut_torn_line(path)
            self.marks = read_marks(path)

    def add(self, row: Any) -> None:
        """Store one mark.

        Raises:
            ValueError: it is not a mark.
        """
        page_id, mark = parse_mark(row)
        value = {"id": page_id, "verdict": mark.verdict, "reason": mark.reason}
        with self.lock:
            with open(self.path, "ab") as stream:
                stream.write(storage.json_bytes(value))
                stream.flush()
                os.fsync(stream.fileno())
            self.marks.pop(page_id, None)
            if mark.verdict != "none":
                self.marks[page_id] = mark


def error_rate(bad: int, total: int) -> tuple[float, float, float]:
    """Share of bad pages with its 95% Wilson score interval: (share, low, high)."""
    if total == 0:
        return 0.0, 0.0, 1.0
    z = 1.959964
    share = bad / total
    centre = share + z * z / (2 * total)
    spread = z * math.sqrt(share * (1 - share) / total + z * z / (4 * total * total))
    scale = 1 + z * z / total
    return share, max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale)
